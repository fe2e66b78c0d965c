"""Does a page that is open slow a job down? ``python -m benchmarks.web_pages [PAGES]``.

Clients keep jobs alive, and create and end them, while first nobody and then a
thousand pages look at the machine of 1,200 boards. The pages are connections to
``/events`` in a process of their own, which reads all that it is sent.
"""

import argparse
import csv
import json
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from benchmarks.environments import FOLDER, Release
from benchmarks.servers import HOST, Server, encode, site

SIDE: Final = 20
JOBS: Final = 300
"""How many jobs there are all the time."""

ROUNDS: Final = 3

PAUSE: Final = 0.002
"""Seconds between one call and the next, as no client is ever busy all the time."""


class Load(NamedTuple):
    """What was measured with so many pages, times in ms."""

    pages: int
    keepalive_median: float
    keepalive_99: float
    keepalive_longest: float
    create_median: float
    create_99: float
    create_longest: float
    server_cpu_percent: float
    events_per_page: float
    megabytes: float


def measure(pages: int, seconds: float) -> Load:
    """Measure with so many open pages."""
    ours = Release("ours", sys.executable, is_reference=False)
    with socket.create_server((HOST, 0)) as free:
        http_port = free.getsockname()[1]
    options = ("--simulate", "--cold-start", "--http", str(http_port))
    with (
        site(ours, SIDE, seconds_before_free=0.0, with_bmps=False) as place,
        place.running(*options) as server,
        server.client() as client,
    ):
        job = 0
        for i in range(JOBS):
            kwargs = {"owner": f"user{i}@example.org", "keepalive": None}
            job = client.call("create_job", (1, 3, 3, 4)[i % 4], **kwargs)
        with _watching(http_port, pages) as watchers:
            cpu, began = server.cpu_seconds, time.monotonic()
            keepalives, creates = _call(server, job, seconds)
            took = time.monotonic() - began
            cpu = server.cpu_seconds - cpu
            report = _report(watchers)
    return Load(
        pages,
        *_quantiles(keepalives),
        *_quantiles(creates),
        100 * cpu / took,
        report["events"] / max(pages, 1),
        report["bytes"] / 1e6,
    )


def _call(server: Server, job: int, seconds: float) -> tuple[list[float], list[float]]:
    """Call commands for a while; how long each keepalive and create_job took."""
    keepalives, creates = [], []
    with server.client() as client:
        keepalive = encode("job_keepalive", job)
        create = encode("create_job", 3, owner="me", keepalive=60.0)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            for _ in range(9):
                began = time.perf_counter()
                client.call_many([keepalive])
                keepalives.append(time.perf_counter() - began)
                time.sleep(PAUSE)
            began = time.perf_counter()
            [created] = client.call_many([create])
            creates.append(time.perf_counter() - began)
            time.sleep(PAUSE)
            client.call("destroy_job", created)
    return keepalives, creates


def _quantiles(times: list[float]) -> tuple[float, float, float]:
    times = sorted(1000 * t for t in times)
    return times[len(times) // 2], times[int(0.99 * len(times))], times[-1]


@contextmanager
def _watching(port: int, pages: int) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "benchmarks.web_pages",
            "--watch",
            str(port),
            str(pages),
        ],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the pages could not be opened")
        yield process
    finally:
        process.kill()
        process.wait()


def _report(watchers: "subprocess.Popen[str]") -> dict[str, Any]:
    assert watchers.stdin is not None
    assert watchers.stdout is not None
    watchers.stdin.write("report\n")
    watchers.stdin.flush()
    report = json.loads(watchers.stdout.readline())
    assert isinstance(report, dict)
    return report


def watch(port: int, pages: int) -> None:
    """Open pages, and read what they are sent until standard input says otherwise."""
    sockets: dict[int, socket.socket] = {}
    poll = select.epoll()
    for _ in range(pages):
        page = socket.create_connection((HOST, port), timeout=60)
        page.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        sockets[page.fileno()] = page
    for page in sockets.values():
        received = b""
        while b"\n\n" not in received:
            received = received[-1:] + page.recv(1 << 20)
        page.setblocking(False)
        poll.register(page, select.EPOLLIN)
    os.nice(5)  # It is not the server's work.
    poll.register(sys.stdin, select.EPOLLIN)
    print("ready", flush=True)
    report = {"events": 0, "bytes": 0}
    while True:
        for fd, _ in poll.poll():
            if fd == sys.stdin.fileno():
                print(json.dumps(report), flush=True)
                return
            data = sockets[fd].recv(1 << 20)
            if not data:
                raise RuntimeError("the server has closed a page")
            report["events"] += data.count(b"event: change")
            report["bytes"] += len(data)


def main() -> None:
    """Measure without and with pages, and print both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pages", nargs="?", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--output", type=Path, help="also write a CSV file")
    parser.add_argument("--watch", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.watch:
        watch(*arguments.watch)
        return
    both = (0, arguments.pages)
    # In turn, since other programs may be busy for a while: the best counts.
    rounds = [[measure(n, arguments.seconds) for n in both] for _ in range(ROUNDS)]
    loads = [
        Load(*map(min, zip(*same, strict=True))) for same in zip(*rounds, strict=True)
    ]
    for name in Load._fields:
        print(f"{name:22}", *(f"{getattr(load, name):10.2f}" for load in loads))
    if arguments.output is not None:
        with arguments.output.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(Load._fields)
            writer.writerows([round(value, 3) for value in load] for load in loads)


if __name__ == "__main__":
    main()
