"""Machines whose BMPs are simulated in this process, and servers in others for them."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from spalloc_server.simulator import BMPSimulator, SimulatedFrame
from tests.bmp_helpers import loopback_host
from tests.support import Client, ServerProcess, wait_until

QUICK: dict[str, float] = {
    "settle": 0.0,
    "RETRY_SECONDS": 0.2,
    "FIRST_PAUSE": 0.2,
    "LONGEST_PAUSE": 0.5,
    "COMMAND_SECONDS": 0.1,
    "POWER_ON_SECONDS": 0.3,
}
"""Waits for tests that are not about waits: what is said of them holds for any."""

QUICK_SERVER = "tests.hardware_faults.quick_server"

QUEUED, POWER, READY, DESTROYED = 1, 2, 3, 4

_MACHINE = """Machine(
    {name!r},
    width={width},
    height={height},
    tags={tags!r},
    dead_boards={dead_boards!r},
    board_locations={{
        (x, y, z): (0, x, 3 * y + z)
        for x in range({width}) for y in range({height}) for z in range(3)
        if (x, y, z) not in {dead_boards!r}
    }},
    bmp_ips={{(0, x): bmp for x, bmp in enumerate({bmps!r})}},
    spinnaker_ips={{
        (x, y, z): f"10.{network}.{{x}}.{{3 * y + z}}"
        for x in range({width}) for y in range({height}) for z in range(3)
        if (x, y, z) not in {dead_boards!r}
    }},
)"""


class Room:
    """Machines with a frame for each column of triads, their BMPs, and their server.

    Board (x, y, z) is number 3 y + z of frame x. All BMPs are there, until a test
    breaks them.
    """

    def __init__(self, folder: Path, simulator: BMPSimulator) -> None:
        self.config = folder / "machines.cfg"
        self._simulator = simulator
        self._undo = contextlib.ExitStack()
        self._machines: dict[str, dict[str, Any]] = {}
        self._hosts: dict[str, list[str]] = {}
        self.settings: dict[str, Any] = {"seconds_before_free": 0}
        self.waits: dict[str, float] | None = dict(QUICK)
        """For the server; None for the plain command line."""
        self.options: tuple[str, ...] = ()
        self.server: ServerProcess | None = None

    def close(self) -> None:
        self._undo.close()

    def add(
        self, name: str = "m", width: int = 2, height: int = 1, served: bool = True
    ) -> list[SimulatedFrame]:
        """Describe a machine in the configuration; gives the frames.

        :param served: put BMPs at its addresses; else there is nothing
        """
        hosts = [loopback_host() for _ in range(width)]
        self._hosts[name] = hosts
        self._machines[name] = {
            "name": name,
            "width": width,
            "height": height,
            "tags": {"default"},
            "dead_boards": set(),
            "bmps": hosts,
            "network": len(self._hosts),
        }
        return [self.serve(name, x) for x in range(width)] if served else []

    def serve(self, name: str, frame: int) -> SimulatedFrame:
        """Put a BMP where a frame should have one."""
        return self._simulator.add_frame(self.host(name, frame), 0, frame)

    def host(self, name: str, frame: int) -> str:
        return self._hosts[name][frame]

    def change(self, name: str, **changes: Any) -> None:
        """Describe a machine differently from the next `write` on."""
        self._machines[name].update(changes)

    def remove(self, name: str) -> None:
        """Leave a machine out from the next `write` on."""
        del self._machines[name]

    def write(self) -> None:
        """Write the config file."""
        machines = ",\n".join(_MACHINE.format(**m) for m in self._machines.values())
        settings = "".join(f", {key}={value!r}" for key, value in self.settings.items())
        self.config.write_text(
            f"configuration = Configuration([{machines}]{settings})\n"
        )

    def start(self) -> Client:
        """Start a server, and connect to it."""
        self.write()
        arguments = [str(self.config), "--port", "0", *self.options]
        if self.waits is None:
            command = ["spalloc_server", *arguments]
        else:
            command = [QUICK_SERVER, json.dumps(self.waits), *arguments]
        self.server = ServerProcess(self.config, self.options, command)
        self._undo.callback(self.server.kill)
        self.server.wait_until_ready()
        return self.connect()

    def connect(self) -> Client:
        assert self.server is not None
        return self._undo.enter_context(Client(self.server.port))

    def restart(self, number: signal.Signals) -> Client:
        """End the server by a signal, and start another."""
        assert self.server is not None
        self.server.stop(number)
        return self.start()

    def reload(self) -> None:
        """Have the server read the config file again, and wait until it has."""
        assert self.server is not None
        self.write()
        times = self.server.log.count("Machines: ")
        self.server.process.send_signal(signal.SIGHUP)
        self.server.wait_for_log("Machines: ", times + 1)


@contextlib.contextmanager
def open_room(folder: Path) -> Iterator[Room]:
    """A room that is cleared in the end."""
    with BMPSimulator() as simulator:
        room = Room(folder, simulator)
        try:
            yield room
        finally:
            room.close()


def create(client: Client, *shape: int, **options: Any) -> int:
    """Create a job, with a keepalive that no test outlasts; its ID."""
    options = {"owner": "me", "keepalive": None, **options}
    job_id: int = client.call("create_job", *shape, **options)
    return job_id


def state(client: Client, job_id: int) -> int:
    found: int = client.call("get_job_state", job_id)["state"]
    return found


def wait_for_state(client: Client, wanted: int, *job_ids: int) -> None:
    for job_id in job_ids:
        wait_until(lambda job_id=job_id: state(client, job_id) == wanted)  # type: ignore[misc]


def boards_of(client: Client, job_id: int) -> list[list[int]]:
    boards: list[list[int]] = client.call("get_job_machine_info", job_id)["boards"]
    return boards


def dead_boards(client: Client, name: str = "m") -> list[list[int]]:
    (found,) = (m for m in client.call("list_machines") if m["name"] == name)
    dead: list[list[int]] = found["dead_boards"]
    return dead


def reason_of(client: Client, job_id: int) -> str:
    """Why a job ended, which is waited for."""
    wait_for_state(client, DESTROYED, job_id)
    reason: str = client.call("get_job_state", job_id)["reason"]
    return reason


def seconds_until_ready(client: Client, jobs: int) -> float:
    """Time single-board jobs that are created together, until the last is ready."""
    client.call("notify_job")
    started = time.monotonic()
    for _ in range(jobs):
        client.send_command("create_job", owner="me", keepalive=None)
    waiting = {client.reply()["return"] for _ in range(jobs)}
    asked = waiting
    while waiting:
        for job_id in asked:
            client.send_command("get_job_state", job_id)
        for job_id in asked:
            if client.reply()["return"]["state"] == READY:
                waiting.discard(job_id)
        if waiting:
            # Whatever has changed since those were asked.
            changes = client.notifications or [client.notification()]
            asked = waiting & {
                job for change in changes for job in change["jobs_changed"]
            }
            client.notifications.clear()
    return time.monotonic() - started


def longest_reply(client: Client, seconds: float) -> float:
    """Ask for the version all the time, for a while; the longest time it took."""
    longest, until = 0.0, time.monotonic() + seconds
    while (asked := time.monotonic()) < until:
        client.call("version")
        longest = max(longest, time.monotonic() - asked)
    return longest
