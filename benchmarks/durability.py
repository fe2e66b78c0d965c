"""What durability costs: job cycles a second with it and without it, side by side.

    python -m benchmarks.durability [--clients 1 16 64] [--seconds 3] [--rounds 5]

Two servers run at a time, each in a process of its own with simulated boards: one as
it is, one whose state store does nothing. Clients, each on its own connection, create
a job and destroy it, over and over: first jobs that only wait in the queue, which is
the least that a cycle can be, then jobs that wait until their boards are on. The
servers take turns, so that whatever else the
computer does is shared out fairly. With durability on, a reply is sent when what it
says is on the disk, so the folder should be on the disk that is to be measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from typing import Any
from unittest import mock

from spalloc_server.server import main as server_main
from spalloc_server.storage.store import StateStore

WIDTH, HEIGHT = 8, 8
READY = 3

CONFIG = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m",
            board_locations={
                (x, y, z): (0, x, 3 * y + z)
                for x in range(8) for y in range(8) for z in range(3)
            },
            base_ip="10.11.0.0",
        )
    ],
    ip="127.0.0.1",
    seconds_before_free=0,
)
"""


class _Forgetful(StateStore):
    """A store that keeps nothing between the first snapshot and the last."""

    def commit(self, records: Sequence[Sequence[Any]] = ()) -> None:
        """Promise everything."""

    def commit_events(self, controller: object) -> None:
        """Forget what has happened."""
        self._events.clear()


def serve(durable: bool, config: str) -> int:
    """Be one of the servers."""
    store = StateStore if durable else _Forgetful
    with mock.patch("spalloc_server.service.base_server.StateStore", store):
        return server_main([config, "--simulate", "--port", "0"])


class Server:
    """A server in a process of its own, until it is left."""

    def __init__(self, durable: bool, folder: str) -> None:
        os.makedirs(folder)
        config = os.path.join(folder, "spalloc.cfg")
        with open(config, "w", encoding="utf-8") as file:
            file.write(CONFIG)
        self.log = open(os.path.join(folder, "log"), "w+", encoding="utf-8")  # noqa: SIM115
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "benchmarks.durability"),
                *("--serve", "on" if durable else "off", config),
            ],
            stderr=self.log,
        )
        self.address = "127.0.0.1", self._port()

    def _port(self) -> int:
        while self.process.poll() is None:
            self.log.seek(0)
            for line in self.log:
                if "Listening on" in line:
                    return int(line.split()[-1])
            time.sleep(0.01)
        raise RuntimeError(f"the server ended: {self.log.name}")

    def cpu_seconds(self) -> float:
        """The processor time that it has used."""
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> None:
        """End it in good order."""
        self.process.terminate()
        self.process.wait(60)
        self.log.close()


@contextlib.contextmanager
def running(durable: bool, folder: str) -> Iterator[Server]:
    """Run a server within a block."""
    server = Server(durable, folder)
    try:
        yield server
    finally:
        server.stop()


def line(command: str, *args: object, **kwargs: object) -> bytes:
    """A command as it is sent."""
    message = {"command": command, "args": args, "kwargs": kwargs}
    return json.dumps(message).encode() + b"\n"


CREATE = line("create_job", 1, owner="benchmark")
FILL = line("create_job", WIDTH, HEIGHT, owner="benchmark", keepalive=None)


