"""Whether a BMP answers, found out and told by its AsyncBMPController."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from spalloc_server.async_bmp_controller import AsyncBMPController, Failure
from spalloc_server.hardware.transceiver import BMPTransceiver
from spalloc_server.simulator import BMPSimulator, SimulatedFrame
from tests.bmp_helpers import Outcome, wait_for

HOST = "frame.test"


@pytest.fixture
def frame() -> Iterator[SimulatedFrame]:
    with BMPSimulator() as simulator:
        yield simulator.add_frame(HOST)


@pytest.fixture
def controller(
    frame: SimulatedFrame, monkeypatch: pytest.MonkeyPatch
) -> Iterator[AsyncBMPController]:
    monkeypatch.setattr(BMPTransceiver, "COMMAND_SECONDS", 0.02)
    monkeypatch.setattr(AsyncBMPController, "RETRY_SECONDS", 0.05)
    monkeypatch.setattr(AsyncBMPController, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(AsyncBMPController, "LONGEST_PAUSE", 0.1)
    made = AsyncBMPController(HOST)
    yield made
    made.stop()
    made.join()


def test_a_bmp_that_is_there_says_so_once(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    controller.watch(told.append)
    wait_for(lambda: told)
    job = Outcome(on=[1])
    controller.add_requests(job.requests)
    assert job.wait() == (True, None)
    assert told == [None]


def test_a_bmp_that_is_not_there_is_asked_until_it_is(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    frame.faults.silent = True
    controller.watch(told.append)
    wait_for(lambda: told)
    wait_for(lambda: controller._pause == 0.1, "the longest pause")
    frame.faults.silent = False
    wait_for(lambda: None in told)
    assert told == [
        f"BMP {HOST}: reading the BMP version of board 0 failed: "
        "no answer (10 tries of 0.02 s)",
        None,
    ]


def test_a_bmp_that_falls_silent_is_told_before_the_result(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    controller.watch(told.append)
    wait_for(lambda: told == [None])
    frame.faults.silent = True
    job = Outcome(on=[1])
    told_then: list[str | None] = []

    def on_done(success: bool, reason: Failure | None = None) -> None:
        told_then.extend(told)
        job._on_done(success, reason)

    job.requests._on_done = on_done
    controller.add_requests(job.requests)
    success, reason = job.wait()
    assert not success
    assert reason is not None
    assert reason.silent
    assert told_then == told[:2]
    assert told[1] is not None
    assert "no answer" in told[1]
    # Once is enough, however much fails.
    again = Outcome(on=[2])
    controller.add_requests(again.requests)
    assert again.wait()[0] is False
    assert len(told) == 2
    frame.faults.silent = False
    wait_for(lambda: told[2:] == [None])


def test_boards_are_powered_off_when_a_silent_bmp_answers_again(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    controller.watch(told.append)
    wait_for(lambda: told == [None])
    frame.faults.silent = True
    first, second = Outcome(off=[1]), Outcome(off=[2])
    controller.add_requests(first.requests)
    wait_for(lambda: len(told) == 2)
    # One that comes while it is known waits, too.
    controller.add_requests(second.requests)
    wait_for(lambda: controller._pause == 0.1, "the longest pause")
    frame.faults.silent = False
    assert first.wait() == second.wait() == (True, None)
    assert told[2:] == [None]


def test_at_the_end_nothing_waits_for_a_silent_bmp(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    controller.watch(told.append)
    wait_for(lambda: told == [None])
    frame.faults.silent = True
    job = Outcome(off=[1])
    controller.add_requests(job.requests)
    wait_for(lambda: len(told) == 2)
    controller.stop()
    success, reason = job.wait()
    assert not success
    assert reason is not None
    assert reason.silent
    controller.join()


def test_a_command_that_is_refused_is_no_silence(
    frame: SimulatedFrame, controller: AsyncBMPController
) -> None:
    told: list[str | None] = []
    controller.watch(told.append)
    frame.faults.fail_power()
    job = Outcome(on=[1])
    controller.add_requests(job.requests)
    assert job.wait()[0] is False
    assert told == [None]


def test_an_error_of_the_listener_does_not_end_the_thread(
    frame: SimulatedFrame,
    controller: AsyncBMPController,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(problem: str | None) -> None:
        raise LookupError("from the listener")

    controller.FIRST_PAUSE = 0.05
    controller.watch(fail)
    # It is told again, since nothing has come of it.
    text = "unexpected error while its answer was handled"
    wait_for(lambda: caplog.text.count(text) > 1)
    job = Outcome(on=[1])
    controller.add_requests(job.requests)
    assert job.wait() == (True, None)
    assert not controller.has_ended
    controller.stop()
    controller.join()
    assert controller.has_ended
