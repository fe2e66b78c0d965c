"""Measurements of commands over TCP, with few and with many clients."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Final

from benchmarks.environments import FOLDER, Release
from benchmarks.load import Callers, Load
from benchmarks.results import Row, row
from benchmarks.servers import Server, encode, site

GROUP: Final = "Commands"
SIDE: Final = 20
CLIENTS: Final = (1, 16, 200, 1000)
BATCH: Final = 20


def measure(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """Run all servers at once, and load one after the other."""
    seconds = 0.2 if short else 3.0
    with ExitStack() as stack:
        servers = {
            release.name: stack.enter_context(
                stack.enter_context(site(release, SIDE)).running()
            )
            for release in releases
        }
        jobs = {}
        for name, server in servers.items():
            with server.client() as client:
                jobs[name] = client.call("create_job", owner="me", keepalive=None)
        servers["echo"] = stack.enter_context(_echo_server())
        jobs["echo"] = 1
        for command in ("job_keepalive", "get_job_state"):
            packets = {name: encode(command, job_id) for name, job_id in jobs.items()}
            for clients in CLIENTS[:3] if short else CLIENTS:
                many = f"{clients:,} client{'s' * (clients > 1)}"
                yield from _loaded(servers, packets, command, clients, 1, many, seconds)
            what = f"{command}, {BATCH} in a packet"
            yield from _loaded(servers, packets, what, 16, BATCH, "16 clients", seconds)
    yield from _connecting_at_once(releases, short)
    yield from _create_behind_full_machine(releases, short)


def _loaded(
    servers: dict[str, Server],
    packets: dict[str, bytes],
    what: str,
    clients: int,
    batch: int,
    size: str,
    seconds: float,
) -> Iterator[Row]:
    """Load each server with clients that call again and again."""
    loads: dict[str, Load] = {}
    cpu: dict[str, float] = {}
    for name, server in servers.items():
        with Callers(server.port, [[packets[name]] * batch] * clients) as callers:
            before = server.cpu_seconds
            loads[name] = callers.run(seconds)
            used = server.cpu_seconds - before
        cpu[name] = 1e6 * used / loads[name].calls

    def each(figure: str) -> dict[str, float]:
        return {name: getattr(load, figure) for name, load in loads.items()}

    def percentile(percent: float) -> dict[str, float]:
        return {n: 1e3 * load.percentile(percent) for n, load in loads.items()}

    def ms(figures: dict[str, float]) -> dict[str, float]:
        return {name: 1e3 * value for name, value in figures.items()}

    yield row(
        GROUP, f"{what}: calls a second", size, "1/s", each("calls_a_second"), True
    )
    yield row(GROUP, f"{what}: processor time a call", size, "us", cpu)
    yield row(GROUP, f"{what}: median", size, "ms", percentile(50))
    yield row(GROUP, f"{what}: 99 %", size, "ms", percentile(99))
    yield row(GROUP, f"{what}: longest", size, "ms", ms(each("longest")))


@contextmanager
def _echo_server() -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, str(FOLDER / "benchmarks" / "echo.py")],
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        yield Server(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.communicate()


def _connecting_at_once(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """Many clients connect at the same time; until the last one has a reply."""
    clients = 5 if short else 200
    packets = [[encode("version")]] * clients
    figures = {}
    for release in releases:
        # A server for this alone: that of the reference can end of it.
        with (
            site(release, 4) as place,
            place.running() as server,
            Callers(server.port, packets, at_once=True) as callers,
        ):
            figures[release.name] = 1e3 * callers.longest_wait
    what = "connect at once: until the last reply (30 s at most)"
    yield row(GROUP, what, f"{clients} clients", "ms", figures)


def _create_behind_full_machine(
    releases: Sequence[Release], short: bool
) -> Iterator[Row]:
    """Ask for a whole machine that is in use."""
    side = 4 if short else SIDE
    figures: dict[str, dict[str, float]] = {"one": {}, "many": {}}
    for release in releases:
        count = 20 if short else (200 if release.is_reference else 2000)
        create = encode("create_job", side, side, owner="me", keepalive=None)
        with (
            site(release, side) as place,
            place.running() as server,
            server.client() as client,
        ):
            client.call_many([create])
            for how, at_once in (("one", 1), ("many", 20)):
                seconds = client.time_calls([create] * count, at_once)
                figures[how][release.name] = count / seconds
    what = f"create_job({side}, {side}) when full"
    size = f"{3 * side * side:,} boards"
    yield row(GROUP, f"{what}: one by one", size, "1/s", figures["one"], True)
    yield row(GROUP, f"{what}: 20 in a packet", size, "1/s", figures["many"], True)
