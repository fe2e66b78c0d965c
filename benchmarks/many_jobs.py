"""What a server costs that has many jobs, beside one that has none."""

import json
import select
import statistics
import time
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from benchmarks.environments import Release
from benchmarks.load import Callers
from benchmarks.servers import Client, Server, encode, site

ROUNDS: Final = 5
"""How often the servers are loaded in turn; the best of each counts."""

PORTIONS: Final = 5
"""In how many portions jobs are ended that are few beside the others."""

EXPIRY_SECONDS: Final = 1.0
"""The silence after which jobs expire, as soon as they are looked at."""

EXPIRY_SECONDS_OF_REFERENCE: Final = 8.0
"""The same for the reference, which takes some seconds to create these jobs: none may
have expired before that is watched."""

IDLE_SECONDS: Final = 5.0
"""How long it is measured what a server costs that waits: as long as from one look at
silent jobs to the next by default, since what it does meanwhile comes in few pieces."""

QUIET_SHARE: Final = 0.002
"""Less than this share of a processor is used by a server that only waits."""

QUIET_SECONDS: Final = 20.0
"""How long to wait at most until it only waits."""

LOOKED_AT_SECONDS: Final = 60.0
"""How long that may take at most."""


class Jobs(NamedTuple):
    """How many of them."""

    running: int
    queued: int


def measure(
    release: Release, server: Server, side: int, jobs: Jobs, seconds: float
) -> Iterator[tuple[str, float]]:
    """Give a server without jobs many, and leave it with them."""
    single = encode("create_job", owner="me", keepalive=None)
    whole = encode("create_job", side, side, owner="me", keepalive=None)
    few = jobs.running // 10
    expiry = EXPIRY_SECONDS_OF_REFERENCE if release.is_reference else EXPIRY_SECONDS
    dying = encode("create_job", side, side, owner="me", keepalive=expiry)
    with server.client() as client:
        running = client.call_many([single] * (10 + few))
        # These wait for all others to end, and nobody else could start in their place.
        queued = client.call_many([whole] * (few + 11))
        client.wait_for_power()
        yield "end one of few running jobs", _destroy(server, client, running[:few])
        yield "cancel one of few queued jobs", _destroy(server, client, queued[:few])
        yield "expire one of few queued jobs", _expire(server, client, [dying] * few)
        client.call_many([encode("destroy_job", job_id) for job_id in queued[few:]])

        running = client.call_many([single] * jobs.running)
        client.call_many([whole])
        before = server.rss_bytes
        start = time.perf_counter()
        queued = client.call_many([single] * jobs.queued)
        rate = jobs.queued / (time.perf_counter() - start)
        yield "create_job behind others", rate
        grown = server.rss_bytes - before
        yield "memory for each queued job", grown / 1024 / jobs.queued
        client.wait_for_power()
        share = _share_of_empty(release, server, side, running[0], seconds)
        yield "job_keepalive, 16 clients: share of an empty server", share
        for what in ("list_jobs", "list_jobs again"):
            whole_reply, longest = _list_jobs_beside_another(server)
            yield f"{what}: time to the whole reply", 1e3 * whole_reply
            yield f"{what}: longest wait of another client", 1e3 * longest
        middle = queued[len(queued) // 2 :][:few]
        yield "cancel one of many queued jobs", _destroy(server, client, middle)
        yield "expire one of many queued jobs", _expire(server, client, [dying] * few)
        some = running[len(running) // 2 :][:few]
        yield "end one of many running jobs", _destroy(server, client, some)


def _share_of_empty(
    release: Release, server: Server, side: int, job_id: int, seconds: float
) -> float:
    """Calls a second in percent of those on a server that has one job only."""
    with site(release, side) as place, place.running() as empty:
        with empty.client() as client:
            only = client.call("create_job", owner="me", keepalive=None)
            client.wait_for_power()
        with (
            Callers(server.port, [[encode("job_keepalive", job_id)]] * 16) as loaded,
            Callers(empty.port, [[encode("job_keepalive", only)]] * 16) as unloaded,
        ):
            rates = [
                tuple(
                    c.run(seconds / ROUNDS).calls_a_second for c in (loaded, unloaded)
                )
                for _ in range(ROUNDS)
            ]
    return 100 * max(rate for rate, _ in rates) / max(rate for _, rate in rates)


def _destroy(server: Server, client: Client, job_ids: Sequence[int]) -> float:
    """Destroy jobs, some in each packet; us of processor time for each.

    The median of some portions: garbage collected in the midst of one is as much as all
    else in it.
    """
    size = max(1, len(job_ids) // PORTIONS)
    costs = []
    for start in range(0, len(job_ids), size):
        portion = job_ids[start : start + size]
        before = server.cpu_seconds
        client.call_many([encode("destroy_job", job_id) for job_id in portion], 10)
        costs.append((server.cpu_seconds - before) / len(portion))
    return 1e6 * statistics.median(costs)


def _expire(server: Server, client: Client, create: list[bytes]) -> float:
    """Have queued jobs expire; us of processor time for each, waiting not counted.

    :param create: what creates them
    """
    _wait_until_quiet(server)
    with server.client() as watcher:
        idle_since, idle_before = time.perf_counter(), server.cpu_seconds
        time.sleep(IDLE_SECONDS)
        idle_cpu = server.cpu_seconds - idle_before
        idle_share = idle_cpu / (time.perf_counter() - idle_since)
        job_ids = set(client.call_many(create))
        watcher.call("notify_job")
        start, before = time.perf_counter(), server.cpu_seconds
        watcher.socket.settimeout(LOOKED_AT_SECONDS)
        while job_ids:
            job_ids.difference_update(json.loads(watcher.line())["jobs_changed"])
        waited = time.perf_counter() - start
        used = server.cpu_seconds - before - idle_share * waited
    return 1e6 * max(0.0, used) / len(create)


def _wait_until_quiet(server: Server) -> None:
    """Wait until a server has done what it does by and by, as making a snapshot."""
    deadline = time.perf_counter() + QUIET_SECONDS
    while time.perf_counter() < deadline:
        since, before = time.perf_counter(), server.cpu_seconds
        time.sleep(1.0)
        used = server.cpu_seconds - before
        if used < QUIET_SHARE * (time.perf_counter() - since):
            break


def _list_jobs_beside_another(server: Server) -> tuple[float, float]:
    """Seconds that listing takes, and the longest another client waits meanwhile."""
    with server.client() as lister, server.client() as other:
        other.call("version")
        start = time.perf_counter()
        lister.send(encode("list_jobs"))
        longest = 0.0
        size = 0
        ended = False
        while not ended:
            sent = time.perf_counter()
            other.send(encode("version"))
            answered = False
            while not answered:
                ready, _, _ = select.select([lister.socket, other.socket], [], [], 120)
                if lister.socket in ready:
                    data = lister.socket.recv(1 << 20)
                    size += len(data)
                    ended = data.endswith(b"\n")
                    listed = time.perf_counter() - start
                if other.socket in ready:
                    other.reply()
                    answered = True
            longest = max(longest, time.perf_counter() - sent)
        return listed, longest
