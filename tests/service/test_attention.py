"""For how long the loop has not listened, by a clock in the hands of the test."""

from __future__ import annotations

import pytest

from spalloc_server.polling_server_core import READY_AT_ONCE
from spalloc_server.service.attention import (
    LONGEST_LAPSE,
    TURNS_FOR_A_PACKET,
    Attention,
)


class Loop:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.attention = Attention()

    def turn(self, busy: float, timeout: float, waited: float) -> float:
        self.now += busy
        since = self.now
        self.now += waited
        return self.attention.waited(since, timeout, self.now)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    return Loop(monkeypatch)


def test_work_and_waiting_as_planned_is_no_lapse(loop: Loop) -> None:
    assert loop.turn(0.01, 5.0, 5.0) == 0.0
    assert loop.turn(LONGEST_LAPSE, 60.0, 12.0) == 0.0
    assert loop.turn(0.0, 0.0, LONGEST_LAPSE) == 0.0


def test_a_long_turn_a_late_wake_up_and_both_are_lapses(loop: Loop) -> None:
    assert loop.turn(6.0, 1.0, 0.2) == pytest.approx(6.0)
    assert loop.turn(0.0, 1.0, 9.0) == pytest.approx(8.0)
    assert loop.turn(2.0, 1.0, 4.0) == pytest.approx(5.0)
    assert loop.turn(0.0, 1.0, 1.0) == 0.0


def test_all_is_heard_when_few_are_ready_and_nothing_is_left(loop: Loop) -> None:
    attention = loop.attention
    assert attention.has_heard_all(0, False, 5000)
    assert attention.has_heard_all(READY_AT_ONCE - 1, False, 5000)
    assert not attention.has_heard_all(READY_AT_ONCE, False, 5000)
    assert not attention.has_heard_all(1, True, 5000)


def test_after_a_lapse_the_next_wait_tells_what_was_sent(loop: Loop) -> None:
    assert loop.turn(0.0, 1.0, 9.0) > 0
    assert not loop.attention.has_heard_all(0, False, 1)
    assert loop.turn(0.0, 0.0, 0.0) == 0.0
    assert loop.attention.has_heard_all(0, False, 1)


@pytest.mark.parametrize(("ready", "unhandled"), [(READY_AT_ONCE, False), (1, True)])
def test_those_who_send_without_end_do_not_hold_it_up(
    loop: Loop, ready: int, unhandled: bool
) -> None:
    clients = 10 * READY_AT_ONCE
    asked = 1
    while not loop.attention.has_heard_all(ready, unhandled, clients):
        asked += 1
    assert asked == 10 + TURNS_FOR_A_PACKET + 1
    # And all over again the next time.
    assert not loop.attention.has_heard_all(ready, unhandled, clients)
