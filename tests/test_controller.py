"""The controller, with its documented seam to the BMPs recorded.

What the real BMP controllers and the whole server do is tested elsewhere; here
the requests and their answers are in the hands of the test.
"""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from typing import Any

import pytest

from spalloc_server.controller import Controller, JobState
from spalloc_server.links import Links
from spalloc_server.model.board_states import BoardState
from tests.recorded_bmps import BMPs, machine


@pytest.fixture
def controller(bmps: BMPs) -> Controller:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine()}
    assert controller.changed_machines == {"m"}
    return controller


def test_jobs_are_told_in_the_words_in_which_they_were_asked_for(
    controller: Controller, bmps: BMPs
) -> None:
    asked: list[dict[str, Any]] = [
        {"min_ratio": 1, "max_dead_boards": 1},
        {"min_ratio": 1.0, "max_dead_boards": 1},
        {"max_dead_boards": 1, "min_ratio": 1},
        {"max_dead_boards": True, "min_ratio": True},
    ]
    for demands in asked * 2:
        controller.create_job(None, 1, owner="me", **demands)
    controller.create_job(None, True, owner="me")
    told = [(job.args, job.kwargs) for job in controller.list_jobs()]
    expected = [((1,), demands) for demands in asked * 2] + [((True,), {})]
    assert repr(told) == repr(expected)


def test_a_job_from_creation_to_its_end(controller: Controller, bmps: BMPs) -> None:
    calls: list[None] = []
    controller.on_background_state_change = lambda: calls.append(None)
    job_id = controller.create_job("1.2.3.4", owner="me", keepalive=5)
    assert controller.changed_jobs == {job_id}
    assert controller.changed_jobs == set()
    assert controller.changed_machines == {"m"}
    state = controller.get_job_state("1.2.3.5", job_id)
    assert state[:4] == (JobState.power, True, 5.0, None)
    assert state.keepalivehost == "1.2.3.5"

    ((hostname, requests),) = bmps.pending()
    assert hostname == "bmp-m-0"
    assert requests.power_on_boards == [0]
    assert requests.power_off_boards == []
    assert {tuple(r) for r in requests.link_requests} == {
        (0, link, False) for link in Links
    }
    assert calls == []
    bmps.answer()
    assert calls == [None]
    assert controller.get_job_state(None, job_id).state is JobState.ready
    assert controller.changed_jobs == {job_id}
    assert controller.changed_machines == set()

    info = controller.get_job_machine_info(None, job_id)
    assert info == (8, 8, {(0, 0): "board-m-0-0-0"}, "m", {(0, 0, 0)})

    controller.destroy_job(None, job_id, "finished")
    state = controller.get_job_state(None, job_id)
    assert state == (JobState.destroyed, None, None, "finished", None, None)
    assert controller.get_job_machine_info(None, job_id) == (None,) * 5
    assert controller.changed_jobs == {job_id}
    assert controller.changed_machines == {"m"}
    ((_, requests),) = bmps.pending()
    assert requests.power_on_boards == []
    assert requests.power_off_boards == [0]
    assert requests.link_requests == []
    assert controller.list_jobs() == []


def test_boards_are_given_to_others_only_after_power_off(
    controller: Controller, bmps: BMPs
) -> None:
    first = controller.create_job(None, 1, 1, owner="me")
    second = controller.create_job(None, 1, 1, owner="me")
    assert controller.get_job_state(None, second).state is JobState.queued
    bmps.answer()
    controller.destroy_job(None, first)
    assert controller.get_job_state(None, second).state is JobState.queued
    bmps["bmp-m-0"].requests.pop().on_done(True)
    assert controller.get_job_state(None, second).state is JobState.power


