"""Many jobs, one after the other, and what is left of them: nothing.

    python -m benchmarks.soak [--cycles 100000] [--clients 16]

A server with simulated boards, in a process of its own, gives jobs their boards and
takes them back. Its memory, threads and file descriptors are looked at in between,
when all jobs have ended. It fails where memory grows by 5 % or more over the second
half, or where there are more threads or descriptors at the end than at the beginning.
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import sys
import tempfile
import time
from typing import NamedTuple

from benchmarks.durability import Client, Server, line, running

MAX_GROWTH = 0.05

WARM_UP = 1000
"""Cycles before the first look: only then is as much remembered as ever will be."""

STEPS = 10


class Look(NamedTuple):
    """What the process of the server has."""

    kilobytes: int
    threads: int
    descriptors: int

    @classmethod
    def at(cls, pid: int) -> Look:
        """Look at a process."""
        with open(f"/proc/{pid}/status", encoding="utf-8") as file:
            status = dict(text.split(":", 1) for text in file)
        return cls(
            int(status["VmRSS"].split()[0]),
            int(status["Threads"]),
            len(os.listdir(f"/proc/{pid}/fd")),
        )


def cycle(address: tuple[str, int], number: int, clients: int) -> None:
    """Have jobs created, powered on, destroyed and powered off, so often."""
    poll = select.epoll()
    by_fd: dict[int, Client] = {}
    for _ in range(clients):
        client = Client(address, with_boards=True)
        by_fd[client.socket.fileno()] = client
        poll.register(client.socket, select.EPOLLIN)
    running_clients = clients
    while running_clients:
        done = sum(client.cycles for client in by_fd.values())
        for fd, _ in poll.poll():
            client = by_fd[fd]
            client.stopping = done + running_clients >= number
            client.go_on()
            running_clients -= client.ended
    for client in by_fd.values():
        client.socket.close()
    poll.close()


def wait_until_idle(server: Server) -> None:
    """Wait until a job can have all boards, so that all others are really gone."""
    with socket.create_connection(server.address) as client, client.makefile() as file:

        def call(command: bytes) -> object:
            client.sendall(command)
            return json.loads(file.readline())["return"]

        job_id = call(line("create_job", 8, 8, owner="soak", keepalive=None))
        while True:
            state = call(line("get_job_state", job_id))
            assert isinstance(state, dict)
            if state["state"] == 3:
                break
            time.sleep(0.01)
        call(line("destroy_job", job_id))
        # And that one as well.
        job_id = call(line("create_job", 8, 8, owner="soak", keepalive=None))
        call(line("destroy_job", job_id))


def soak(cycles: int, clients: int, folder: str) -> bool:
    """Run and print; returns whether all is well."""
    with running(True, folder) as server:
        began = time.monotonic()
        cycle(server.address, WARM_UP, clients)
        wait_until_idle(server)
        looks = [Look.at(server.process.pid)]
        print("  cycles   seconds     kB  threads  descriptors")
        for step in range(STEPS + 1):
            if step:
                cycle(server.address, cycles // STEPS, clients)
                wait_until_idle(server)
                looks.append(Look.at(server.process.pid))
            done = WARM_UP + step * (cycles // STEPS)
            print(
                f"{done:8}  {time.monotonic() - began:8.0f} {looks[-1].kilobytes:6} "
                f"{looks[-1].threads:8} {looks[-1].descriptors:12}",
                flush=True,
            )
    middle, last = looks[STEPS // 2], looks[-1]
    growth = last.kilobytes / middle.kilobytes - 1
    print(f"growth over the second half: {growth:.2%}")
    return (
        growth < MAX_GROWTH
        and last.threads <= looks[0].threads
        and last.descriptors <= looks[0].descriptors
    )


def main() -> int:
    """Run the soak on the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cycles", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        good = soak(options.cycles, options.clients, os.path.join(folder, "soak"))
    print("all is well" if good else "something is left over")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
