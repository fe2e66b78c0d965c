"""Errors of the server itself, in the midst of what no command explains.

Wherever an event raises: that is logged and counted, no boards are lost, no job waits
for ever or answers for another, and what is stored is what there is.
"""

from __future__ import annotations

import inspect
import itertools
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import spalloc_server
from spalloc_server.control.job_lifecycle import JobLifecycle
from spalloc_server.control.plain_state import comparable
from spalloc_server.controller import Controller, JobState
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job import _Job
from tests.recorded_bmps import BMPs, machine

PACKAGE = Path(spalloc_server.__file__).parent

ROOMS = ("control", "model", "scheduling", "placement")
MODULES = ("job_queue.py", "allocator.py", "pack_tree.py", "controller.py")

MACHINERY = {
    *("in_order", "mend", "at_one_time", "wall_time", "__enter__", "__exit__"),
    # They make nothing but a picture.
    *("__repr__", "<genexpr>", "<lambda>", "<listcomp>", "<dictcomp>", "<setcomp>"),
}
"""What sees to errors itself: one in there is another story."""


DOORS = {
    *("_frame_done", "frame_done", "_board_tested", "bmp_heard", "destroy_timed_out"),
    *("look_after_boards",),
}
"""Where events come in: an error of these themselves is the caller's."""


class InjectedError(Exception):
    """Something that nobody expects."""


class Strike:
    """Raises once, in the n-th function of ours that is called, or left."""

    def __init__(self, number: int, leaving: bool) -> None:
        self.left = number
        self.kind = "return" if leaving else "call"
        self.where = ""

    def __enter__(self) -> Strike:
        sys.setprofile(self._trace)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _trace(self, frame: FrameType, event: str, _arg: object) -> None:
        if event != self.kind or self.where or not _is_ours(frame):
            return
        if self.left:
            self.left -= 1
            return
        self.where = f"{self.kind} of {frame.f_code.co_name}"
        raise InjectedError(self.where)


def _is_ours(frame: FrameType) -> bool:
    if frame.f_code.co_flags & inspect.CO_GENERATOR:
        # Python passes over what they raise when they are let go of.
        return False
    path = Path(frame.f_code.co_filename)
    if not path.is_relative_to(PACKAGE) or frame.f_code.co_name in MACHINERY | DOORS:
        return False
    if path.name in MODULES and path.parent == PACKAGE:
        # The doors in there come before anything that sees to errors.
        return path.name != "controller.py"
    return path.parent.name in ROOMS and path.name not in ("change_log.py", "parts.py")


class Disk:
    """Keeps what a store would: a snapshot, and the events since then."""

    def __init__(self, controller: Controller) -> None:
        self.controller = controller
        self.failed = False
        self.write_anew()
        controller.on_event = self.append
        controller.on_failure = self.note_failure

    def write_anew(self) -> None:
        self.snapshot = self.controller.__getstate__()
        self.records: list[Any] = []
        self.failed = False

    def append(self, record: list[Any]) -> None:
        self.records.append(record)

    def note_failure(self) -> None:
        self.failed = True

    def commit(self) -> None:
        if self.failed:
            self.write_anew()

    def check(self) -> None:
        """What a crash would leave is what there is."""
        self.commit()
        again = Controller.restored(self.snapshot)
        again.replay(self.records)
        assert comparable(again.__getstate__()) == comparable(
            self.controller.__getstate__()
        )


