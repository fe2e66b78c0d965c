"""No board is ever lost, whatever happens in whatever order: walks that check that."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from spalloc_server.model.board_states import BoardState
from tests.board_walk import BoardWalk, walk_at_random

NUMBERS = st.integers(0, 29)


class Walk(RuleBasedStateMachine):
    """Walks that hypothesis chooses, and shortens where one goes wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.walk = BoardWalk()

    def teardown(self) -> None:
        self.walk.check_end()
        self.walk.close()

    @invariant()
    def all_is_well(self) -> None:
        self.walk.check()

    @rule(shape=NUMBERS, demands=NUMBERS)
    def create(self, shape: int, demands: int) -> None:
        self.walk.create(shape, demands)

    @rule(number=NUMBERS)
    def create_on_board(self, number: int) -> None:
        self.walk.create_on_board(number)

    @rule(number=NUMBERS, kind=st.integers(0, 2))
    def change_job(self, number: int, kind: int) -> None:
        self.walk.change_job(number, kind)

    @rule(number=NUMBERS, outcome=st.integers(0, 5))
    def answer(self, number: int, outcome: int) -> None:
        self.walk.answer(number, outcome)

    @rule(number=NUMBERS)
    def fail(self, number: int) -> None:
        self.walk.answer(number, 0)

    @rule()
    def answer_all(self) -> None:
        self.walk.answer_all()

    @rule(number=NUMBERS, silent=st.booleans())
    def hear_bmp(self, number: int, silent: bool) -> None:
        self.walk.hear_bmp(number, silent)

    @rule(number=NUMBERS)
    def report(self, number: int) -> None:
        self.walk.report(number)

    @rule(number=NUMBERS)
    def clear(self, number: int) -> None:
        self.walk.clear(number)

    @rule(seconds=st.sampled_from([0.5, 5.0, 31.0, 700.0, 90_000.0]))
    def wait(self, seconds: float) -> None:
        self.walk.wait(seconds)

    @rule(number=NUMBERS)
    def reload(self, number: int) -> None:
        self.walk.reload(number)

    @rule(number=st.integers(0, 4))
    def reschedule(self, number: int) -> None:
        self.walk.reschedule(number)

    @rule()
    def save(self) -> None:
        self.walk.save()

    @rule(answered=st.booleans())
    def restart(self, answered: bool) -> None:
        self.walk.restart(answered)

    @rule(committed=st.booleans())
    def crash(self, committed: bool) -> None:
        self.walk.crash(committed)


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=25,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


@pytest.mark.slow
@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
@pytest.mark.parametrize("seed", range(3))
def test_long_walks(seed: int, scheduling: str) -> None:
    assert walk_at_random(seed, 60, 250, scheduling) == 250


def test_the_walk_gets_everywhere() -> None:
    """The steps lead to all states of boards, or the checks would say little."""
    walk = BoardWalk()
    seen: set[BoardState] = set()
    try:
        walk.create(2, 0)
        seen.update(walk.controller.board_states("m").values())
        walk.answer(0, 3)
        seen.update(walk.controller.board_states("m").values())
        walk.answer_all()
        seen.update(walk.controller.board_states("m").values())
        walk.create(1, 0)
        walk.order(1, 0)
        seen.update(walk.controller.board_states("m").values())
        walk.reload(2)
        seen.update(walk.controller.board_states("m").values())
        walk.check()
        walk.check_end()
    finally:
        walk.close()
    assert seen == set(BoardState)
