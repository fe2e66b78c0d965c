"""State that is pickled and brought up to date, with a counter as the state."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from spalloc_server.control.replayable import KeptState, ReplayError, unpickled_dormant


class Counter(KeptState):
    def __init__(self) -> None:
        self.count = 0
        self.starts = 0
        self._init_dynamic_state()

    def _init_dormant(self) -> None:
        super()._init_dormant()
        self.seen: list[float] = []
        self._changers = {"add": self._add, "fail": self._fail}

    def start(self) -> None:
        super().start()
        self.starts = 1

    def _kept_state(self) -> dict[str, Any]:
        return {"count": self.count}

    def _take_state(self, data: dict[str, Any]) -> None:
        self.count = data["count"]

    def _add(self, number: int) -> None:
        self.count += number
        self.seen.append(self.wall_time())

    def _fail(self) -> None:
        raise KeyError("no such job")


def test_events_are_told_and_then_happen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 12.5)
    counter = Counter()
    events: list[tuple[list[Any], int]] = []
    counter.on_event = lambda event: events.append((event, counter.count))
    counter.do_event("add", 3)
    assert events == [(["add", 12.5, 3], 0)]
    assert counter.count == 3


def test_a_replay_does_the_same_at_the_same_time_and_tells_nobody() -> None:
    counter = Counter()
    counter.on_event = lambda event: pytest.fail(f"told of {event}")
    counter.replay([["add", 1.5, 3], ["add", 2.5, 4]])
    assert (counter.count, counter.seen) == (7, [1.5, 2.5])
    assert counter.command_time is None


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (["unheard-of", 1.5], "KeyError: 'unheard-of'"),
        (["fail", 1.5], "KeyError: 'no such job'"),
        (["add", 1.5, 1, 2], "TypeError"),
        ([], "ValueError"),
    ],
)
def test_a_record_that_does_not_fit_ends_the_replay(
    record: list[Any], message: str
) -> None:
    counter = Counter()
    with pytest.raises(ReplayError, match=message) as raised:
        counter.replay([["add", 1.0, 1], record, ["add", 2.0, 1]])
    assert raised.value.done == 1
    assert counter.count == 1
    assert counter.command_time is None


def test_a_pickle_starts_at_once_unless_it_is_to_be_dormant() -> None:
    counter = Counter()
    counter.count = 5
    counter.on_event = print
    counter.on_background_state_change = print
    pickled = pickle.dumps(counter)
    copy = pickle.loads(pickled)
    assert (copy.count, copy.starts) == (5, 1)
    assert copy.on_event is copy.on_background_state_change is None
    with unpickled_dormant():
        dormant = pickle.loads(pickled)
    assert not hasattr(dormant, "starts")
    dormant.replay([["add", 1.5, 1]])
    dormant.start()
    assert (dormant.count, dormant.starts) == (6, 1)


def test_waking_without_anybody_to_wake() -> None:
    counter = Counter()
    counter.wake()
    calls: list[None] = []
    counter.on_background_state_change = lambda: calls.append(None)
    counter.wake()
    assert calls == [None]