class Place:
    """A controller with a job of its own, and all that is around it by hand."""

    def __init__(
        self, bmps: BMPs, monkeypatch: pytest.MonkeyPatch, scheduling: str = "fifo"
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr("time.monotonic", lambda: self.now)
        monkeypatch.setattr("spalloc_server.allocator.Allocator.clock", self.clock)
        self.bmps = bmps
        self.controller = Controller(seconds_before_free=10)
        self.controller.machines = {"m": machine(width=3)}
        settings = self.controller.settings._replace(
            first_board_retry=100.0,
            longest_board_retry=100.0,
            scheduling=scheduling,
            longest_overtaking=0.0,
        )
        self.controller.configure(settings)
        self.kept = self.create(0, 0, 0, owner="kept")
        self.bmps.answer()
        self.disk = Disk(self.controller)
        self.before = self.controller.settings, self.controller.machines

    def clock(self) -> float:
        return self.now

    def create(self, *size: int, **options: Any) -> int:
        options = {"keepalive": None, "owner": "me", **options}
        if len(size) == 3:
            options["machine"] = "m"
        job_id = self.controller.create_job(None, *size, **options)
        if hasattr(self, "disk"):
            # As the intake does, before it is done: here it never fails.
            self.disk.write_anew()
        return job_id

    def destroy(self, job_id: int) -> None:
        self.controller.destroy_job(None, job_id)
        self.disk.write_anew()

    def state(self, job_id: int) -> JobState:
        return self.controller.get_job_state(None, job_id).state

    def pass_time(self, seconds: float) -> None:
        self.now += seconds
        self.controller.destroy_timed_out_jobs()
        self.controller.check_free()

    def answer_all(self) -> None:
        """As the frames' threads do, which go on whatever a result leads to."""
        for _ in range(100):
            pending = self.bmps.pending()
            if not pending:
                return
            for bmp in self.bmps.made:
                taken, bmp.requests = bmp.requests, []
                for requests in taken:
                    requests.on_done(True)
        raise AssertionError("there is no end to it")

    def settle(self) -> None:
        """Have everything come to its end."""
        for _ in range(4):
            self.answer_all()
            self.pass_time(11.0)
        for _ in range(2):
            # Tests of boards, and the rest after them.
            self.pass_time(100.0)
            self.answer_all()
            self.pass_time(11.0)


def ready(place: Place) -> Callable[[], None]:
    place.create(1, 1)
    return lambda: done(place, "bmp-m-1")


def one_of_two_frames(place: Place) -> Callable[[], None]:
    place.create(2, 1)

    def both_done() -> None:
        done(place, "bmp-m-1")
        done(place, "bmp-m-2")

    return both_done


def failed(place: Place) -> Callable[[], None]:
    place.create(1, 1)
    place.create(3, owner="waits")
    return lambda: done(place, "bmp-m-1", False, "no power")


def freed(place: Place) -> Callable[[], None]:
    job_id = place.create(1, 1)
    place.answer_all()
    place.create(2, 1, owner="waits")
    place.destroy(job_id)
    return lambda: done(place, "bmp-m-1")


def freed_with_a_faulty_board(place: Place) -> Callable[[], None]:
    job_id = place.create(1, 1)
    place.answer_all()
    place.destroy(job_id)
    return lambda: done(place, "bmp-m-1", False, "stays on")


def timed_out(place: Place) -> Callable[[], None]:
    for owner in ("one", "two"):
        place.create(1, 1, owner=owner, keepalive=5)
    place.create(2, 1, owner="waits", keepalive=7)
    place.answer_all()
    place.now += 6
    return place.controller.destroy_timed_out_jobs


def cooled(place: Place) -> Callable[[], None]:
    job_id = place.create(2, 1)
    place.answer_all()
    place.destroy(job_id)
    place.create(2, 1, owner="waits")
    place.answer_all()
    place.now += 11
    return place.controller.check_free


def board_to_be_tested(place: Place) -> Callable[[], None]:
    fail_a_board(place)
    place.now += 100
    return place.controller.check_free


def passed_a_test(place: Place) -> Callable[[], None]:
    fail_a_board(place)
    place.pass_time(100)
    return lambda: done(place, "bmp-m-1")


def failed_a_test(place: Place) -> Callable[[], None]:
    fail_a_board(place)
    place.pass_time(100)
    return lambda: done(place, "bmp-m-1", False, "no power")


def rested(place: Place) -> Callable[[], None]:
    fail_a_board(place)
    place.pass_time(100)
    place.answer_all()
    place.create(3, 1, owner="waits")
    place.now += 11
    return place.controller.check_free


def silent_bmp(place: Place) -> Callable[[], None]:
    return lambda: told(place, "bmp-m-1", "silent")


def bmp_that_answers_again(place: Place) -> Callable[[], None]:
    told(place, "bmp-m-1", "silent")
    place.create(2, 1, owner="waits")
    return lambda: told(place, "bmp-m-1", None)


def other_machines(place: Place) -> Callable[[], None]:
    place.create(1, 1, owner="goes")
    machines = {
        **place.controller.machines,
        "n": machine("n"),
        "o": machine("o", width=2),
    }
    return lambda: setattr(place.controller, "machines", machines)


def rebuilt_machine(place: Place) -> Callable[[], None]:
    machines = {**place.controller.machines, "n": machine("n")}
    place.controller.machines = machines
    place.create(1, 1, owner="goes", machine="n")
    place.disk.write_anew()
    place.before = place.controller.settings, place.controller.machines
    machines = {**machines, "n": machine("n", width=2)}
    return lambda: setattr(place.controller, "machines", machines)


def other_settings(place: Place) -> Callable[[], None]:
    place.create(3, 1)
    place.create(1, 1, owner="you")
    settings = place.controller.settings
    word = "fifo" if settings.scheduling == "backfill" else "backfill"
    other = settings._replace(first_board_retry=200, scheduling=word, jobs_per_owner=7)
    return lambda: place.controller.configure(other)


def fail_a_board(place: Place) -> None:
    place.create(1, 0, 0, owner="unlucky")
    done(place, "bmp-m-1", False, "no power")
    place.answer_all()
    place.pass_time(11)
    place.disk.write_anew()


def done(place: Place, name: str, success: bool = True, reason: str = "") -> None:
    """A frame has done what it was asked for first."""
    requests = place.bmps[name].requests.pop(0)
    requests.on_done(success, reason)


def told(place: Place, name: str, problem: str | None) -> None:
    """A BMP answers, or does not; the frame's thread tells it again after an error."""
    on_answer = place.bmps[name].on_answer
    assert on_answer is not None
    on_answer(problem)


EVENTS = [
    *(ready, one_of_two_frames, failed, freed, freed_with_a_faulty_board, timed_out),
    *(cooled, board_to_be_tested, passed_a_test, failed_a_test, rested, silent_bmp),
    *(bmp_that_answers_again, other_machines, rebuilt_machine, other_settings),
]


# In every so many functions that are called, to save time: with 1 in each of them.
@pytest.mark.parametrize(
    ("scheduling", "stride"),
    [("fifo", 13), pytest.param("backfill", 3, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("leaving", [False, True], ids=["called", "left"])
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_an_error_anywhere_in_an_event_costs_nobody_anything(
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    event: Callable[[Place], Callable[[], None]],
    leaving: bool,
    scheduling: str,
    stride: int,
) -> None:
    caplog.set_level(logging.ERROR)
    struck = 0
    for number in itertools.count(0, stride):
        bmps.made.clear()
        caplog.clear()
        place = Place(bmps, monkeypatch, scheduling)
        happen = event(place)
        strike = Strike(number, leaving)
        try:
            with strike:
                happen()
        except Exception as e:
            # The frame's thread logs it and goes on; a reload is refused.
            error: Exception | None = e
        else:
            error = None
        if not strike.where:
            assert error is None
            break
        struck += 1
        try:
            check(place, caplog.records, error, happen)
        except BaseException as e:
            raise AssertionError(f"after an error at the {strike.where}") from e
    assert struck


def is_injected(error: BaseException | None) -> bool:
    """Is it the error that was injected, or one that has come of it?"""
    while error is not None and not isinstance(error, InjectedError):
        error = error.__context__
    return error is not None


def check(
    place: Place,
    records: list[logging.LogRecord],
    error: Exception | None,
    again: Callable[[], None],
) -> None:
    controller = place.controller
    if isinstance(error, InjectedError):
        # A reload that was refused before it began.
        assert not controller.failures
    else:
        assert sum(controller.failures.values()) == 1
        assert any(r.exc_info and is_injected(r.exc_info[1]) for r in records)
    place.disk.check()
    # Nothing is half done, and goes on.
    if error is not None:
        in_force = controller.settings, controller.machines
        again()
        assert in_force in (place.before, (controller.settings, controller.machines))
    place.settle()
    place.disk.check()
    for job in controller.list_jobs():
        assert job.state in (JobState.ready, JobState.queued), job
    assert place.state(place.kept) is JobState.ready
    # All boards can be had: none has been lost.
    if "n" in controller.machines:
        assert set(controller.board_states("n").values()) <= {
            BoardState.free,
            BoardState.allocated,
        }
    for bmp in place.bmps.made:
        if bmp.on_answer is not None and not bmp.stopped:
            bmp.on_answer(None)
    for job in controller.list_jobs():
        place.destroy(job.job_id)
    place.settle()
    whole = place.create(3, 1, owner="all", machine="m")
    place.settle()
    assert place.state(whole) is JobState.ready, controller.board_states("m")
    place.disk.check()


def always_fails(monkeypatch: pytest.MonkeyPatch, name: str, job_id: int) -> None:
    """Have something never succeed for one job."""
    original = getattr(JobLifecycle, name)

    def method(self: JobLifecycle, change: Any) -> object:
        if change.job_id == job_id:
            raise InjectedError(name)
        return original(self, change)

    # The parts remember what does what.
    monkeypatch.setattr(JobLifecycle, name, method)


@pytest.mark.parametrize("name", ["ready", "free"])
def test_a_job_that_always_meets_an_error_costs_no_other_job_anything(
    bmps: BMPs, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    always_fails(monkeypatch, name, 2)
    place = Place(bmps, monkeypatch)
    assert place.create(1, 1, owner="unlucky") == 2
    other = place.create(1, 1, owner="other")
    # The other one is not asked again whenever the first one fails.
    asked = [requests for host, requests in bmps.pending() if host == "bmp-m-2"]
    for _ in range(10):
        for requests in place.bmps["bmp-m-1"].requests[:1]:
            place.bmps["bmp-m-1"].requests.remove(requests)
            requests.on_done(True)
    assert [r for host, r in bmps.pending() if host == "bmp-m-2"] == asked
    place.answer_all()
    assert place.state(other) is JobState.ready
    assert place.state(place.kept) is JobState.ready
    if name == "free":
        place.destroy(2)
        place.answer_all()
    # There is an end to it, and its boards are for others.
    assert place.state(2) is JobState.destroyed
    reason = place.controller.get_job_state(None, 2).reason
    assert reason == ("Internal error of the server." if name == "ready" else None)
    assert place.controller.failures == {name if name == "ready" else "freed": 4}
    place.settle()
    assert place.controller._state.ending_jobs == {}
    again = place.create(1, 1, owner="next")
    place.settle()
    assert place.state(again) is JobState.ready
    place.disk.check()


def test_a_job_that_cannot_be_given_boards_is_in_nobodys_way(
    bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = _Job.give_boards

    def give_boards(job: _Job, *args: Any) -> None:
        if job.owner == "unlucky":
            raise InjectedError("no boards for you")
        original(job, *args)

    monkeypatch.setattr(_Job, "give_boards", give_boards)
    place = Place(bmps, monkeypatch)
    first = place.create(2, 1, owner="first")
    unlucky = place.create(1, 1, owner="unlucky")
    waits = place.create(1, 1, owner="waits")
    place.answer_all()
    place.destroy(first)
    place.settle()
    assert place.state(unlucky) is JobState.destroyed
    assert place.state(waits) is JobState.ready
    assert place.state(place.kept) is JobState.ready
    place.disk.check()
    place.destroy(waits)
    place.settle()
    again = place.create(2, 1, owner="next")
    place.settle()
    assert place.state(again) is JobState.ready
