"""What operators order, and why jobs wait for boards that are withheld."""

from __future__ import annotations

import re

import pytest

from spalloc_server.controller import Controller, JobState
from spalloc_server.coordinates import Board
from spalloc_server.hardware.requests import Failure
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.changes import (
    Change,
    Close,
    Drain,
    EndJobs,
    MoveJob,
    Open,
    RefusedError,
    Resume,
)
from tests.recorded_bmps import BMPs, machine

WHOLE = {"owner": "me", "max_dead_boards": 0}


@pytest.fixture(params=["fifo", "backfill"])
def controller(bmps: BMPs, request: pytest.FixtureRequest) -> Controller:
    controller = Controller(seconds_before_free=0)
    settings = controller.settings._replace(scheduling=request.param)
    controller.configure(settings, {"m": machine(width=3)})
    return controller


def boards(*columns: int) -> list[Board]:
    return [(x, 0, z) for x in columns for z in range(3)]


def state(controller: Controller, job_id: int) -> JobState:
    return controller.get_job_state(None, job_id).state


def text(controller: Controller, job_id: int) -> str:
    waiting = controller.waiting(job_id)
    assert waiting is not None
    assert waiting.reason == "withheld"
    assert waiting.text is not None
    return re.sub(r"\d\d:\d\d", "TIME", waiting.text)


def test_a_job_that_needs_drained_boards_is_passed(
    controller: Controller, bmps: BMPs
) -> None:
    controller.apply(Drain("ada", "m", boards(1), "fans", False))
    large = controller.create_job(None, 3, 1, **WHOLE)
    # In the middle there is nothing: only what lies beside it can be had.
    small = [controller.create_job(None, 1, 1, **WHOLE) for _ in range(3)]
    assert [state(controller, job) for job in (large, *small)] == [
        *(JobState.queued, JobState.power, JobState.power, JobState.queued),
    ]
    assert text(controller, large) == (
        "waiting: frame (0, 1) is drained since TIME: fans"
    )
    waiting = controller.waiting(small[2])
    assert waiting is not None
    assert (waiting.reason, waiting.text) == ("first", None)
    for job in small:
        controller.destroy_job(None, job)
    bmps.answer()
    controller.apply(Resume("ada", "m", boards(1), None))
    assert state(controller, large) is JobState.power


def test_it_keeps_its_place(controller: Controller, bmps: BMPs) -> None:
    running = controller.create_job(None, 3, 1, **WHOLE)
    first, second = (controller.create_job(None, 3, 1, **WHOLE) for _ in range(2))
    single = controller.create_job(None, 2, 1, **WHOLE)
    controller.apply(Drain("ada", "m", boards(2), None, False))
    bmps.answer()
    controller.destroy_job(None, running)
    bmps.answer()
    # It passes both while they cannot start.
    assert state(controller, single) is JobState.ready
    assert (
        text(controller, first) == "waiting: frame (0, 2) is drained since TIME: by ada"
    )
    controller.apply(Resume("ada", "m", boards(2), None))
    bmps.answer()
    controller.destroy_job(None, single)
    bmps.answer()
    assert state(controller, first) is JobState.ready
    assert state(controller, second) is JobState.queued


def test_drained_boards_of_a_job_go_with_it(controller: Controller, bmps: BMPs) -> None:
    controller.seconds_before_free = 1000
    job = controller.create_job(None, 1, 1, owner="me")
    bmps.answer()
    controller.apply(Drain("ada", "m", boards(0), "fans", False))

    def states() -> set[BoardState]:
        found = controller.board_states("m")
        return {found[board] for board in boards(0)}

    assert states() == {BoardState.draining}
    controller.destroy_job(None, job)
    # They are not off yet.
    assert states() == {BoardState.draining}
    bmps.answer()
    assert states() == {BoardState.drained}
    assert controller.list_machines()[0].dead_boards == set(boards(0))
    controller.apply(Resume("ada", "m", boards(0), None))
    assert states() == {BoardState.cooling}


