"""Large machines with much going on, for tests of the page and for its pictures."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.command_line import run as cli
from spalloc_server.history.database import EventDatabase
from spalloc_server.history.load import HOUR, LoadHistory
from spalloc_server.model.load import Load, MachineLoad
from spalloc_server.server import SpallocServer
from spalloc_server.simulator import BMPSimulator
from spalloc_server.storage import names
from tests.history.test_job_log import event
from tests.support import Client, free_port, wait_until

MILLION_CORES = """
def place(x, y, z):
    # Frames of 4 x 2 triads, five to a cabinet.
    frame = (x // 4) * 10 + y // 2
    return frame // 5, frame % 5, (x % 4) * 6 + (y % 2) * 3 + z

configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "million-core-machine",
            board_locations={
                (x, y, z): place(x, y, z)
                for x in range(20) for y in range(20) for z in range(3)
            },
            base_ip="10.2.0.0",
            dead_boards={(3, 7, 1), (3, 7, 2), (11, 2, 0), (17, 12, 1), (8, 18, 2)},
        )
    ],
    seconds_before_free=SECONDS_BEFORE_FREE,
)
"""


def million_cores(seconds_before_free: float) -> str:
    """A config file with a machine of 1,200 boards, of which five are dead."""
    return MILLION_CORES.replace("SECONDS_BEFORE_FREE", str(seconds_before_free))


SITE = """
def place(x, y, z):
    frame = (x // 4) * 10 + y // 2
    return frame // 5, frame % 5, (x % 4) * 6 + (y % 2) * 3 + z

def triad(name, ip):
    boards = {(0, 0, z): (0, 0, z) for z in range(3)}
    return Machine.with_standard_ips(
        name, tags={"side", name}, board_locations=boards, base_ip=ip
    )

configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "million-core-machine",
            board_locations={
                (x, y, z): place(x, y, z)
                for x in range(20) for y in range(20) for z in range(3)
            },
            base_ip="10.2.0.0",
            dead_boards={(3, 7, 1), (3, 7, 2), (11, 2, 0), (17, 12, 1), (8, 18, 2)},
            dead_links={(5, 5, 0, Links.north), (10, 10, 0, Links.south)},
        ),
        Machine.with_standard_ips(
            "pair",
            tags={"pair"},
            board_locations={
                (x, y, z): (0, x // 2, 6 * (x % 2) + 3 * y + z)
                for x in range(4) for y in range(2) for z in range(3)
            },
            base_ip="10.12.0.0",
        ),
        triad("left", "10.11.12.0"),
        triad("right", "10.11.13.0"),
        *(
            Machine.single_board(
                f"single-{i:02}",
                tags={"single"},
                bmp_ip=f"10.200.{i}.0",
                spinnaker_ip=f"10.200.{i}.1",
            )
            for i in range(1, 21)
        ),
    ],
    seconds_before_free=0,
    longest_overtaking=0,
)
"""
"""A config file with that machine, some small ones, and twenty of a single board."""

HISTORY_HOURS = 150
"""So long such a server was there before, see `write_history`."""

Faulty = Mapping[int, Sequence[int]]

SCRIPT_OWNER = "<script>document.title='owned'</script><img src=x onerror=alert(1)>"

OWNERS = (
    *("ada@example.org", "barbara@example.org", "edsger@uni.example.net"),
    *("grace@example.org", "alan@uni.example.net", "donald@example.org"),
)


class Scene(NamedTuple):
    """A server in this process."""

    server: SpallocServer
    client: Client
    url: str

    def bmp_controller(self, hostname: str) -> AsyncBMPController:
        """Of one frame. It takes nothing up while it is used as a context."""
        everyone = self.server.controller._parts.frames.all()
        [found] = (frame for frame in everyone if frame.hostname == hostname)
        return found


class _Server(SpallocServer):
    def __init__(self, config: Path, http_port: int) -> None:
        options = cli.parse_arguments([str(config), "--http", str(http_port)])
        self.observer = cli.make_observer(options)
        super().__init__(str(config), port=0)


@contextlib.contextmanager
def scene(
    folder: Path, config: str, frames: int, slow: dict[int, float], faulty: Faulty
) -> Iterator[Scene]:
    """Serve a machine in this process, whose frames are at 10.2.0.0, 10.2.1.0...

    :param slow: after how many seconds boards have settled, by frame
    :param faulty: boards that come up wrong, by frame
    """
    config_file = folder / "spalloc.cfg"
    config_file.write_text(config)
    http_port = free_port()
    with contextlib.ExitStack() as undo:
        # Boards that come up wrong are tried again at once.
        retries = mock.patch.object(AsyncBMPController, "RETRY_SECONDS", 0.1)
        undo.enter_context(retries)
        simulator = undo.enter_context(BMPSimulator())
        for number in range(frames):
            frame = simulator.add_frame(
                f"10.2.{number}.0", settle_seconds=slow.get(number, 0.0)
            )
            for board in faulty.get(number, ()):
                frame.faults.load_wrong_fpga(board)
        server = _Server(config_file, http_port)
        undo.callback(server.stop_and_join)
        client = undo.enter_context(Client(server.address[1]))
        yield Scene(server, client, f"http://127.0.0.1:{http_port}")


@contextlib.contextmanager
def busy_scene(folder: Path) -> Iterator[Scene]:
    """A machine of 1,200 boards, with boards in every state there is, and a queue."""
    slow = dict.fromkeys((7, 23, 38), 30.0)
    faulty = {5: [10], 16: [3, 4], 34: [20]}
    with scene(folder, million_cores(600), 50, slow, faulty) as busy:
        _fill(busy.client)
        yield busy


def _fill(client: Client) -> None:
    """Create jobs, and end some of them."""
    chance = random.Random(5)
    sizes: list[tuple[int, ...]] = [
        *((), (3,), (1, 1), (6,), (2, 2), (12,), (3, 2), (30,), (8, 2), (5, 4)),
    ]
    jobs = []
    for i in range(140):
        owner = SCRIPT_OWNER if i == 8 else chance.choice(OWNERS)
        keepalive = chance.choice([None, 600.0, 3600.0])
        size = chance.choice(sizes)
        jobs.append(client.call("create_job", *size, owner=owner, keepalive=keepalive))
    wait_until(lambda: len(states(client, 3)) > len(jobs) / 3)
    wait_until(lambda: len(client.call("list_problems")) >= 3)
    for job in chance.sample(states(client, 3), 14):
        client.call("destroy_job", job, chance.choice(["Finished.", "Interrupted."]))
    for job in chance.sample(states(client, 3), 6):
        client.call("power_off_job_boards", job)


def states(client: Client, state: int) -> list[int]:
    """The jobs that are in a state."""
    jobs = client.call("list_jobs")
    return [job["job_id"] for job in jobs if job["state"] == state]


def write_history(stem: str) -> None:
    """Leave what a server does that was there for days, but not all the time.

    :param stem: the name of its config file
    """
    now = [time.time() - HISTORY_HOURS * HOUR]
    events = EventDatabase(names.history_file(stem))
    events.open()
    load = LoadHistory(events.file, lambda: now[0])
    chance = random.Random(3)
    for hour in range(HISTORY_HOURS):
        for boards in (1, 3, 12, 100):
            waited = boards * chance.uniform(5, 60)
            times = {"time": now[0], "start_time": now[0] - waited, "args": (boards,)}
            load.take([event(job_id=hour, **times)])
        # A server takes one a minute; as many as are drawn will do.
        samples = 12 if hour >= HISTORY_HOURS - 25 else 2
        for _ in range(samples):
            if not 60 <= hour < 70:
                busy = 500 + 40 * (hour % 12) + chance.randrange(60)
                machines = {
                    "million-core-machine": MachineLoad(1195, busy, 3 + hour % 5),
                    "pair": MachineLoad(24, hour % 24, 0),
                    "others": MachineLoad(26, 0, 0),
                }
                load.add(Load(machines, hour % 9, 12 * (hour % 9)))
            now[0] += HOUR / samples
    load.close()
