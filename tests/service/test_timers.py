from typing import Any

import pytest

from spalloc_server.service import timers
from spalloc_server.service.timers import Timers


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Work:
    """Regular work, with a record of what was done when."""

    def __init__(self, clock: Clock, interval: float) -> None:
        self.clock = clock
        self.interval = interval
        self.work = Timers()
        self.done: list[tuple[str, float]] = []

    def destroy_silent_jobs(self, heard_until: float) -> None:
        assert heard_until == self.clock.now - 1.0
        self.done.append(("jobs", self.clock.now))

    def check_free(self) -> None:
        self.done.append(("free", self.clock.now))

    def run_until(self, end: float) -> list[tuple[str, float]]:
        """Run whenever work is due, until a time; what was done, and when."""
        self.done.clear()
        controller: Any = self
        while self.work.due <= end:
            self.clock.now = max(self.clock.now, self.work.due)
            if self.work.is_check_due(self.clock.now):
                self.work.check(controller, self.interval, self.clock.now - 1.0)
            self.work.give_out_free_boards(controller, self.clock.now)
        self.clock.now = end
        return self.done


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timers, "time", clock)
    return clock


def test_everything_is_checked_at_the_interval(clock: Clock) -> None:
    assert Work(clock, 5).run_until(1006) == [
        ("jobs", 1000),
        ("free", 1000),
        ("jobs", 1005),
        ("free", 1005),
    ]


def test_free_boards_are_looked_for_at_once_and_when_they_are_cool(
    clock: Clock,
) -> None:
    work = Work(clock, 60)
    work.run_until(1001)
    work.work.hardware_changed(30)
    assert work.run_until(1050) == [
        ("free", 1001),
        ("free", pytest.approx(1031, abs=0.1)),
    ]


def test_never_too_early_and_no_more_often_than_needed(clock: Clock) -> None:
    work = Work(clock, 1000)
    work.run_until(1001)
    for n in range(1000):
        clock.now = 1001 + n / 1000
        work.work.hardware_changed(30)
    free_at = [when for _, when in work.run_until(1500)][1:]
    assert len(free_at) <= 11
    assert 1001 + 0.999 + 30 <= free_at[-1] <= 1001 + 0.999 + 30 + 0.101


def test_checks_can_be_asked_for(clock: Clock) -> None:
    work = Work(clock, 60)
    work.run_until(1001)
    work.work.check_soon()
    assert work.run_until(1002) == [("jobs", 1001), ("free", 1001)]
