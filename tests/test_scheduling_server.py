"""Who is next, with the real command line: reloads, kills, limits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import Client, ServerProcess, running_server, wait_until

QUEUED, READY, DESTROYED = 1, 3, 4

CONFIG = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m",
            board_locations={
                (x, 0, z): (0, x, z) for x in range(3) for z in range(3)
            },
            base_ip="10.11.12.0",
        )
    ],
    seconds_before_free=0,
    timeout_check_interval=0.1,
    SETTINGS
)
"""


def config(settings: str) -> str:
    return CONFIG.replace("SETTINGS", settings)


class Site:
    """A server, and somebody who hands jobs in."""

    def __init__(self, server: ServerProcess, client: Client) -> None:
        self.server = server
        self.client = client

    def create(self, *args: int, owner: str = "ann", **kwargs: Any) -> int:
        job_id = self.client.call(
            "create_job", *args, owner=owner, keepalive=None, **kwargs
        )
        assert isinstance(job_id, int)
        return job_id

    def state(self, job_id: int) -> dict[str, Any]:
        state = self.client.call("get_job_state", job_id)
        assert isinstance(state, dict)
        return state

    def wait_for(self, job_id: int, state: int) -> None:
        wait_until(lambda: self.state(job_id)["state"] == state)

    def reload(self, settings: str) -> None:
        times = self.server.log.count("Machines:")
        self.server.config_file.write_text(config(settings), encoding="utf-8")
        self.server.process.send_signal(signal.SIGHUP)
        self.server.wait_for_log("Machines:", times + 1)


@contextmanager
def start(folder: Path, settings: str) -> Iterator[Site]:
    with (
        running_server(config(settings), "--simulate", folder=folder) as server,
        Client(server.port) as client,
    ):
        yield Site(server, client)


def test_a_reload_changes_the_rule_with_jobs_waiting(tmp_path: Path) -> None:
    with start(tmp_path, "scheduling='fifo'") as site:
        holder = site.create(1, 1)
        large = site.create(3, 1, owner="bob")
        small = site.create(owner="cy")
        site.wait_for(holder, READY)
        assert site.state(large)["waiting"]["reason"] == "first"
        assert site.state(small)["waiting"]["queues"][0]["place"] == 2

        site.reload("scheduling='backfill'")
        site.wait_for(small, READY)
        # Back again: nobody passes the large one any more.
        site.reload("scheduling='fifo'")
        later = site.create(owner="dee")
        assert site.state(later)["waiting"]["reason"] == "turn"
        # With nothing to pass it by, the part is all of the machine.
        site.reload("longest_overtaking=0")
        wait_until(lambda: site.state(large)["waiting"]["reason"] == "kept")
        kept = site.state(large)["waiting"]["queues"][0]["kept"]
        assert (kept["boards"], kept["held"], kept["jobs"]) == (9, 4, 2)
        assert site.state(later)["state"] == QUEUED
        site.client.call("destroy_job", holder)
        site.client.call("destroy_job", small)
        site.wait_for(large, READY)
        site.client.call("destroy_job", large)
        site.wait_for(later, READY)


def test_what_is_kept_survives_a_kill(tmp_path: Path) -> None:
    settings = "longest_overtaking=0"
    told = {}
    with start(tmp_path, settings) as site:
        holder = site.create(1, 1)
        large = site.create(3, 1, owner="bob")
        small = [site.create(owner="cy"), site.create(owner="dee"), site.create()]
        wait_until(lambda: site.state(large)["waiting"]["reason"] == "kept")
        for job_id in (large, *small):
            told[job_id] = site.state(job_id)["waiting"]
        site.server.kill()
    with start(tmp_path, settings) as site:
        for job_id, waiting in told.items():
            assert site.state(job_id)["waiting"] == waiting
        assert site.state(small[0])["state"] == QUEUED
        site.client.call("destroy_job", holder)
        site.wait_for(large, READY)
        assert site.state(small[0])["state"] == QUEUED


def test_time_alone_has_a_part_kept(tmp_path: Path) -> None:
    with start(tmp_path, "longest_overtaking=1.5") as site:
        site.create(1, 1)
        large = site.create(3, 1, owner="bob")
        before = site.state(large)["waiting"]
        assert (before["reason"], before["queues"][0]["kept"]) == ("first", None)
        passes = site.create(owner="cy")
        site.wait_for(passes, READY)
        wait_until(lambda: site.state(large)["waiting"]["reason"] == "kept")
        assert site.state(site.create(owner="dee"))["state"] == QUEUED


def test_limits_that_a_reload_sets(tmp_path: Path) -> None:
    with start(tmp_path, "boards_per_owner=4") as site:
        first = site.create(1, 1)
        second = site.create(1, 1)
        assert site.state(second)["waiting"]["reason"] == "limit"
        third = site.create()
        site.wait_for(third, READY)
        site.wait_for(site.create(owner="bob"), READY)

        site.reload("jobs_per_owner=3")
        site.wait_for(second, READY)
        fourth = site.state(site.create())
        assert (fourth["state"], fourth["reason"]) == (
            DESTROYED,
            "Cancelled: ann has as many jobs as an owner may have at a time: 3.",
        )
        site.client.call("destroy_job", first)
        assert site.state(site.create())["state"] != DESTROYED


def test_a_job_larger_than_the_limit_ends_at_once(tmp_path: Path) -> None:
    with start(tmp_path, "boards_per_owner=4") as site:
        state = site.state(site.create(2, 1))
        assert (state["state"], state["reason"]) == (
            DESTROYED,
            "Cancelled: It takes 6 boards, and an owner may hold 4 at a time.",
        )
