"""What the page is told of jobs and boards beyond what clients are."""

from __future__ import annotations

import asyncio

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job_tuples import JobDetails, JobState, JobTuple
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
