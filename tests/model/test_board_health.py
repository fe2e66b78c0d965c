"""When boards are out of service, and when they are tried again."""

from __future__ import annotations

import pickle

import pytest

from spalloc_server.model.board_health import BoardHealth
from spalloc_server.model.report_limits import Report

BOARD = (1, 2, 0)


@pytest.fixture
def health() -> BoardHealth:
    health = BoardHealth()
    health.first_interval = 10.0
    health.longest_interval = 35.0
    return health


def report(job_id: int | None, description: str | None = None) -> Report:
    return Report(job_id, "me", 5.0, None, None, None, description)


def test_boards_are_tried_again_at_doubling_intervals(health: BoardHealth) -> None:
    health.take_out("m", BOARD, "broken", now=100.0, wall_time=5.0)
    assert health.boards_out("m") == {BOARD}
    assert health.boards_out("other") == frozenset()
    now = 100.0
    for interval in (10.0, 20.0, 35.0, 35.0):
        assert health.due_tests(now + interval - 0.1) == []
        now += interval
        assert health.due_tests(now) == [("m", BOARD)]
        health.test_started("m", BOARD)
        assert health.due_tests(now + 1e6) == []
        health.test_failed("m", BOARD, now)
    assert health.put_back("m", BOARD)
    assert not health.put_back("m", BOARD)
    assert health.boards_out("m") == frozenset()
    health.test_failed("m", BOARD, now)  # a late result
    assert health.due_tests(now + 1e6) == []


def test_a_board_that_waits_for_its_bmp_is_not_tried(health: BoardHealth) -> None:
    health.take_out("m", BOARD, "no BMP", 100.0, 5.0, waits_for_bmp=True)
    assert health.due_tests(1e9) == []
    assert list(health.waiting_for_bmp("m")) == [BOARD]
    # A failure of its own counts for more, and is not forgotten for the BMP's.
    health.take_out("m", BOARD, "broken", 100.0, 5.0)
    health.take_out("m", BOARD, "no BMP", 100.0, 5.0, waits_for_bmp=True)
    assert list(health.waiting_for_bmp("m")) == []
    out, _ = health.problems_of(("m", BOARD))
    assert out is not None
    assert out.reason == "broken"


def test_two_reports_by_different_jobs_are_needed(health: BoardHealth) -> None:
    for said in (report(1, "slow"), report(1, "still slow"), report(None)):
        assert health.report("m", BOARD, said, 3) == (None, None)
    reason, stays = health.report("m", BOARD, report(2), 3)
    assert reason == "reported by 2 jobs: slow; still slow"
    assert stays is None
    health.take_out("m", BOARD, reason, 100.0, 5.0)
    assert health.report("m", BOARD, report(3), 3) == (None, None)
    assert health.boards(None) == health.boards("m") == [("m", BOARD)]
    assert health.boards("other") == []
    out, reports = health.problems_of(("m", BOARD))
    assert out is not None
    assert len(reports) == 5
    health.forget_machine("m")
    assert health.boards(None) == []
    assert health.problems_of(("m", BOARD)) == (None, [])


def test_tests_are_scheduled_anew_after_a_restart(health: BoardHealth) -> None:
    health.take_out("m", BOARD, "broken", 100.0, 5.0)
    health.test_failed("m", BOARD, 100.0)
    copy = pickle.loads(pickle.dumps(health))
    assert copy.due_tests(1e9) == []
    copy.schedule_tests(7.0)
    assert copy.due_tests(26.9) == []
    assert copy.due_tests(27.0) == [("m", BOARD)]