def test_a_job_over_several_frames_is_ready_when_all_are(
    controller: Controller, bmps: BMPs
) -> None:
    controller.machines = {"m": machine(width=3)}
    job_id = controller.create_job(None, 2, 1, owner="me")
    pending = dict(bmps.pending())
    assert sorted(pending) == ["bmp-m-0", "bmp-m-1"]
    assert [sorted(r.power_on_boards) for r in pending.values()] == [[0, 1, 2]] * 2
    # Links between the two frames stay open, those to the third triad are closed.
    assert (1, Links.east, False) not in pending["bmp-m-0"].link_requests
    assert (1, Links.east, False) in pending["bmp-m-1"].link_requests
    pending["bmp-m-0"].on_done(True)
    assert controller.get_job_state(None, job_id).state is JobState.power
    pending["bmp-m-1"].on_done(True)
    assert controller.get_job_state(None, job_id).state is JobState.ready
    info = controller.get_job_machine_info(None, job_id)
    assert info.width == 28
    assert info.height == 12
    assert info.connections is not None
    assert info.connections[20, 4] == "board-m-1-0-1"


def test_power_commands(controller: Controller, bmps: BMPs) -> None:
    job_id = controller.create_job(None, 1, 1, owner="me")
    bmps.answer()
    controller.changed_jobs  # noqa: B018
    controller.power_off_job_boards("9.9.9.9", job_id)
    state = controller.get_job_state(None, job_id)
    assert (state.state, state.power) == (JobState.power, False)
    assert state.keepalivehost == "9.9.9.9"
    assert bmps["bmp-m-0"].requests[-1].power_off_boards == [0, 1, 2]
    assert bmps["bmp-m-0"].requests[-1].link_requests == []
    controller.power_on_job_boards(None, job_id)
    assert controller.changed_jobs == {job_id}
    off, on = bmps["bmp-m-0"].requests
    assert on.power_on_boards == [0, 1, 2]
    assert on.link_requests == []  # a machine of one triad has no periphery
    off.on_done(True)
    assert controller.get_job_state(None, job_id).state is JobState.power
    on.on_done(True)
    state = controller.get_job_state(None, job_id)
    assert (state.state, state.power) == (JobState.ready, True)


def test_boards_that_cannot_be_powered_off_are_kept_back(
    controller: Controller, bmps: BMPs
) -> None:
    controller.machines = {"m": machine(width=2)}
    first = controller.create_job(None, 2, 1, owner="me")
    bmps.answer()
    controller.destroy_job(None, first)
    for bmp, success in ((bmps["bmp-m-0"], True), (bmps["bmp-m-1"], False)):
        bmp.requests.pop().on_done(success, None if success else "no answer")
    assert bmps.pending() == []
    assert controller.list_machines()[0].dead_boards == {(1, 0, z) for z in range(3)}
    states = controller.board_states("m")
    assert {states[0, 0, z] for z in range(3)} == {BoardState.free}
    assert {states[1, 0, z] for z in range(3)} == {BoardState.out_of_service}


def test_jobs_of_unknown_id(controller: Controller) -> None:
    state = controller.get_job_state(None, 99)
    assert state == (JobState.unknown, None, None, None, None, None)
    assert controller.get_job_machine_info(None, 99) == (None,) * 5
    controller.job_keepalive(None, 99)
    controller.power_on_job_boards(None, 99)
    controller.power_off_job_boards(None, 99)
    controller.destroy_job(None, 99)
    assert controller.changed_jobs == set()


def test_commands_on_a_queued_job(controller: Controller, bmps: BMPs) -> None:
    controller.create_job(None, 1, 1, owner="me")
    bmps.answer()
    queued = controller.create_job(None, 1, 1, owner="me", min_ratio=0.5)
    controller.power_on_job_boards(None, queued)
    controller.power_off_job_boards(None, queued)
    assert bmps.pending() == []
    assert controller.get_job_machine_info(None, queued) == (None,) * 5
    state = controller.get_job_state(None, queued)
    assert (state.state, state.power) == (JobState.queued, None)
    listed = controller.list_jobs()
    assert [job.job_id for job in listed] == [1, 2]
    assert listed[1].args == (1, 1)
    assert listed[1].kwargs == {"min_ratio": 0.5}
    assert listed[1].boards is None
    assert listed[1].allocated_machine_name is None
    assert listed[1].keepalivehost == ""
    assert listed[0].allocated_machine_name == "m"
    assert listed[0].boards == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}
    controller.destroy_job(None, queued)
    assert controller.get_job_state(None, queued).reason == "Cancelled: "
    queued = controller.create_job(None, 1, 1, owner="me")
    controller.destroy_job(None, queued, "not needed")
    assert controller.get_job_state(None, queued).reason == "Cancelled: not needed"