def test_drained_boards_are_not_tried(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have their hands in them."""
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    job = controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    failure = Failure("FPGA 1 is asleep", frozenset([1]))
    bmps["bmp-m-0"].requests.pop(0).on_done(False, failure)
    controller.destroy_job(None, job)
    bmps.answer()
    controller.apply(Drain("ada", "m", [(0, 0, 1)], None, False))
    now += 100_000
    controller.check_free()
    assert bmps.pending() == []
    assert controller.board_states("m")[0, 0, 1] is BoardState.drained
    controller.apply(Resume("ada", "m", [(0, 0, 1)], None))
    assert controller.board_states("m")[0, 0, 1] is BoardState.out_of_service
    controller.check_free()
    assert [r.power_on_boards for _, r in bmps.pending()] == [[1]]


def test_silent_frames_and_boards_are_told_apart(
    controller: Controller, bmps: BMPs
) -> None:
    on_answer = bmps["bmp-m-2"].on_answer
    assert on_answer is not None
    on_answer("nobody there")
    job = controller.create_job(None, 3, 1, **WHOLE)
    assert text(controller, job) == "waiting: frame (0, 2) does not answer since TIME"
    board = controller.create_job(None, 2, 0, 1, owner="me", machine="m")
    assert text(controller, board) == (
        "waiting: board (2, 0, 1) does not answer since TIME"
    )
    for x in range(2):
        for z in range(2):
            order = Drain("ada", "m", [(x, 0, z)], f"{x}{z}", False)
            controller.apply(order)
    assert text(controller, job) == (
        "waiting: board (0, 0, 0) is drained since TIME: 00; "
        "board (0, 0, 1) is drained since TIME: 01; "
        "board (1, 0, 0) is drained since TIME: 10; and 2 more"
    )
    controller.destroy_job(None, board)
    on_answer(None)
    for x in range(2):
        controller.apply(Resume("ada", "m", boards(x), None))
    assert state(controller, job) is JobState.power


def test_a_closed_machine_is_no_reason_to_give_up(
    controller: Controller, bmps: BMPs
) -> None:
    controller.apply(Close("ada", None, "night"))
    assert controller.list_machines()[0].dead_boards == frozenset()
    job = controller.create_job(None, owner="me")
    assert text(controller, job) == "waiting: machine m is closed since TIME: night"
    # A machine that comes later is closed, too.
    controller.machines = {"m": machine(width=3), "n": machine("n")}
    assert state(controller, job) is JobState.queued
    controller.apply(Open("ada", "n", None))
    assert state(controller, job) is JobState.power
    other = controller.create_job(None, owner="me", machine="m")
    assert state(controller, other) is JobState.queued
    controller.apply(Open("ada", None, None))
    assert state(controller, other) is JobState.power


def test_what_the_configuration_makes_impossible_ends(controller: Controller) -> None:
    controller.apply(Drain("ada", "m", boards(0, 1, 2), None, False))
    job = controller.create_job(None, 4, 1, owner="me")
    assert controller.get_job_state(None, job).reason == (
        "Cancelled: No suitable machines available."
    )
    waiting = controller.create_job(None, 3, 1, **WHOLE)
    assert state(controller, waiting) is JobState.queued
    controller.machines = {"m": machine(width=3, dead_boards={(1, 0, 1)})}
    assert state(controller, waiting) is JobState.destroyed


def test_the_orders_of_a_machine_go_with_it(controller: Controller) -> None:
    controller.apply(Drain("ada", "m", boards(0, 2), None, False))
    controller.apply(Close("ada", "m", None))
    # Wired anew it is still the same machine, of which a column is gone.
    controller.machines = {"m": machine(width=2)}
    assert controller.list_machines()[0].dead_boards == set(boards(0))
    controller.machines = {}
    controller.machines = {"m": machine(width=3)}
    assert controller.list_machines()[0].dead_boards == frozenset()
    assert state(controller, controller.create_job(None, owner="me")) is JobState.power


def test_a_job_that_was_moved_is_the_next(controller: Controller, bmps: BMPs) -> None:
    running = controller.create_job(None, 3, 1, **WHOLE)
    jobs = [controller.create_job(None, 3, 1, **WHOLE) for _ in range(3)]
    controller.apply(MoveJob("ada", jobs[1], None))
    controller.apply(MoveJob("ada", jobs[2], None))
    assert [controller.waiting(job).places[0].place for job in jobs] == [3, 2, 1]  # type: ignore[union-attr]
    bmps.answer()
    for job in (running, jobs[2], jobs[1], jobs[0]):
        bmps.answer()
        assert state(controller, job) is JobState.ready
        controller.destroy_job(None, job)
        bmps.answer()


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        (Drain("ada", "x", [], None, False), "there is no machine 'x'"),
        (Drain("ada", "m", [(9, 0, 0)], None, False), "has no board"),
        (Resume("ada", "x", [], None), "there is no machine 'x'"),
        (Close("ada", "x", None), "there is no machine 'x'"),
        (Open("ada", "x", None), "there is no machine 'x'"),
        (MoveJob("ada", 99, None), "there is no job 99"),
    ],
)
def test_what_cannot_be_done_changes_nothing(
    controller: Controller, order: Change, problem: str
) -> None:
    before = controller.__getstate__()
    with pytest.raises(RefusedError, match=problem):
        controller.apply(order)
    assert controller.__getstate__() == before


def test_jobs_that_have_ended_meanwhile_are_passed_over(controller: Controller) -> None:
    jobs = [controller.create_job(None, owner="me") for _ in range(2)]
    controller.destroy_job(None, jobs[0])
    assert controller.apply(EndJobs("ada", [*jobs, 77], "enough")) == [jobs[1]]
    assert controller.get_job_state(None, jobs[1]).reason == "enough"
