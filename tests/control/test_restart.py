"""Answers of the hardware that come at the worst moment of a restart or a reload."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from spalloc_server import controller as controller_module
from spalloc_server.controller import Controller, JobState
from spalloc_server.hardware.requests import AtomicRequests
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job import _Job
from tests.recorded_bmps import BMPs, RecordedBMP, machine
from tests.support import wait_until

LEFT, RIGHT = "bmp-m-0", "bmp-m-1"


class EagerBMP(RecordedBMP):
    """Answers as soon as it is asked whether it is there."""

    threads: list[threading.Thread]
    in_a_thread = True

    def watch(self, on_answer: Callable[[str | None], object]) -> None:
        super().watch(on_answer)
        if self.in_a_thread:
            thread = threading.Thread(target=on_answer, args=(None,), daemon=True)
            self.threads.append(thread)
            thread.start()
        else:
            on_answer(None)


@pytest.fixture(params=[True, False], ids=["from its thread", "within watch"])
def restarted(
    bmps: BMPs, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Controller:
    """Restart a controller with a job that waits for a frame which answers again."""
    before = Controller(seconds_before_free=0)
    before.machines = {"m": machine(width=2)}
    on_answer = bmps[LEFT].on_answer
    assert on_answer is not None
    before.create_job(None, 1, 0, 0, machine="m", owner="other", keepalive=None)
    bmps.answer()
    on_answer("silent")
    job_id = before.create_job(None, 1, 1, owner="me", keepalive=None)
    assert before.get_job_state(None, job_id).state is JobState.queued
    before.stop()
    before.join()

    EagerBMP.threads = []
    EagerBMP.in_a_thread = request.param

    def make(hostname: str, *args: Any) -> RecordedBMP:
        if hostname == RIGHT:
            # Time enough for the other one to answer.
            time.sleep(0.2)
        kind = EagerBMP if hostname == LEFT else RecordedBMP
        bmps.made.append(kind(hostname, *args))
        return bmps.made[-1]

    monkeypatch.setattr(controller_module, "AsyncBMPController", make)
    after: Controller = pickle.loads(pickle.dumps(before))
    for thread in EagerBMP.threads:
        thread.join(10)
        assert not thread.is_alive()
    return after


def test_a_job_that_gets_boards_while_the_server_starts_waits_for_all_of_them(
    restarted: Controller, bmps: BMPs
) -> None:
    wait_until(lambda: bmps[LEFT].requests)
    # Asked for once, and ready when that has been done.
    (requests,) = bmps[LEFT].requests
    assert requests.power_on_boards == [0, 1, 2]
    assert restarted.get_job_state(None, 2).state is JobState.power
    bmps.answer()
    assert restarted.get_job_state(None, 2).state is JobState.ready
    restarted.destroy_job(None, 2)
    bmps.answer()
    states = restarted.board_states("m")
    assert {states[0, 0, z] for z in (0, 1, 2)} == {BoardState.free}


def test_an_answer_counts_once(bmps: BMPs) -> None:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine(width=2)}
    job_id = controller.create_job(None, 2, 1, owner="me")
    first, second = (bmps[name].requests[0] for name in (LEFT, RIGHT))
    first.on_done(True)
    first.on_done(True)
    assert controller.get_job_state(None, job_id).state is JobState.power
    second.on_done(True)
    assert controller.get_job_state(None, job_id).state is JobState.ready
    first.on_done(False, "too late")
    assert controller.get_job_state(None, job_id).state is JobState.ready


def test_a_bmp_that_is_silent_from_the_first_moment_of_a_reload(
    bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    class SilentBMP(RecordedBMP):
        def watch(self, on_answer: Callable[[str | None], object]) -> None:
            on_answer("silent")

    def make(hostname: str, *args: Any) -> RecordedBMP:
        bmps.made.append(SilentBMP(hostname, *args))
        return bmps.made[-1]

    monkeypatch.setattr(controller_module, "AsyncBMPController", make)
    controller = Controller()
    controller.machines = {"m": machine()}
    (told,) = controller.list_machines()
    assert told.dead_boards == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}


# Tests of boards, and machines that are rebuilt meanwhile


class SickSite:
    """A machine with a board out of service that is due to be tested."""

    def __init__(self, bmps: BMPs, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        self.bmps = bmps
        self.controller = Controller(seconds_before_free=0)
        self.controller.machines = {"m": machine(width=2)}
        self.controller.set_board_retries(first=100.0, longest=100.0)

    def fail_a_board(self) -> None:
        self.controller.create_job(None, 0, 0, 0, owner="me", machine="m")
        self.bmps[LEFT].requests.pop(0).on_done(False, "no answer")
        self.bmps.answer()
        # What rests from now on does so for a while.
        self.controller.seconds_before_free = 30

    def begin_test(self) -> AtomicRequests:
        self.wait(100.0)
        (requests,) = self.bmps[LEFT].requests
        self.bmps[LEFT].requests.clear()
        assert requests.power_on_boards == requests.power_off_boards == [0]
        return requests

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.controller.check_free()

    def rebuild(self) -> None:
        self.controller.machines = {"m": machine(width=3)}

    @property
    def is_out(self) -> bool:
        (told,) = self.controller.list_machines()
        return (0, 0, 0) in told.dead_boards


@pytest.fixture
def sick(bmps: BMPs, monkeypatch: pytest.MonkeyPatch) -> SickSite:
    site = SickSite(bmps, monkeypatch)
    site.fail_a_board()
    assert site.is_out
    return site


@pytest.mark.parametrize("passed", [True, False])
def test_a_test_of_a_board_says_nothing_of_a_machine_rebuilt_meanwhile(
    sick: SickSite, passed: bool
) -> None:
    requests = sick.begin_test()
    sick.rebuild()
    requests.on_done(passed, None if passed else "no answer")
    sick.wait(31.0)
    assert sick.is_out
    # The new machine's board is tried in its own time, and that counts.
    sick.wait(69.0)
    (again,) = sick.bmps[LEFT].requests
    again.on_done(True)
    sick.wait(31.0)
    assert not sick.is_out


def test_a_board_that_rests_after_its_test_is_tested_anew_in_a_rebuilt_machine(
    sick: SickSite,
) -> None:
    sick.begin_test().on_done(True)
    sick.rebuild()
    sick.wait(31.0)
    assert sick.is_out
    sick.wait(69.0)
    assert len(sick.bmps[LEFT].requests) == 1


def test_a_board_that_rests_is_no_other_machines_board_of_that_name(
    sick: SickSite,
) -> None:
    sick.begin_test().on_done(True)
    sick.controller.machines = {}
    sick.controller.machines = {"m": machine(width=2)}
    told: list[list[Any]] = []
    sick.controller.on_event = told.append
    sick.wait(31.0)
    assert [event[0] for event in told if event[0] == "board in"] == []


# Errors of our own


def test_an_error_in_the_midst_of_a_new_job_does_not_keep_others_from_being_made(
    bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with monkeypatch.context() as broken:
        broken.setattr(_Job, "give_boards", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            controller.create_job(None, owner="me")
    later = controller.create_job(None, owner="me")
    assert later == 2
    assert controller.get_job_state(None, later).state is JobState.power
