"""Snapshots that fail keep nobody from getting later ones."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.load import Load, MachineLoad
from spalloc_server.web import feed as web_feed
from spalloc_server.web import thread as web_thread
from spalloc_server.web.feed import Feed
from spalloc_server.web.snapshot import Snapshot, snapshot_in_parts, to_state
from tests.support import Client, Site, wait_until
from tests.web.test_app import WebServer, get

MACHINE = Machine.single_board("m", bmp_ip="b", spinnaker_ip="s")
SNAPSHOT = Snapshot(0.0, [MACHINE], {"m": {(0, 0, 0): BoardState.free}}, [])

Failure = Callable[[Feed], object]


def nothing(_feed: Feed) -> None:
    """The loop does not answer."""


def refuse(_feed: Feed) -> None:
    raise OSError("the server is gone")


def fail(feed: Feed) -> None:
    asyncio.get_running_loop().call_soon(feed.fail, "no luck")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_feed, "PATIENCE", 0.05)
    monkeypatch.setattr(web_feed, "INTERVAL", 0.01)


@pytest.mark.parametrize("failure", [nothing, refuse, fail])
def test_after_a_failure_the_next_one_is_asked_for(failure: Failure) -> None:
    failing = True

    def request() -> None:
        if failing:
            failure(feed)
        else:
            asyncio.get_running_loop().call_soon(feed.deliver, SNAPSHOT)

    async def run() -> None:
        nonlocal failing
        for _ in range(3):
            waiting = (feed.latest(), feed.latest())
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, TimeoutError)
        failing = False
        assert await feed.latest() is SNAPSHOT
        # One that comes late, and one that nobody waits for.
        feed.deliver(SNAPSHOT)
        feed.fail("no luck")

    feed = Feed(request)
    asyncio.run(run())


def test_what_is_pushed_goes_on_after_any_failure(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Snapshot(0.0, [MACHINE], {}, [])
    delivered = 0

    def request() -> None:
        nonlocal delivered
        delivered += 1
        this = (
            broken if 2 <= delivered < 8 else changed() if delivered > 1 else SNAPSHOT
        )
        asyncio.get_running_loop().call_soon(feed.deliver, this)

    def changed() -> Snapshot:
        return SNAPSHOT._replace(boards={"m": {(0, 0, 0): BoardState.cooling}})

    async def run() -> None:
        pusher = asyncio.create_task(feed.run())
        messages = feed.messages()
        kinds = [(await anext(messages)).split(b"\n")[0] for _ in range(2)]
        assert kinds == [b"event: state", b"event: change"]
        await messages.aclose()
        pusher.cancel()

    feed = Feed(request)
    asyncio.run(asyncio.wait_for(run(), 30))
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1


@pytest.fixture
def server(site: Site, tmp_path: Path) -> Iterator[WebServer]:
    site.simulator.add_frame("10.11.12.0")
    started = WebServer(str(site.config), tmp_path)
    yield started
    started.stop_and_join()


def test_a_snapshot_in_parts_is_of_one_moment_but_for_who_waits(
    server: WebServer,
) -> None:
    controller = server.controller
    with Client(server.address[1]) as client:
        jobs = [client.call("create_job", 1, 1, owner="me") for _ in range(25)]
        [at_once] = snapshot_in_parts(controller, 1000)
        assert at_once is not None
        assert list(at_once.details) == jobs
        parts = snapshot_in_parts(controller, 10)
        assert [next(parts), next(parts)] == [None, None]
        # One ends that was seen to wait, its boards are given to another, one is new.
        client.call("destroy_job", jobs[0])
        wait_until(lambda: controller.list_jobs()[0].boards)
        new = client.call("create_job", 1, 1, owner="me")
        assert next(parts) is None
        snapshot = next(parts)
        assert list(parts) == []
        # Nothing is held while it is not at work.
        assert client.call("list_jobs")
    assert snapshot is not None
    assert list(snapshot.details) == [*jobs[1:], new]
    assert [job.job_id for job in snapshot.jobs] == [*jobs[1:], new]
    # Who has boards by now waits no more.
    assert snapshot.details[jobs[1]].waiting is None
    assert all(snapshot.details[job].waiting for job in [*jobs[2:], new])
    to_state(snapshot)


def test_the_load(server: WebServer) -> None:
    controller = server.controller
    assert controller.load() == Load({"m": MachineLoad(3, 0, 0)}, 0, 0)
    with Client(server.address[1]) as client:
        client.call("create_job", 0, 0, 0, owner="me")
        client.call("create_job", 1, 1, owner="me")
        client.call("create_job", 2, owner="me")
        client.call("create_job", owner="me", machine="m")
        wait_until(lambda: controller.load().machines["m"].in_use == 2)
        assert (controller.load().waiting, controller.load().wanted) == (2, 5)
        with controller.lock:
            controller._state.health.take_out("m", (0, 0, 2), "broken", 0.0, 0.0)
        assert controller.load().machines["m"] == MachineLoad(3, 2, 1)
    # And it is kept from the start on.
    wait_until(lambda: _boards(server) == [3.0])


def _boards(server: WebServer) -> list[float]:
    load = get(server.web_port, "/api/history")[1]["load"]
    return [value for value in load["boards"] if value is not None]


def test_a_loop_that_fails_to_take_a_snapshot(
    server: WebServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def fail(_controller: object) -> Snapshot:
        raise KeyError("broken")

    monkeypatch.setattr(web_thread, "snapshot_in_parts", fail)
    for _ in range(5):
        status, text, _ = get(server.web_port, "/api/jobs")
        assert (status, text) == (503, "the server's state cannot be told\n")
        # What else there is to tell is told.
        assert get(server.web_port, "/metrics")[0] == 200
    assert get(server.web_port, "/events")[0] == 503
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    monkeypatch.setattr(web_thread, "snapshot_in_parts", snapshot_in_parts)
    with Client(server.address[1]) as client:
        job_id = client.call("create_job", owner="me")
        wait_until(lambda: get(server.web_port, "/api/jobs")[1][0]["id"] == job_id)