class Client:
    """A client that goes through one cycle after the other, a command at a time."""

    def __init__(self, address: tuple[str, int], with_boards: bool) -> None:
        self.socket = socket.create_connection(address)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.cycles = 0
        self.stopping = False
        self._input = b""
        self._script = self._cycles(with_boards)
        self._waits_for_change = False
        self.ended = not self._advance(None)

    def _cycles(self, with_boards: bool) -> Generator[bytes | None, Any, None]:
        """The commands to send; is sent their replies. None waits for a change."""
        reply: Any
        while not self.stopping:
            job_id = yield CREATE
            if with_boards:
                yield line("notify_job", job_id)
                while True:
                    reply = yield line("get_job_state", job_id)
                    if reply["state"] == READY:
                        break
                    yield None
                yield line("no_notify_job", job_id)
            yield line("destroy_job", job_id)
            self.cycles += 1

    def _advance(self, reply: Any) -> bool:
        try:
            command = self._script.send(reply)
        except StopIteration:
            return False
        self._waits_for_change = command is None
        if command is not None:
            self.socket.sendall(command)
        return True

    def go_on(self) -> None:
        """Read what has come and do the next step."""
        lines = (self._input + self.socket.recv(65536)).split(b"\n")
        self._input = lines.pop()
        for text in lines:
            message = json.loads(text)
            if "jobs_changed" not in message:
                self.ended = not self._advance(message["return"])
            elif self._waits_for_change:
                self._advance(None)


def cycles(
    address: tuple[str, int], number: int, seconds: float, with_boards: bool
) -> float:
    """Create and destroy jobs for some time; returns how many a second."""
    poll = select.epoll()
    clients: dict[int, Client] = {}
    end = (start := time.perf_counter()) + seconds
    for _ in range(number):
        client = Client(address, with_boards)
        clients[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    running = number
    while running:
        for fd, _ in poll.poll():
            client = clients[fd]
            client.stopping = time.perf_counter() >= end
            client.go_on()
            running -= client.ended
    elapsed = time.perf_counter() - start
    for client in clients.values():
        client.socket.close()
    return sum(client.cycles for client in clients.values()) / elapsed


def sync_seconds(folder: str, times: int = 100) -> float:
    """How long the disk takes for the least that can be stored: 4 KiB, synced."""
    name = os.path.join(folder, "sync")
    with open(name, "wb", buffering=0) as file:
        took = []
        for _ in range(times):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fdatasync(file.fileno())
            took.append(time.perf_counter() - began)
    os.unlink(name)
    return statistics.median(took)


def measure(
    clients: Sequence[int],
    seconds: float,
    rounds: int,
    with_boards: bool,
    folder: str,
) -> None:
    """Print the rates of both servers for each number of clients."""
    with (
        running(True, os.path.join(folder, "on")) as on,
        running(False, os.path.join(folder, "off")) as off,
    ):
        for server in (on, off):
            if not with_boards:
                with socket.create_connection(server.address) as client:
                    client.sendall(FILL)
                    client.recv(100)
            cycles(server.address, 16, seconds / 2, with_boards)
        print(
            "clients   on [1/s]  off [1/s]   on/off   server CPU on/off [us/cycle]"
            "   sync [us]"
        )
        for number in clients:
            rates: dict[Server, list[float]] = {on: [], off: []}
            used = {server: -server.cpu_seconds() for server in rates}
            syncs = []
            for turn in range(rounds):
                syncs.append(sync_seconds(folder))
                for server in (on, off) if turn % 2 else (off, on):
                    rate = cycles(server.address, number, seconds, with_boards)
                    rates[server].append(rate)
            for server in rates:
                used[server] += server.cpu_seconds()
            medians = {s: statistics.median(rate) for s, rate in rates.items()}
            costs = [used[s] / (sum(rates[s]) * seconds) * 1e6 for s in (on, off)]
            print(
                f"{number:7} {medians[on]:10.0f} {medians[off]:10.0f} "
                f"{medians[on] / medians[off]:8.0%}   {costs[0]:9.0f} {costs[1]:9.0f}"
                f"       {statistics.median(syncs) * 1e6:11.0f}",
                flush=True,
            )


def main() -> int:
    """Run the benchmark, or one of its servers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16, 64])
    parser.add_argument("--seconds", type=float, default=3.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=5, help="of each server")
    parser.add_argument("--folder", help="where to keep state (default: temporary)")
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        durable, config = options.serve
        return serve(durable == "on", config)
    for with_boards in (False, True):
        print("with boards" if with_boards else "in the queue")
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            measure(
                options.clients, options.seconds, options.rounds, with_boards, folder
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
