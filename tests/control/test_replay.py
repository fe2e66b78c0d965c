"""What was done live and what is done again from its records give the same state."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spalloc_server.control.plain_state import comparable
from spalloc_server.controller import Controller
from tests.board_walk import BoardWalk, choose_step

LEAVES_THE_PROCESS = ("restart", "crash", "save")
"""Steps of a walk that are no changes, but replace the controller or its files."""


class RecordedWalk(BoardWalk):
    """A walk of which every change is recorded, as it would come back from the disk."""

    def __init__(self, scheduling: str = "backfill") -> None:
        super().__init__(scheduling)
        self.beginning = self.controller.__getstate__()
        self.records: list[list[Any]] = []
        store_event = self.controller.on_event
        assert store_event is not None

        def record(event: list[Any]) -> None:
            self._note(event)
            store_event(event)

        self.controller.on_event = record

    def _note(self, record: list[Any]) -> None:
        self.records.append(json.loads(json.dumps(record)))

    def _command(self, name: str, *arguments: Any) -> None:
        self._note([name, self.clock.time(), "1.2.3.4", *arguments])
        super()._command(name, *arguments)

    def replayed(self, length: int | None = None) -> Controller:
        """Do it all again, or only the first so many changes, on a new controller."""
        controller = Controller.restored(self.beginning)
        controller.replay(self.records[:length])
        return controller


WORDS = st.sampled_from(["fifo", "backfill"])


def kept(controller: Controller) -> Any:
    return comparable(controller.__getstate__())


def one_step(walk: RecordedWalk, chance: random.Random) -> None:
    """Do any step that is a change."""
    while True:
        name, arguments = choose_step(chance)
        if name not in LEAVES_THE_PROCESS:
            getattr(walk, name)(*arguments)
            return


@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), scheduling=WORDS)
@settings(max_examples=60, deadline=None)
def test_a_history_and_its_replay_give_equal_states(
    seed: int, steps: int, scheduling: str
) -> None:
    walk, chance = RecordedWalk(scheduling), random.Random(seed)
    try:
        for _ in range(steps):
            one_step(walk, chance)
            if chance.random() < 0.2:
                assert kept(walk.replayed()) == kept(walk.controller)
        assert kept(walk.replayed()) == kept(walk.controller)
    finally:
        walk.close()


@given(seed=st.integers(0, 2**32))
@settings(max_examples=15, deadline=None)
def test_any_prefix_of_a_history_is_the_state_of_its_time(seed: int) -> None:
    walk, chance = RecordedWalk(), random.Random(seed)
    then: dict[int, Any] = {}
    try:
        for _ in range(25):
            one_step(walk, chance)
            then[len(walk.records)] = kept(walk.controller)
        for length in range(len(walk.records) + 1):
            # Also in the midst of a step, where nobody has looked at the live state.
            state = kept(walk.replayed(length))
            if length in then:
                assert state == then[length]
    finally:
        walk.close()


@pytest.mark.parametrize("length", [0, 1, 5])
def test_what_was_replayed_in_part_goes_on_with_the_rest(length: int) -> None:
    walk, chance = RecordedWalk(), random.Random(7)
    try:
        for _ in range(30):
            one_step(walk, chance)
        controller = walk.replayed(length)
        controller.replay(walk.records[length:])
        assert kept(controller) == kept(walk.controller)
    finally:
        walk.close()