def test_a_job_that_can_never_run(controller: Controller) -> None:
    job_id = controller.create_job(None, 2, 1, owner="me")
    state = controller.get_job_state(None, job_id)
    assert state.state is JobState.destroyed
    assert state.reason == "Cancelled: No suitable machines available."
    assert controller.changed_jobs == {job_id}


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, TypeError, "^owner must be specified for all jobs$"),
        ({"owner": None}, TypeError, "^owner must be specified for all jobs$"),
        ({"owner": "me", "colour": "red"}, TypeError, "colour"),
        ({"owner": "me", "machine": "m", "tags": ["t"]}, TypeError, "only one of"),
        ({"owner": "me", "require_torus": True}, ValueError, "require_torus"),
        ({"owner": "me", "keepalive": "soon"}, ValueError, "soon"),
    ],
)
def test_a_refused_job_leaves_no_trace(
    controller: Controller,
    kwargs: dict[str, Any],
    error: type[Exception],
    message: str,
) -> None:
    told: list[object] = []
    controller.on_job_event = told.append
    with pytest.raises(error, match=message):
        controller.create_job(None, **kwargs)
    assert told == []
    assert controller.list_jobs() == []
    assert controller.changed_jobs == set()
    assert controller.create_job(None, owner="me") == 1


def test_owners_are_made_strings_and_keepalives_floats(controller: Controller) -> None:
    controller.create_job(None, owner=17, keepalive=None)
    controller.create_job(None, owner="me", keepalive=3)
    first, second = controller.list_jobs()
    assert (first.owner, first.keepalive) == ("17", None)
    assert isinstance(second.keepalive, float)


