"""Measurements of commands over TCP, with few and with many clients."""

import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
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
ROUNDS: Final = 5


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
    yield from _beside_silent_clients(releases, short)
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
    """Load each server with clients that call again and again, in turns.

    Of several rounds the best counts, since whatever else the computer does makes
    figures worse; but for the longest wait all of them count.
    """
    loads: dict[str, list[Load]] = {name: [] for name in servers}
    cpu: dict[str, float] = dict.fromkeys(servers, math.inf)
    with ExitStack() as stack:
        callers = {
            name: stack.enter_context(
                Callers(server.port, [[packets[name]] * batch] * clients)
            )
            for name, server in servers.items()
        }
        for _ in range(ROUNDS):
            for name, server in servers.items():
                before = server.cpu_seconds
                load = callers[name].run(seconds / ROUNDS)
                used = server.cpu_seconds - before
                loads[name].append(load)
                cpu[name] = min(cpu[name], 1e6 * used / load.calls)

    def least(figure: Callable[[Load], float]) -> dict[str, float]:
        return {name: min(map(figure, rounds)) for name, rounds in loads.items()}

    def most(figure: Callable[[Load], float]) -> dict[str, float]:
        return {name: max(map(figure, rounds)) for name, rounds in loads.items()}

    rate = most(lambda load: load.calls_a_second)
    yield row(GROUP, f"{what}: calls a second", size, "1/s", rate, True)
    yield row(GROUP, f"{what}: processor time a call", size, "us", cpu)
    median = least(lambda load: 1e3 * load.percentile(50))
    yield row(GROUP, f"{what}: median", size, "ms", median)
    slow = least(lambda load: 1e3 * load.percentile(99))
    yield row(GROUP, f"{what}: 99 %", size, "ms", slow)
    longest = most(lambda load: 1e3 * load.longest)
    yield row(GROUP, f"{what}: longest", size, "ms", longest)


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


def _beside_silent_clients(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """One client calls while many others are connected and do nothing."""
    silent = 20 if short else 1000
    rate: dict[str, float] = {}
    cpu: dict[str, float] = {}
    for release in releases:
        with (
            site(release, 4) as place,
            place.running() as server,
            server.client() as client,
            Callers(server.port, [[encode("version")]] * silent),
        ):
            job_id = client.call("create_job", owner="me", keepalive=None)
            client.wait_for_power()
            keepalive = encode("job_keepalive", job_id)
            with Callers(server.port, [[keepalive]]) as caller:
                before = server.cpu_seconds
                load = caller.run(0.2 if short else 2.0)
                cpu[release.name] = 1e6 * (server.cpu_seconds - before) / load.calls
                rate[release.name] = load.calls_a_second
    size = f"{silent:,} silent clients"
    what = "job_keepalive of one client"
    yield row(GROUP, f"{what}: calls a second", size, "1/s", rate, True)
    yield row(GROUP, f"{what}: processor time a call", size, "us", cpu)


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
    figures: dict[str, dict[str, float]] = {"one": {}, "many": {}, "all": {}}
    for release in releases:
        count = 20 if short else (200 if release.is_reference else 2000)
        create = encode("create_job", side, side, owner="me", keepalive=None)
        with (
            site(release, side) as place,
            place.running() as server,
            server.client() as client,
        ):
            client.call_many([create])
            client.wait_for_power()
            for how, at_once in (("one", 1), ("many", 20)):
                taken = client.time_calls([create] * count, at_once)
                figures[how][release.name] = count / taken
            with Callers(server.port, [[create]] * 16) as callers:
                load = callers.run(0.2 if short else 2.0)
                figures["all"][release.name] = load.calls_a_second
    what = f"create_job({side}, {side}) when full"
    size = f"{3 * side * side:,} boards"
    yield row(GROUP, f"{what}: one by one", size, "1/s", figures["one"], True)
    yield row(GROUP, f"{what}: 16 clients", size, "1/s", figures["all"], True)
    yield row(GROUP, f"{what}: 20 in a packet", size, "1/s", figures["many"], True)
