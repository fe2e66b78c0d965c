"""Measurements with many jobs and subscribers, of starts, memory and simulation."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

from benchmarks import many_jobs
from benchmarks.environments import Release
from benchmarks.many_jobs import Jobs
from benchmarks.results import Row, row
from benchmarks.servers import Server, site
from benchmarks.subscribers import Subscribers

GROUP: Final = "Scale"
STOP_SECONDS: Final = 30.0
"""How long a server may take to stop; else no warm start is measured."""

Figures = dict[str, dict[str, float]]


class Sizes(NamedTuple):
    """How much of everything."""

    side: int
    jobs: Jobs
    subscribers: int
    seconds: float


FULL: Final = Sizes(20, Jobs(1000, 10_000), 1000, 3.0)
SHORT: Final = Sizes(6, Jobs(20, 100), 20, 0.3)

ROWS: Final = (
    ("cold start until the first reply", "{boards} boards", "s", False),
    ("memory when idle", "{boards} boards", "MiB", False),
    ("memory for each queued job", "{jobs} jobs", "KiB", False),
    ("create_job behind others", "{jobs} jobs", "1/s", True),
    ("job_keepalive, 16 clients: share of an empty server", "{jobs} jobs", "%", True),
    ("list_jobs: time to the whole reply", "{jobs} jobs", "ms", False),
    ("list_jobs: longest wait of another client", "{jobs} jobs", "ms", False),
    ("list_jobs again: time to the whole reply", "{jobs} jobs", "ms", False),
    ("list_jobs again: longest wait of another client", "{jobs} jobs", "ms", False),
    ("cancel one of few queued jobs", "10 jobs", "us", False),
    ("cancel one of many queued jobs", "{jobs} jobs", "us", False),
    ("expire one of few queued jobs", "10 jobs", "us", False),
    ("expire one of many queued jobs", "{jobs} jobs", "us", False),
    ("end one of few running jobs", "10 jobs", "us", False),
    ("end one of many running jobs", "{jobs} jobs", "us", False),
    ("warm start until the first reply", "{jobs} jobs", "s", False),
    ("notify all of 100 changes a second: 99 %", "{many} subscribers", "ms", False),
    ("notify all: longest wait of another client", "{many} subscribers", "ms", False),
    ("notify all: processor share", "{many} subscribers", "%", False),
    (
        "20 jobs a second with --simulate: processor share",
        "{boards} boards",
        "%",
        False,
    ),
)


def measure(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """Measure one release after the other."""
    sizes = SHORT if short else FULL
    figures: Figures = {}
    for release in releases:
        for what, value in _measure_release(release, sizes):
            figures.setdefault(what, {})[release.name] = value
    texts = {
        "boards": f"{3 * sizes.side**2:,}",
        "jobs": f"{sum(sizes.jobs):,}",
        "many": f"{sizes.subscribers:,}",
    }
    for what, size, unit, more_is_better in ROWS:
        of_all = figures[what]
        yield row(GROUP, what, size.format(**texts), unit, of_all, more_is_better)


def _measure_release(release: Release, sizes: Sizes) -> Iterator[tuple[str, float]]:
    if sizes == FULL:
        with site(release, SHORT.side) as place, place.running():
            pass  # what is not compiled yet is then
    # Nobody is given the boards of those who have ended while others are measured.
    with site(release, sizes.side, seconds_before_free=3600.0) as place:
        start = time.perf_counter()
        with place.running() as server:
            yield "cold start until the first reply", time.perf_counter() - start
            yield "memory when idle", server.rss_bytes / 2**20
            yield from many_jobs.measure(
                release, server, sizes.side, sizes.jobs, sizes.seconds
            )
            # The reference first works off all that is to be powered, for minutes.
            stopped = server.stop(STOP_SECONDS)
        if stopped:
            start = time.perf_counter()
            with place.running():
                yield "warm start until the first reply", time.perf_counter() - start
    with site(release, sizes.side) as place, place.running() as server:
        yield from _with_subscribers(server, sizes)
    if not release.is_reference:
        with (
            site(release, sizes.side, 1.0, with_bmps=False) as place,
            place.running("--simulate") as server,
        ):
            share = _simulated_jobs(server, sizes)
            yield "20 jobs a second with --simulate: processor share", share


def _paced(seconds: float, times_a_second: float, do: Callable[[int], None]) -> None:
    """Do something at regular times, as far as it can be kept up."""
    start = time.perf_counter()
    for i in range(int(seconds * times_a_second)):
        time.sleep(max(0.0, start + i / times_a_second - time.perf_counter()))
        do(i)


def _with_subscribers(server: Server, sizes: Sizes) -> Iterator[tuple[str, float]]:
    """100 changes a second, each of which everybody is told of."""
    with ExitStack() as stack:
        client = stack.enter_context(server.client())
        other = stack.enter_context(server.client())
        # The first one is in the way of the others; they only come and go.
        side = sizes.side
        client.call("create_job", side, side, owner="me", keepalive=None)
        client.wait_for_power()
        subscribers = stack.enter_context(Subscribers(server.port, sizes.subscribers))
        waits: list[float] = []
        jobs: list[int] = []

        def change(i: int) -> None:
            sent = time.perf_counter()
            if jobs:
                client.call("destroy_job", jobs.pop())
            else:
                jobs.append(client.call("create_job", side, side, owner="me"))
            subscribers.expect(sent)
            asked = time.perf_counter()
            other.call("version")
            waits.append(time.perf_counter() - asked)

        before = server.cpu_seconds
        start = time.perf_counter()
        _paced(2 * sizes.seconds, 100, change)
        delays = subscribers.finish()
        took = time.perf_counter() - start
        share = 100 * (server.cpu_seconds - before) / took
        yield "notify all of 100 changes a second: 99 %", 1e3 * delays
        yield "notify all: longest wait of another client", 1e3 * max(waits)
        yield "notify all: processor share", share


def _simulated_jobs(server: Server, sizes: Sizes) -> float:
    """Jobs that come and go; percent of a core that the server uses."""
    with server.client() as client:
        jobs: list[int] = []

        def come_and_go(i: int) -> None:
            jobs.append(client.call("create_job", 1 + i % 12, owner="me"))
            if len(jobs) > 20:
                client.call("destroy_job", jobs.pop(0))

        _paced(sizes.seconds / 3, 20, come_and_go)
        before = server.cpu_seconds
        start = time.perf_counter()
        _paced(3 * sizes.seconds, 20, come_and_go)
        return 100 * (server.cpu_seconds - before) / (time.perf_counter() - start)
