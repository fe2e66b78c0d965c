"""What the controller does about boards that fail, with the BMPs' answers by hand."""

from __future__ import annotations

import pickle

import pytest

from spalloc_server.controller import Controller, JobState
from spalloc_server.hardware.requests import AtomicRequests, Failure
from spalloc_server.model.board_states import BoardState
from tests.recorded_bmps import BMPs, RecordedBMP, machine
from tests.support import wait_until


@pytest.fixture
def controller(bmps: BMPs) -> Controller:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine(width=5)}
    return controller


def answer(
    bmps: BMPs, frame: int, success: bool, reason: Failure | str | None = None
) -> None:
    """Answer the oldest request to a frame."""
    bmps[f"bmp-m-{frame}"].requests.pop(0).on_done(success, reason)


def dead(controller: Controller) -> frozenset[tuple[int, int, int]]:
    return controller.list_machines()[0].dead_boards


def test_a_job_whose_board_fails_is_given_others(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    controller.changed_jobs, controller.changed_machines  # noqa: B018
    answer(bmps, 0, False, Failure("FPGA 1 is asleep", frozenset([2])))
    state = controller.get_job_state(None, job_id)
    assert (state.state, state.power) == (JobState.power, True)
    assert controller.get_job_machine_info(None, job_id).boards == {
        (1, 0, z) for z in range(3)
    }
    assert dead(controller) == {(0, 0, 2)}
    assert controller.changed_jobs == {job_id}
    assert controller.changed_machines == {"m"}
    # All boards of the old place are powered off, the good ones used again after.
    assert bmps["bmp-m-0"].requests[0].power_off_boards == [0, 1, 2]
    states = controller.board_states("m")
    assert states[0, 0, 0] is BoardState.powering_off
    answer(bmps, 0, True)
    states = controller.board_states("m")
    assert states[0, 0, 0] is BoardState.free
    assert states[0, 0, 2] is BoardState.out_of_service
    answer(bmps, 1, True)
    assert controller.get_job_state(None, job_id).state is JobState.ready
    (problem,) = controller.list_problems()
    assert problem["machine"] == "m"
    assert problem["board"] == (0, 0, 2)
    assert problem["physical"] == (0, 0, 2)
    assert problem["ip_address"] == "board-m-0-0-2"
    assert problem["out_of_service"] is True
    assert problem["reason"] == "FPGA 1 is asleep"
    assert 590 < problem["next_test"] <= 600
    assert controller.list_problems("other") == []


def test_a_failure_that_names_no_board_is_blamed_on_those_of_the_frame(
    controller: Controller, bmps: BMPs
) -> None:
    controller.create_job(None, 2, 1, owner="me")
    answer(bmps, 1, False, "no answer")
    assert dead(controller) == {(1, 0, z) for z in range(3)}


def test_a_job_is_given_up_after_three_places(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    places = []
    for _ in range(3):
        assert controller.get_job_state(None, job_id).state is JobState.power
        boards = controller.get_job_machine_info(None, job_id).boards
        assert boards is not None
        x = min(boards)[0]
        places.append(x)
        answer(bmps, x, False, Failure("FPGA 0 is asleep", frozenset([1])))
        answer(bmps, x, True)
    assert controller.get_job_state(None, job_id).reason == (
        "Machine configuration failed. Error: FPGA 0 is asleep "
        f"(machine m, board ({x}, 0, 1) at cabinet 0, frame {x}, board 1)"
    )
    assert len(set(places)) == 3
    assert dead(controller) == {(x, 0, 1) for x in places}


def test_a_job_that_fits_nowhere_else_waits_for_the_board_to_come_back(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 5, 1, owner="me", max_dead_boards=0)
    controller.create_job(None, 5, 1, owner="you", max_dead_boards=0)
    answer(bmps, 0, False, Failure("FPGA 0 is asleep", frozenset([1])))
    bmps.answer()
    states = [job.state for job in controller.list_jobs()]
    assert states == [JobState.queued, JobState.queued]
    # Nobody waits for them meanwhile.
    passing = controller.create_job(None, 1, 1, owner="else", max_dead_boards=0)
    assert controller.get_job_state(None, passing).state is JobState.power
    controller.destroy_job(None, passing)
    bmps.answer()
    controller.clear_problem("m", 0, 0, 1)
    assert controller.get_job_state(None, job_id).state is JobState.power


def test_a_job_that_the_configuration_makes_impossible_is_told_what_failed(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 5, 1, owner="me", max_dead_boards=0)
    waiting = controller.create_job(None, 5, 1, owner="you", max_dead_boards=0)
    answer(bmps, 0, False, Failure("FPGA 0 is asleep", frozenset([1])))
    controller.machines = {"m": machine(width=5, dead_boards={(0, 0, 1)})}
    reason = controller.get_job_state(None, job_id).reason
    assert reason == (
        "Machine configuration failed. Error: FPGA 0 is asleep "
        "(machine m, board (0, 0, 1) at cabinet 0, frame 0, board 1); "
        "then cancelled: No suitable machines available."
    )
    # So is one that waits for what it can no longer have.
    assert controller.get_job_state(None, waiting).reason == (
        "Cancelled: No suitable machines available."
    )


def test_a_job_that_was_ready_ends_when_a_reset_fails(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 1, 1, owner="me")
    answer(bmps, 0, True)
    controller.power_on_job_boards(None, job_id)
    answer(bmps, 0, False, Failure("no answer", frozenset([0, 1])))
    assert controller.get_job_state(None, job_id).reason == (
        "Machine configuration failed. Error: no answer (machine m, boards "
        "(0, 0, 0) at cabinet 0, frame 0, board 0; "
        "(0, 0, 1) at cabinet 0, frame 0, board 1)"
    )


def test_a_requeued_job_goes_before_those_that_came_later(
    controller: Controller, bmps: BMPs
) -> None:
    first = controller.create_job(None, 4, 1, owner="me", max_dead_boards=0)
    second = controller.create_job(None, 3, 1, owner="me", max_dead_boards=0)
    third = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    for frame in (1, 2, 3):
        answer(bmps, frame, True)
    assert [job.state for job in controller.list_jobs()] == [
        JobState.power,
        JobState.queued,
        JobState.queued,
    ]
    answer(bmps, 0, False, Failure("asleep", frozenset([0])))
    # Only frames 1 to 4 are left to it, and it does not have them yet.
    assert [job.job_id for job in controller.list_jobs()] == [first, second, third]
    assert [job.state for job in controller.list_jobs()] == [JobState.queued] * 3
    details = controller.job_details()
    assert details[first].rank < details[second].rank < details[third].rank
    assert "asleep" in str(details[first].failure)
    assert details[second].failure is None
    bmps.answer()
    assert controller.get_job_state(None, first).state is JobState.ready
    assert controller.get_job_state(None, second).state is JobState.queued


def test_answers_of_other_frames_come_too_late(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 2, 1, owner="me", max_dead_boards=0)
    answer(bmps, 0, False, Failure("asleep", frozenset([0])))
    info = controller.get_job_machine_info(None, job_id)
    assert info.boards == {(x, 0, z) for x in (2, 3) for z in range(3)} or (
        info.boards == {(x, 0, z) for x in (3, 4) for z in range(3)}
    )
    answer(bmps, 1, True)  # power-on of the old place
    assert controller.get_job_state(None, job_id).state is JobState.power
    bmps.answer()
    assert controller.get_job_state(None, job_id).state is JobState.ready
    assert sorted(controller.board_states("m").values(), key=str) == sorted(
        [BoardState.allocated] * 6
        + [BoardState.out_of_service]
        + [BoardState.free] * 8,
        key=str,
    )


def test_boards_out_of_service_are_tried_again_and_return_by_themselves(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller.set_board_retries(first=100.0, longest=150.0)
    job_id = controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    assert controller.get_job_state(None, job_id).state is JobState.queued
    controller.destroy_job(None, job_id)
    bmps.answer()
    now += 99
    controller.check_free()
    assert bmps.pending() == []
    now += 1
    controller.check_free()
    ((hostname, requests),) = bmps.pending()
    assert hostname == "bmp-m-0"
    assert requests.power_on_boards == [1]
    assert requests.power_off_boards == [1]
    assert dead(controller) == {(0, 0, 1)}
    answer(bmps, 0, False, "still no answer")
    controller.changed_machines  # noqa: B018
    now += 149
    controller.check_free()
    assert bmps.pending() == []
    now += 1
    controller.check_free()
    controller.seconds_before_free = 10
    answer(bmps, 0, True)
    # It rests first, as after a job.
    controller.check_free()
    assert dead(controller) == {(0, 0, 1)}
    now += 10
    controller.check_free()
    assert dead(controller) == frozenset()
    assert controller.changed_machines == {"m"}
    assert controller.list_problems() == []


def test_a_board_is_not_tried_while_somebody_has_it(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    first = controller.create_job(None, 1, 1, owner="me")
    second = controller.create_job(None, 1, 1, owner="you")
    bmps.answer()
    for job_id in (first, second):
        info = controller.get_job_machine_info(None, first)
        assert info.connections is not None
        controller.report_problem(info.connections[0, 0], description=str(job_id))
    # Both were by the job that has the board.
    assert dead(controller) == frozenset()
    controller.destroy_job(None, first)
    bmps.answer()
    controller.destroy_job(None, second)
    third = controller.create_job(None, 1, 1, owner="you")
    bmps.answer()
    info = controller.get_job_machine_info(None, third)
    assert info.connections is not None
    controller.report_problem(info.connections[0, 0], 1, 2, 3, "hot")
    assert dead(controller) == {(0, 0, 0)}
    assert controller.board_states("m")[0, 0, 0] is BoardState.allocated
    now += 700
    controller.check_free()
    assert bmps.pending() == []
    controller.destroy_job(None, third)
    bmps.answer()
    assert controller.board_states("m")[0, 0, 0] is BoardState.out_of_service
    controller.check_free()
    assert [r.power_on_boards for _, r in bmps.pending()] == [[0]]
    (problem,) = controller.list_problems("m")
    assert problem["reason"] == "reported by 2 jobs: 1; 2; hot"
    assert [report["owner"] for report in problem["reports"]] == ["me", "me", "you"]
    assert problem["reports"][-1]["p"] == 3


def test_reports_and_clearing(controller: Controller) -> None:
    with pytest.raises(
        ValueError, match=r"ip_address '1\.2\.3\.4' belongs to no board"
    ):
        controller.report_problem("1.2.3.4")
    controller.report_problem("board-m-3-0-2")
    (problem,) = controller.list_problems()
    assert problem["out_of_service"] is False
    assert problem["reason"] is None
    assert problem["next_test"] is None
    assert problem["reports"][0]["job_id"] is None
    controller.clear_problem("m", 3, 0, 2)
    assert controller.list_problems() == []
    for name, x in (("other", 0), ("m", 5)):
        with pytest.raises(ValueError, match=f"machine '{name}' has no board"):
            controller.clear_problem(name, x, 0, 0)


def test_clearing_puts_a_board_back_at_once(controller: Controller, bmps: BMPs) -> None:
    controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    bmps.answer()
    controller.changed_machines  # noqa: B018
    controller.clear_problem("m", 0, 0, 1)
    assert dead(controller) == frozenset()
    assert controller.changed_machines == {"m"}


def test_a_bmp_that_does_not_answer_and_then_does(
    controller: Controller, bmps: BMPs
) -> None:
    first = controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    controller.destroy_job(None, first)
    bmps.answer()
    on_answer = bmps["bmp-m-0"].on_answer
    assert on_answer is not None
    on_answer("BMP bmp-m-0 does not answer")
    assert dead(controller) == {(0, 0, z) for z in range(3)}
    job_id = controller.create_job(None, 1, 1, owner="me")
    boards = controller.get_job_machine_info(None, job_id).boards
    assert boards is not None
    assert not boards & dead(controller)
    on_answer(None)
    # The board that has failed by itself stays out.
    assert dead(controller) == {(0, 0, 1)}
    controller.changed_machines  # noqa: B018
    on_answer(None)
    assert controller.changed_machines == set()
    # What is heard of a machine that was replaced does not matter any more.
    controller.machines = {"m": machine(width=4)}
    on_answer("BMP bmp-m-0 does not answer")
    assert dead(controller) == {(0, 0, 1)}


def test_a_snapshot_does_not_end_the_tests(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    bmps.answer()
    pickle.dumps(controller)
    assert controller.list_problems()[0]["next_test"] == 600
    now += 600
    controller.check_free()
    assert [r.power_on_boards for _, r in bmps.pending()] == [[1]]


def test_boards_dead_by_configuration_are_not_tried(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    bmps.answer()
    controller.machines = {"m": machine(width=5, dead_boards={(0, 0, 1)})}
    now += 1000
    controller.check_free()
    assert bmps.pending() == []
    assert controller.board_states("m")[0, 0, 1] is BoardState.dead


def test_boards_that_a_machine_no_longer_has_are_no_problem(
    controller: Controller, bmps: BMPs
) -> None:
    controller.create_job(None, 4, 0, 1, owner="me", machine="m")
    answer(bmps, 4, False, "no answer")
    bmps.answer()
    assert dead(controller) == {(4, 0, 1)}
    controller.machines = {"m": machine(width=4)}
    assert dead(controller) == frozenset()
    assert controller.list_problems() == []
    assert set(controller.board_states("m").values()) == {BoardState.free}
    controller.machines = {"m": machine(width=5)}
    assert dead(controller) == {(4, 0, 1)}


def test_boards_of_a_machine_that_was_wired_anew_may_still_be_on(
    controller: Controller, bmps: BMPs
) -> None:
    controller.create_job(None, 5, 1, owner="me")
    bmps.answer()
    old = [bmps[f"bmp-m-{x}"] for x in range(5)]
    # A frame fewer, so that all jobs end.
    controller.machines = {"m": machine(width=4)}
    for bmp in old:
        bmp.requests.pop(0).on_done(False, Failure("no answer", frozenset([2])))
    assert dead(controller) == {(x, 0, 2) for x in range(4)}
    assert set(controller.board_states("m").values()) == {
        BoardState.free,
        BoardState.out_of_service,
    }


def test_reports_outlive_the_silence_of_a_bmp(
    controller: Controller, bmps: BMPs
) -> None:
    controller.report_problem("board-m-3-0-2", description="hot")
    on_answer = bmps["bmp-m-3"].on_answer
    assert on_answer is not None
    on_answer("silent")
    on_answer(None)
    assert dead(controller) == frozenset()
    (problem,) = controller.list_problems()
    assert problem["reports"][0]["description"] == "hot"


def test_one_job_cannot_report_without_end(controller: Controller, bmps: BMPs) -> None:
    controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    for number in range(10):
        controller.report_problem("board-m-0-0-1", description=str(number))
    for _ in range(90):
        with pytest.raises(ValueError, match="reported 10 times by job 1"):
            controller.report_problem("board-m-0-0-1", description="again")
    (problem,) = controller.list_problems()
    kept = [report["description"] for report in problem["reports"]]
    assert kept == [str(number) for number in range(10)]
    assert dead(controller) == frozenset()


def test_problems_survive_restarts_and_reloads(
    controller: Controller, bmps: BMPs
) -> None:
    controller.create_job(None, 0, 0, 1, owner="me", machine="m")
    answer(bmps, 0, False, "no answer")
    bmps.answer()
    copy = pickle.loads(pickle.dumps(controller))
    assert dead(copy) == {(0, 0, 1)}
    assert copy.list_problems()[0]["next_test"] > 0
    copy.machines = {"m": machine(width=5, tags=frozenset({"default", "x"}))}
    assert dead(copy) == {(0, 0, 1)}
    assert copy.create_job(None, 0, 0, 1, owner="me", machine="m") == 2
    assert copy.get_job_state(None, 2).state is JobState.queued
    # Wired anew it is still the same machine; gone, it is forgotten.
    copy.machines = {"m": machine(width=4)}
    assert dead(copy) == {(0, 0, 1)}
    copy.machines = {}
    copy.machines = {"m": machine(width=4)}
    assert dead(copy) == frozenset()


def test_boards_are_said_to_have_cooled_before_what_comes_of_it(
    controller: Controller, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller.seconds_before_free = 0.001
    first = controller.create_job(None, 5, 1, owner="me")
    bmps.answer()
    second = controller.create_job(None, 5, 1, owner="me")
    controller.destroy_job(None, first)
    bmps.answer()
    events: list[str] = []
    controller.on_event = lambda event: events.append(event[0])

    def fail_at_once(bmp: RecordedBMP, requests: AtomicRequests) -> None:
        requests.on_done(False, "no answer")

    monkeypatch.setattr(RecordedBMP, "add_requests", fail_at_once)

    def has_cooled() -> bool:
        controller.check_free()
        return bool(events)

    wait_until(has_cooled)
    assert events[:2] == ["cooled", "failed"]
    assert controller.get_job_state(None, second).state is JobState.queued