def test_jobs_time_out_unless_kept_alive(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    silent = controller.create_job(None, owner="me", keepalive=10)
    kept = controller.create_job(None, owner="me", keepalive=10)
    immortal = controller.create_job(None, owner="me", keepalive=None)
    now += 9
    controller.destroy_timed_out_jobs()
    controller.job_keepalive("1.1.1.1", kept)
    now += 1
    controller.destroy_timed_out_jobs()
    assert controller.get_job_state(None, silent).reason == "Job timed out."
    now += 8
    controller.destroy_timed_out_jobs()
    assert [job.job_id for job in controller.list_jobs()] == [kept, immortal]
    now += 1
    controller.destroy_timed_out_jobs()
    assert [job.job_id for job in controller.list_jobs()] == [immortal]


def test_ended_jobs_are_forgotten_in_time(controller: Controller, bmps: BMPs) -> None:
    controller.max_retired_jobs = 2
    ids = [controller.create_job(None, 1, 1, owner="me") for _ in range(4)]
    for job_id in ids:
        controller.destroy_job(None, job_id, "r")
    states = [controller.get_job_state(None, job_id).state for job_id in ids]
    assert states == [JobState.unknown] * 2 + [JobState.destroyed] * 2
    # A forgotten job's boards come back all the same.
    bmps.answer()
    again = controller.create_job(None, 1, 1, owner="me")
    assert controller.get_job_state(None, again).state is JobState.power
    controller.max_retired_jobs = 0
    assert controller.get_job_state(None, ids[-1]).state is JobState.unknown


def test_machines_are_listed_by_priority(controller: Controller) -> None:
    special = machine(
        "n",
        tags={"x"},
        dead_boards={(0, 0, 2)},
        dead_links={(0, 0, 0, Links.north)},
    )
    controller.machines = OrderedDict([("n", special), ("m", machine())])
    assert controller.changed_machines == {"n"}
    first, second = controller.list_machines()
    assert first == ("n", {"x"}, 1, 1, {(0, 0, 2)}, {(0, 0, 0, Links.north)})
    assert second.name == "m"
    assert list(controller.machines) == ["n", "m"]


def test_minor_changes_leave_jobs_alone(controller: Controller, bmps: BMPs) -> None:
    running = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    waiting = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    bmps.answer()
    controller.machines = {"m": machine(dead_boards={(0, 0, 1)})}
    assert controller.changed_machines == {"m"}
    assert controller.get_job_state(None, running).state is JobState.ready
    assert controller.get_job_state(None, waiting).reason == (
        "Cancelled: No suitable machines available."
    )
    assert len(bmps.made) == 1


def test_a_removed_machine_takes_its_jobs_with_it(
    controller: Controller, bmps: BMPs
) -> None:
    running = controller.create_job(None, 1, 1, owner="me")
    bmps.answer()
    controller.machines = {}
    assert controller.get_job_state(None, running).reason == "Machine removed."
    bmp = bmps["bmp-m-0"]
    assert bmp.stopped
    assert bmp.requests[-1].power_off_boards == [0, 1, 2]
    # Nobody is left who could try again.
    bmps.answer(success=False, reason="gone")
    assert bmps.pending() == []
    assert controller.list_machines() == []


def test_a_rewired_machine_is_replaced_after_the_old_one_has_finished(
    controller: Controller, bmps: BMPs
) -> None:
    running = controller.create_job(None, 1, 1, owner="me")
    waiting = controller.create_job(None, 2, 1, owner="me", machine="m")
    assert controller.get_job_state(None, waiting).state is JobState.destroyed
    old = bmps["bmp-m-0"]
    controller.machines = {"m": machine(width=2)}
    assert controller.get_job_state(None, running).reason == "Machine removed."
    new = bmps["bmp-m-0"]
    assert new is not old
    assert old.stopped
    assert not old.joined
    assert new.on_thread_start is not None
    new.on_thread_start()
    assert old.joined
    # Nobody else has to wait for that.
    assert bmps["bmp-m-1"].on_thread_start is None


def test_places(controller: Controller, bmps: BMPs) -> None:
    controller.machines = {"m": machine(width=2, height=2)}
    assert controller.get_board_position("m", 1, 0, 2) == (0, 1, 2)
    assert controller.get_board_position("m", 2, 0, 0) is None
    assert controller.get_board_position("other", 0, 0, 0) is None
    assert controller.get_board_at_position("m", 0, 1, 5) == (1, 1, 2)
    assert controller.get_board_at_position("m", 0, 9, 9) is None
    assert controller.get_board_at_position("other", 0, 0, 0) is None

    job_id = controller.create_job(None, 1, 1, 2, owner="me", machine="m")
    board = {
        "machine": "m",
        "logical": (1, 1, 2),
        "physical": (0, 1, 5),
        "chip": (16, 20),
        "board_chip": (0, 0),
        "job_id": job_id,
        "job_chip": (0, 0),
    }
    assert controller.where_is(machine="m", x=1, y=1, z=2) == board
    assert controller.where_is(machine="m", cabinet=0, frame=1, board=5) == board
    chip = {**board, "chip": (20, 23), "board_chip": (4, 3), "job_chip": (4, 3)}
    assert controller.where_is(machine="m", chip_x=20, chip_y=23) == chip
    assert controller.where_is(job_id=job_id, chip_x=4, chip_y=3) == chip
    # A corner of the 8 x 8 square that is on a neighbouring board.
    assert controller.where_is(job_id=job_id, chip_x=0, chip_y=7) is None
    free = controller.where_is(machine="m", x=0, y=0, z=0)
    assert free is not None
    assert (free["job_id"], free["job_chip"]) == (None, None)
    controller.destroy_job(None, job_id)
    assert controller.where_is(job_id=job_id, chip_x=0, chip_y=0) is None
    assert (controller.where_is(machine="m", x=1, y=1, z=2) or {})["job_id"] is None

    for unknown in (
        {"machine": "other", "x": 0, "y": 0, "z": 0},
        {"machine": "other", "cabinet": 0, "frame": 0, "board": 0},
        {"machine": "other", "chip_x": 0, "chip_y": 0},
        {"machine": "m", "x": 0, "y": 0, "z": 3},
        {"machine": "m", "cabinet": 5, "frame": 0, "board": 0},
        {"job_id": 77, "chip_x": 0, "chip_y": 0},
    ):
        assert controller.where_is(**unknown) is None
    # Beyond an edge it goes on at the opposite one, as for chips.
    width, height = controller.machines["m"].width, controller.machines["m"].height
    for x, y in ((1 + width, 1), (1 - width, 1 - height), (1 + 5 * width, 1 + height)):
        around = controller.where_is(machine="m", x=x, y=y, z=2)
        assert around == controller.where_is(machine="m", x=1, y=1, z=2)
    with pytest.raises(TypeError, match="these arguments: machine, x"):
        controller.where_is(machine="m", x=0)
    with pytest.raises(TypeError, match="these arguments: none"):
        controller.where_is()


def test_places_in_a_job_that_wraps_around(controller: Controller) -> None:
    controller.machines = {"m": machine(width=2, height=2)}
    job_id = controller.create_job(None, 2, 2, owner="me")
    place = controller.where_is(job_id=job_id, chip_x=0, chip_y=7)
    assert place is not None
    assert place["logical"] == (1, 0, 1)
    assert place["job_chip"] == (0, 7)


def test_a_stopped_controller_goes_on_after_pickling(
    controller: Controller, bmps: BMPs
) -> None:
    controller.on_background_state_change = lambda: None
    running = controller.create_job("1.1.1.1", 1, 1, owner="me")
    waiting = controller.create_job(None, owner="you")
    bmps.answer()
    controller.destroy_job(None, controller.create_job(None, owner="me"), "why")
    controller.stop()
    controller.join()
    assert [(bmp.stopped, bmp.joined) for bmp in bmps.made] == [(True, True)]
    copy = pickle.loads(pickle.dumps(controller))
    assert copy.on_background_state_change is None
    assert copy.get_job_state(None, running).state is JobState.ready
    assert copy.get_job_state(None, waiting).state is JobState.queued
    assert copy.get_job_state(None, 3).reason == "Cancelled: why"
    assert copy.create_job(None, owner="me") == 4
    # Nothing had to be done to the boards; now they are powered off.
    assert bmps.pending() == []
    copy.destroy_job(None, running)
    bmps.answer()
    assert copy.get_job_state(None, waiting).state is JobState.ready
    assert (copy.where_is(machine="m", x=0, y=0, z=0) or {})["job_id"] == waiting


def test_every_job_gets_its_whole_keepalive_after_a_restart(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    job_id = controller.create_job(None, owner="me", keepalive=10)
    pickled = pickle.dumps(controller)
    now += 1000
    copy = pickle.loads(pickled)
    now += 9
    copy.destroy_timed_out_jobs()
    assert [job.job_id for job in copy.list_jobs()] == [job_id]
    now += 2
    copy.destroy_timed_out_jobs()
    assert copy.list_jobs() == []


def test_interrupted_power_changes_are_done_again(
    controller: Controller, bmps: BMPs
) -> None:
    controller.machines = {"m": machine(width=3)}
    on = controller.create_job(None, 1, 1, owner="me")
    off = controller.create_job(None, 1, 1, owner="me")
    gone = controller.create_job(None, 1, 1, owner="me")
    controller.power_off_job_boards(None, off)
    controller.destroy_job(None, gone)
    pickled = pickle.dumps(controller)
    bmps.made.clear()
    copy = pickle.loads(pickled)
    pending = dict(bmps.pending())
    assert pending["bmp-m-0"].power_on_boards == [0, 1, 2]
    assert pending["bmp-m-0"].link_requests
    for frame in (1, 2):
        assert pending[f"bmp-m-{frame}"].power_off_boards == [0, 1, 2]
        assert not pending[f"bmp-m-{frame}"].link_requests
    bmps.answer()
    assert [copy.get_job_state(None, j).state for j in (on, off)] == [
        JobState.ready
    ] * 2
    again = copy.create_job(None, 1, 1, owner="me")
    assert copy.get_job_state(None, again).state is JobState.power


def test_a_failure_while_stopping_is_dealt_with_after_the_restart(
    controller: Controller, bmps: BMPs
) -> None:
    job_id = controller.create_job(None, 1, 1, owner="me")
    ((_, requests),) = bmps.pending()
    controller.stop()
    controller.join()
    requests.on_done(False, "no answer")
    assert controller.get_job_state(None, job_id).state is JobState.queued
    bmps.made.clear()
    copy = pickle.loads(pickle.dumps(controller))
    # The old boards are powered off now: there was nobody any more to do it.
    assert [r.power_off_boards for _, r in bmps.pending()] == [[0, 1, 2]]
    bmps.answer()
    assert set(copy.board_states("m").values()) == {BoardState.out_of_service}


def test_boards_given_while_stopping_are_powered_on_after_the_restart(
    controller: Controller, bmps: BMPs
) -> None:
    controller.machines = {"m": machine(width=2)}
    job_id = controller.create_job(None, 1, 1, owner="me", max_dead_boards=0)
    ((failing, requests),) = bmps.pending()
    controller.stop()
    controller.join()
    requests.on_done(False, "no answer")
    state = controller.get_job_state(None, job_id)
    assert (state.state, state.power) == (JobState.power, True)
    bmps.made.clear()
    copy = pickle.loads(pickle.dumps(controller))
    pending = dict(bmps.pending())
    assert pending.pop(failing).power_off_boards == [0, 1, 2]
    ((_, request),) = pending.items()
    assert request.power_on_boards == [0, 1, 2]
    bmps.answer()
    assert copy.get_job_state(None, job_id).state is JobState.ready
    # Nothing but the first place has failed.
    assert len(copy.list_problems()) == 3


def test_results_may_come_from_any_thread(controller: Controller, bmps: BMPs) -> None:
    controller.machines = {"m": machine(width=8)}
    job_id = controller.create_job(None, 8, 1, owner="me")
    threads = [
        threading.Thread(target=requests.on_done, args=(True,))
        for _, requests in bmps.pending()
    ]
    assert len(threads) == 8
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert controller.get_job_state(None, job_id).state is JobState.ready


def test_details_of_jobs(controller: Controller, bmps: BMPs) -> None:
    controller.machines = {
        "m": machine(),
        "n": machine("n", tags={"default", "big"}),
    }
    first = controller.create_job(None, 1, 1, owner="me")
    controller.create_job(None, 1, 1, owner="me")
    any_machine = controller.create_job(None, 1, owner="me")
    tagged = controller.create_job(None, owner="me", tags=["big"])
    before = controller.job_details()
    assert list(before) == [1, 2, 3, 4]
    assert before[first].queues == ()
    assert before[any_machine].queues == ("m", "n")
    assert before[tagged].queues == ("n",)
    assert before[any_machine].rank < before[tagged].rank
    # Looking on does not keep a job alive.
    assert controller.job_details() == before
    controller.job_keepalive("1.2.3.4", first)
    after = controller.job_details()
    assert after[first].heard_at > before[first].heard_at
    assert after[tagged] == before[tagged]
