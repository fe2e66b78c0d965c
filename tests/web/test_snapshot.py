"""What the page is told of jobs and boards beyond what clients are."""

from __future__ import annotations

import asyncio

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job_tuples import JobDetails, JobState, JobTuple
from spalloc_server.scheduling.waiting import Waiting
from spalloc_server.web import feed as web_feed
from spalloc_server.web.feed import PING, Feed
from spalloc_server.web.snapshot import Snapshot, changes_between, to_state

MACHINE = Machine.single_board("m", bmp_ip="b", spinnaker_ip="s")


def job(job_id: int) -> JobTuple:
    return JobTuple(
        *(job_id, "me", 1.0, 60.0, JobState.queued, None, (1,), {"tags": {"b", "a"}}),
        *(None, None, ""),
    )


def snapshot(clock: float, heard: float = 0.0, problem: bool = False) -> Snapshot:
    problems = []
    if problem:
        about = {"machine": "m", "board": (0, 0, 0), "out_of_service": True}
        problems.append({**about, "reason": "FPGA 0 is asleep", "reports": []})
    return Snapshot(
        *(100.0 + clock, [MACHINE], {"m": {(0, 0, 0): BoardState.free}}, [job(7)]),
        {7: JobDetails(heard, 7, ("m",), None)},
        problems,
        clock,
    )


def test_jobs() -> None:
    document = to_state(snapshot(10.0, 2.0)).jobs[7]
    assert document["kwargs"] == {"tags": ["a", "b"]}
    assert (document["queues"], document["rank"]) == (("m",), 7)


def test_problems_of_boards() -> None:
    well, ill = to_state(snapshot(1.0)), to_state(snapshot(1.0, problem=True))
    changes = changes_between(well, ill)
    assert changes is not None
    assert changes["boards"]["m"][0][7] == "FPGA 0 is asleep"
    reported = {"machine": "m", "board": (0, 0, 0), "out_of_service": False}
    reports = [{"description": "cold"}, {"description": None}]
    told = snapshot(1.0)._replace(problems=[{**reported, "reports": reports}])
    [[*_, problem, _, _]] = to_state(told).boards["m"].values()
    assert problem == "reported, but in service: no description"


def test_keepalives_alone() -> None:
    changes = changes_between(
        to_state(snapshot(10.0, 1.0)), to_state(snapshot(20.0, 15.04))
    )
    assert changes == {"time": 120.0, "clock": 20.0, "heard": {7: 15.0}}


def test_keepalives_are_not_told_all_the_time() -> None:
    feed = Feed(lambda: None)
    told = []
    feed._state = feed._without_haste(to_state(snapshot(0.0, 0.0)))
    for clock in range(1, 13):
        state = feed._without_haste(to_state(snapshot(clock, clock)))
        if changes_between(feed._state, state) is not None:
            told.append(clock)
        feed._state = state
    assert told == [5, 10]


def waiting(clock: float, jobs: int, first: int) -> Snapshot:
    """Many jobs that may start from about a time on."""
    about = Waiting("turn", (), (first, 2 * first))
    details = {i: JobDetails(0.0, i, ("m",), None, about) for i in range(jobs)}
    return snapshot(clock)._replace(jobs=[job(i) for i in details], details=details)


def test_estimates_alone_are_no_change_of_a_job() -> None:
    old, new = to_state(waiting(1.0, 3, 1000)), to_state(waiting(2.0, 3, 2000))
    changes = changes_between(old, new)
    assert changes is not None
    assert "jobs" not in changes
    assert changes["about"] == dict.fromkeys(range(3), (2000, 4000))
    assert changes_between(old, old._replace(about={})) == {
        **{"time": old.time, "clock": old.clock, "about": dict.fromkeys(range(3))}
    }


def test_estimates_of_all_who_wait_are_not_told_all_the_time() -> None:
    """Each job that starts shifts those of all others a little."""
    feed = Feed(lambda: None)
    sizes = []
    feed._state = feed._without_haste(to_state(waiting(0.0, 500, 10_000)))
    for clock in range(1, 91):
        shifted = waiting(clock, 501 if clock > 50 else 500, 10_000 + 2 * clock)
        state = feed._without_haste(to_state(shifted))
        changes = changes_between(feed._state, state)
        sizes.append(0 if changes is None else len(changes.get("about", ())))
        feed._state = state
    # A new one is told at once, and no other for less than some percent.
    assert [(clock, size) for clock, size in enumerate(sizes, 1) if size] == [(51, 1)]
    for clock in range(91, 150):
        state = feed._without_haste(to_state(waiting(clock, 501, 20_000)))
        changes = changes_between(feed._state, state)
        sizes.append(0 if changes is None else len(changes.get("about", ())))
        feed._state = state
    assert sizes[90:].count(501) == 1
    assert sum(sizes[90:]) == 501


def test_silence_is_broken_by_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_feed, "INTERVAL", 0.0)
    monkeypatch.setattr(web_feed, "PING_INTERVAL", 0.01)

    async def listen() -> list[bytes]:
        loop = asyncio.get_running_loop()

        def request() -> None:
            loop.call_soon(feed.deliver, snapshot(1.0))

        feed = Feed(request)
        pusher = asyncio.create_task(feed.run())
        messages = feed.messages()
        received = [await anext(messages) for _ in range(3)]
        await messages.aclose()
        pusher.cancel()
        return received

    first, *others = asyncio.run(listen())
    assert first.startswith(b"event: state\n")
    assert others == [PING, PING]
