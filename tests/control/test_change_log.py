"""The way that all changes go, with a number as the state."""

from __future__ import annotations

from typing import Any

import pytest

from spalloc_server.control.change_log import ChangeLog
from spalloc_server.controller import Controller
from spalloc_server.model.changes import (
    CHANGES,
    CreateJob,
    Ready,
    RefusedError,
    ReplayError,
    TimedOut,
    from_record,
    to_record,
)


class Sum:
    """Adds the IDs of jobs that are ready."""

    def __init__(self) -> None:
        self.total = 0
        self.seen: list[float] = []
        self.log = ChangeLog()
        self.log.connect({Ready: self.add, TimedOut: self.fail, CreateJob: self.refuse})

    def add(self, change: Ready) -> str:
        self.total += change.job_id
        self.seen.append(self.log.wall_time())
        return "added"

    def fail(self, change: TimedOut) -> None:
        raise KeyError("no such job")

    def refuse(self, change: CreateJob) -> None:
        raise RefusedError("not now")


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_comes_back_from_its_record(name: str) -> None:
    kind = CHANGES[name]
    fields = list(range(len(kind._fields)))
    change = kind(*fields)
    assert to_record(change, 1.5) == [name, 1.5, *fields]
    assert from_record([name, 1.5, *fields]) == (change, 1.5)


def test_events_are_told_and_then_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 12.5)
    added = Sum()
    events: list[tuple[list[Any], int]] = []
    added.log.on_event = lambda event: events.append((event, added.total))
    added.log.happen(Ready(3))
    assert events == [(["ready", 12.5, 3], 0)]
    assert added.total == 3


def test_a_command_is_done_at_the_time_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 12.5)
    added = Sum()
    added.log.on_event = lambda event: pytest.fail(f"told of {event}")
    assert added.log.do(Ready(3), at=1.0) == "added"
    assert added.log.do(Ready(3)) == "added"
    assert added.seen == [1.0, 12.5]
    with pytest.raises(RefusedError, match="not now"):
        added.log.do(CreateJob(None, [], {}), at=2.0)
    assert added.log.wall_time() == 12.5


def test_a_replay_does_the_same_at_the_same_time_and_tells_nobody() -> None:
    added = Sum()
    added.log.on_event = lambda event: pytest.fail(f"told of {event}")
    added.log.replay(
        [["ready", 1.5, 3], ["create_job", 2.0, None, [], {}], ["ready", 2.5, 4]]
    )
    assert (added.total, added.seen) == (7, [1.5, 2.5])


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["unheard-of", 1.5], "KeyError: 'unheard-of'"),
        (["timed out", 1.5, [3]], "KeyError: 'no such job'"),
        (["freed", 1.5, 1, [], None], "KeyError"),
        (["ready", 1.5, 1, 2], "TypeError"),
        (["ready"], "ValueError"),
        (["ready", "soon", 1], "ValueError"),
        ([], "ValueError"),
    ],
)
def test_a_record_that_does_not_fit_ends_the_replay(
    record: list[Any], message: str
) -> None:
    added = Sum()
    with pytest.raises(ReplayError, match=message) as e:
        added.log.replay([["ready", 1.0, 1], record, ["ready", 2.0, 1]])
    assert e.value.done == 1
    assert added.total == 1


def test_waking_without_anybody_to_wake() -> None:
    log = ChangeLog()
    log.wake()
    calls: list[None] = []
    log.on_background_change = lambda: calls.append(None)
    log.wake()
    assert calls == [None]


def test_the_controller_can_do_every_change() -> None:
    log = Controller()._parts.log
    assert log._doers.keys() == set(CHANGES.values())
