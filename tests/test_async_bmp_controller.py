"""Requests to frames, carried out over real UDP by the simulator."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from spalloc_server.async_bmp_controller import AsyncBMPController, Failure
from spalloc_server.hardware import counts
from spalloc_server.hardware.schedule import Schedule
from spalloc_server.hardware.transceiver import BMPError, BMPTransceiver
from spalloc_server.links import Links
from spalloc_server.simulator import BMPSimulator, Command, SimulatedFrame
from tests.bmp_helpers import SECONDS, Outcome, wait_for

HOST = "frame.test"

Connect = Callable[..., AsyncBMPController]


@pytest.fixture
def simulator() -> Iterator[BMPSimulator]:
    with BMPSimulator() as simulator:
        yield simulator


@pytest.fixture
def frame(simulator: BMPSimulator) -> SimulatedFrame:
    return simulator.add_frame(HOST)


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Make controllers that are stopped, and waited for, at the end."""
    with contextlib.ExitStack() as stack:

        def make(
            hostname: str = HOST, on_thread_start: Callable[[], object] | None = None
        ) -> AsyncBMPController:
            controller = AsyncBMPController(hostname, on_thread_start)
            stack.callback(controller.join)
            stack.callback(controller.stop)
            return controller

        yield make


@pytest.fixture
def short_retry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(AsyncBMPController, "RETRY_SECONDS", 0.05)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BMPTransceiver, "COMMAND_SECONDS", 0.03)
    monkeypatch.setattr(BMPTransceiver, "POWER_ON_SECONDS", 0.05)


def add(controller: AsyncBMPController, *outcomes: Outcome) -> None:
    for outcome in outcomes:
        controller.add_requests(outcome.requests)


def commands(frame: SimulatedFrame) -> list[int]:
    return [command.command for command in frame.received]


def test_power_on_then_identity_then_links_then_power_off(
    frame: SimulatedFrame, connect: Connect
) -> None:
    job = Outcome(
        on=[1, 2],
        off=[3],
        links=[(1, Links.east, False), (2, Links.west, False), (2, Links.west, True)],
    )
    add(connect(), job)
    assert job.wait() == (True, None)
    assert frame.power_commands() == [
        (True, frozenset({1, 2})),
        (False, frozenset({3})),
    ]
    order = [command for command in commands(frame) if command != Command.VERSION]
    assert order == [
        Command.POWER,
        *[Command.FPGA_READ] * 6,
        *[Command.FPGA_WRITE] * 3,
        Command.POWER,
    ]
    assert frame.register(1, 0, 0x5C) == 1
    assert frame.register(2, 1, 0x1005C) == 0


def test_results_come_from_the_thread_of_the_frame(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    assert controller.hostname == HOST
    job, nothing = Outcome(on=[0]), Outcome()
    add(controller, job, nothing)
    assert job.wait() == nothing.wait() == (True, None)
    assert job.thread is nothing.thread
    assert job.thread is not None
    assert job.thread.name == f"BMP {HOST}"
    assert job.thread.daemon


def test_requests_in_a_context_are_merged(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    jobs = [Outcome(on=[board]) for board in range(0, 24, 2)]
    jobs += [Outcome(off=[board]) for board in range(1, 24, 2)]
    with controller:
        add(controller, *jobs[:12])
        with controller:
            add(controller, *jobs[12:])
        assert frame.received == []
    for job in jobs:
        assert job.wait() == (True, None)
    assert sorted(frame.power_commands()) == [
        (False, frozenset(range(1, 24, 2))),
        (True, frozenset(range(0, 24, 2))),
    ]


def test_requests_that_wait_for_the_frame_are_merged(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.power_on_seconds = 0.3
    controller = connect()
    first = Outcome(on=[0])
    add(controller, first)
    wait_for(lambda: Command.POWER in commands(frame), "the first power-on")
    others = [Outcome(on=[board]) for board in range(1, 24)]
    add(controller, *others)
    for job in [first, *others]:
        assert job.wait() == (True, None)
    assert frame.power_commands() == [
        (True, frozenset({0})),
        (True, frozenset(range(1, 24))),
    ]


def burst_seconds(controllers: list[AsyncBMPController], boards: int) -> float:
    """Time single-board jobs that start together, until the last one is ready."""
    started = time.monotonic()
    jobs = [
        Outcome(on=[board], links=[(board, link, False) for link in Links])
        for controller in controllers
        for board in range(boards)
    ]
    for index, job in enumerate(jobs):
        add(controllers[index // boards], job)
    for job in jobs:
        assert job.wait() == (True, None)
    return max(job.at for job in jobs) - started


def test_24_jobs_on_a_frame_take_hardly_longer_than_one(
    simulator: BMPSimulator, connect: Connect
) -> None:
    # A quarter of the times of real hardware.
    frame = simulator.add_frame(HOST, settle_seconds=1.25)
    frame.power_on_seconds = 0.5
    controller = connect()
    one = burst_seconds([controller], 1)
    assert one > 1.75
    burst = burst_seconds([controller], 24)
    assert burst / one < 1.5


@pytest.mark.slow
def test_1200_jobs_on_50_frames_take_hardly_longer_than_one(
    simulator: BMPSimulator, connect: Connect
) -> None:
    # The times of real hardware: the computer's own time counts here.
    controllers = []
    for number in range(50):
        host = f"frame-{number}.test"
        simulator.add_frame(host, settle_seconds=5.0).power_on_seconds = 2.0
        controllers.append(connect(host))
    assert burst_seconds(controllers, 24) / 7.0 < 1.5


def test_a_request_starts_at_once_while_others_settle(
    simulator: BMPSimulator, connect: Connect
) -> None:
    frame = simulator.add_frame(HOST, settle_seconds=1.5)
    controller = connect()
    first = Outcome(on=[0])
    add(controller, first)
    wait_for(lambda: frame.powered_boards == {0}, "the first power-on")
    second, off = Outcome(on=[1]), Outcome(off=[2])
    add(controller, second, off)
    assert off.wait() == (True, None)
    wait_for(lambda: frame.powered_boards == {0, 1}, "the second power-on")
    assert not first.is_done
    assert first.wait() == second.wait() == (True, None)


def test_requests_for_one_board_keep_their_order(
    simulator: BMPSimulator, connect: Connect
) -> None:
    frame = simulator.add_frame(HOST, settle_seconds=0.1)
    controller = connect()
    jobs = [
        Outcome(on=[1]),
        Outcome(off=[1]),
        Outcome(on=[1], links=[(1, Links.east, False)]),
        Outcome(links=[(1, Links.north, False)]),
    ]
    with controller:
        add(controller, *jobs)
    assert [job.wait() for job in jobs] == [(True, None)] * 4
    assert [job.at for job in jobs] == sorted(job.at for job in jobs)
    # Nothing had been sent yet, and only the last one counts.
    assert frame.power_commands() == [(True, frozenset({1}))]
    assert frame.register(1, 0, 0x5C) == frame.register(1, 2, 0x5C) == 1


def test_the_same_power_command_twice_is_sent_once(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    jobs = [Outcome(on=[1]), Outcome(on=[1]), Outcome(off=[2]), Outcome(off=[2])]
    with controller:
        add(controller, *jobs)
    assert [job.wait() for job in jobs] == [(True, None)] * 4
    assert sorted(frame.power_commands()) == [
        (False, frozenset({2})),
        (True, frozenset({1})),
    ]


def test_a_power_request_drops_earlier_links_of_its_boards(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    on, links, off = (
        Outcome(on=[1, 2]),
        Outcome(links=[(1, Links.east, False), (2, Links.east, False)]),
        Outcome(off=[1]),
    )
    with controller:
        add(controller, on, links, off)
    assert [job.wait() for job in (on, links, off)] == [(True, None)] * 3
    writes = [c.board for c in frame.received if c.command == Command.FPGA_WRITE]
    assert writes == [2]
    assert frame.register(2, 0, 0x5C) == 1


@pytest.mark.usefixtures("short_retry")
def test_one_failing_request_fails_alone(
    frame: SimulatedFrame, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    frame.faults.fail_power([3])
    controller = connect()
    good, bad = Outcome(on=[1, 2]), Outcome(on=[3, 4])
    other = Outcome(off=[5])
    with controller:
        add(controller, good, bad, other)
    assert good.wait() == other.wait() == (True, None)
    success, reason = bad.wait()
    assert not success
    assert isinstance(reason, Failure)
    assert reason.text == (
        "BMP frame.test: power on of boards 3, 4 failed: the answer was RC_DEAD"
    )
    assert reason.boards == {3, 4}
    assert frame.power_commands().count((True, frozenset({3, 4}))) == 2
    assert "BMP frame.test: powered on boards 1, 2" in caplog.messages
    assert f"{reason} (try 1 of 2)" in caplog.messages
    assert f"{reason} (try 2 of 2)" in caplog.messages


@pytest.mark.usefixtures("short_retry")
def test_a_power_off_that_fails_at_first(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.faults.fail_power(on=False, times=1)
    job = Outcome(off=[3])
    add(connect(), job)
    assert job.wait() == (True, None)
    assert frame.power_commands() == [(False, frozenset({3}))] * 2


@pytest.mark.usefixtures("short_retry")
def test_links_that_fail_name_the_board(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    missing = Outcome(links=[(30, Links.east, False)])
    good = Outcome(on=[1], links=[(1, Links.east, False)])
    add(controller, missing, good)
    assert good.wait() == (True, None)
    success, reason = missing.wait()
    assert not success
    assert isinstance(reason, Failure)
    assert "board 30 failed: the answer was RC_CPU" in reason.text
    assert reason.boards == {30}


def test_a_retry_waits_without_holding_up_others_and_stop_does_not_wait(
    frame: SimulatedFrame, connect: Connect
) -> None:
    assert AsyncBMPController.RETRY_SECONDS == 15
    frame.faults.fail_power([0], times=1)
    controller = connect()
    started = time.monotonic()
    failing = Outcome(on=[0])
    add(controller, failing)
    wait_for(lambda: Command.POWER in commands(frame), "the first try")
    other = Outcome(on=[1])
    add(controller, other)
    assert other.wait() == (True, None)
    assert not failing.is_done
    controller.stop()
    controller.join()
    assert failing.wait() == (True, None)
    assert time.monotonic() - started < 10


@pytest.mark.usefixtures("short_retry")
def test_stop_flushes_what_is_queued(simulator: BMPSimulator, connect: Connect) -> None:
    frame = simulator.add_frame(HOST, settle_seconds=0.2)
    frame.faults.fail_power([23])
    controller = connect()
    jobs = [Outcome(on=[1]), Outcome(off=[1]), Outcome(on=[1]), Outcome(off=[23])]
    add(controller, *jobs)
    controller.stop()
    controller.join()
    assert [job.calls[0][0] for job in jobs] == [True, True, True, False]
    assert frame.powered_boards == {1}
    with pytest.raises(RuntimeError, match=r"controller of BMP frame\.test has ended"):
        controller.add_requests(Outcome(on=[2]).requests)
    controller.stop()
    controller.join()


def test_a_power_off_overtakes_what_settles_and_what_waits_to_be_tried_again(
    simulator: BMPSimulator, connect: Connect
) -> None:
    # Neither the 60 s that boards settle nor the 15 s before a second try are waited.
    frame = simulator.add_frame(HOST, settle_seconds=60.0)
    frame.faults.fail_power([2], on=True)
    controller = connect()
    settling, failing, kept = Outcome(on=[1]), Outcome(on=[2]), Outcome(on=[3])
    add(controller, settling, kept)
    wait_for(lambda: frame.powered_boards == {1, 3}, "the power-on")
    add(controller, failing)
    wait_for(lambda: (True, frozenset({2})) in frame.power_commands(), "the first try")
    offs = [Outcome(off=[1]), Outcome(off=[2])]
    add(controller, *offs)
    for outcome in (settling, failing, *offs):
        assert outcome.wait() == (True, None)
    assert frame.powered_boards == {3}
    assert not kept.is_done
    off = Outcome(off=[3])
    add(controller, off)
    assert kept.wait() == off.wait() == (True, None)


def test_what_is_overtaken_is_answered_though_nothing_is_to_be_done(
    simulator: BMPSimulator, connect: Connect
) -> None:
    simulator.add_frame(HOST)
    controller = connect()
    with controller:
        jobs = [Outcome(on=[1]) if n % 2 else Outcome(off=[1]) for n in range(60)]
        add(controller, *jobs)
    assert [job.wait() for job in jobs] == [(True, None)] * 60
    assert len(simulator.frames[HOST].power_commands()) == 1


@pytest.mark.usefixtures("short_retry")
def test_stop_gives_up_after_a_while_and_tells_nothing_of_that(
    frame: SimulatedFrame,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(AsyncBMPController, "STOP_SECONDS", 0.3)
    frame.faults.fail_power([1], result=None)
    controller = connect()
    lost = [Outcome(on=[1]), Outcome(on=[2])]
    add(controller, lost[0])
    wait_for(lambda: Command.POWER in commands(frame), "the power-on")
    add(controller, lost[1])
    began = time.monotonic()
    controller.stop()
    controller.join()
    assert time.monotonic() - began < 5.0
    assert controller.has_ended
    assert not any(job.is_done for job in lost)
    assert f"BMP {HOST}: stopped with 2 requests not done" in caplog.messages
    with pytest.raises(RuntimeError):
        controller.add_requests(Outcome(on=[2]).requests)


def test_finishing_takes_the_time_it_takes(
    simulator: BMPSimulator, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AsyncBMPController, "STOP_SECONDS", 0.05)
    simulator.add_frame(HOST, settle_seconds=0.4)
    controller = connect()
    job = Outcome(on=[1])
    add(controller, job)
    controller.finish()
    controller.join()
    assert job.wait() == (True, None)


def test_a_thread_that_does_not_end_is_left_to_itself(
    frame: SimulatedFrame,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(AsyncBMPController, "STOP_SECONDS", 0.05)
    monkeypatch.setattr(AsyncBMPController, "JOIN_SECONDS", 0.05)
    release = threading.Event()
    controller = connect(HOST, lambda: release.wait(SECONDS))
    job = Outcome(on=[1])
    add(controller, job)
    controller.stop()
    controller.join()
    assert not controller.has_ended
    assert f"BMP {HOST}: its thread does not end" in caplog.messages
    release.set()
    wait_for(lambda: controller.has_ended)
    assert not job.is_done


@pytest.mark.usefixtures("short_retry")
def test_only_a_board_with_a_wrong_fpga_is_powered_on_again(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.faults.load_wrong_fpga(2, fpga=1, times=2)
    job = Outcome(on=[1, 2, 3], links=[(2, Links.west, False)])
    add(connect(), job)
    assert job.wait() == (True, None)
    assert frame.power_commands() == [
        (True, frozenset({1, 2, 3})),
        (True, frozenset({2})),
        (True, frozenset({2})),
    ]
    assert frame.register(2, 1, 0x1005C) == 1


@pytest.mark.usefixtures("short_retry")
def test_a_wrong_fpga_that_stays_names_its_board_and_no_other(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.faults.load_wrong_fpga(2, fpga=0)
    controller = connect()
    bad, good = Outcome(on=[1, 2]), Outcome(on=[3])
    with controller:
        add(controller, bad, good)
    assert good.wait() == (True, None)
    success, reason = bad.wait()
    assert not success
    assert isinstance(reason, Failure)
    assert str(reason) == (
        "BMP frame.test: wrong FPGA identity on board 2: FPGA 0 says 1"
    )
    assert reason.boards == {2}
    expected = [{1, 2, 3}, {2}, {2}, {1, 2}, {2}, {2}]
    assert frame.power_commands() == [(True, frozenset(boards)) for boards in expected]


def test_old_bmps_get_no_fpga_commands(frame: SimulatedFrame, connect: Connect) -> None:
    frame.version = (1, 36, 0)
    frame.faults.load_wrong_fpga(1)
    job = Outcome(on=[1], links=[(1, Links.east, False)])
    add(connect(), job)
    assert job.wait() == (True, None)
    assert set(commands(frame)) == {Command.VERSION, Command.POWER}


@pytest.mark.usefixtures("impatient", "short_retry")
def test_a_fifth_of_the_packets_lost(frame: SimulatedFrame, connect: Connect) -> None:
    frame.faults.dropped_packets = 0.2
    controller = connect()
    jobs = [
        Outcome(on=[board], links=[(board, link, False) for link in Links])
        for board in range(8)
    ]
    add(controller, *jobs)
    for job in jobs:
        assert job.wait() == (True, None)
    off = Outcome(off=range(8))
    add(controller, off)
    assert off.wait() == (True, None)
    assert frame.powered_boards == set()


@pytest.mark.usefixtures("impatient", "short_retry")
def test_a_silent_bmp_touches_only_its_own_frame(
    simulator: BMPSimulator, frame: SimulatedFrame, connect: Connect
) -> None:
    simulator.add_frame("dead.test").faults.silent = True
    dead, alive = connect("dead.test"), connect()
    lost = [Outcome(on=[1]), Outcome(on=[2]), Outcome(off=[3])]
    with dead:
        add(dead, *lost)
    for board in range(5):
        job = Outcome(on=[board])
        add(alive, job)
        assert job.wait() == (True, None)
    for board, job in enumerate(lost, 1):
        success, reason = job.wait()
        assert not success
        assert isinstance(reason, Failure)
        assert reason.boards == {board}
        assert f"of board {board} failed: no answer" in reason.text


@pytest.mark.usefixtures("impatient", "short_retry")
def test_a_power_on_that_is_never_answered_fails_only_its_request(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.faults.fail_power([1], result=None)
    controller = connect()
    bad, good = Outcome(on=[1]), Outcome(on=[2])
    with controller:
        add(controller, bad, good)
    assert good.wait() == (True, None)
    success, reason = bad.wait()
    assert not success
    assert reason is not None
    assert "power on of board 1 failed: no answer (4 tries" in reason.text


@pytest.mark.usefixtures("impatient", "short_retry")
def test_a_bmp_that_comes_back_is_used(frame: SimulatedFrame, connect: Connect) -> None:
    frame.faults.silent = True
    controller = connect()
    lost = Outcome(on=[1])
    add(controller, lost)
    assert lost.wait()[0] is False
    frame.faults.silent = False
    found = Outcome(on=[1])
    add(controller, found)
    assert found.wait() == (True, None)


@pytest.mark.usefixtures("short_retry")
def test_a_host_without_address_is_told_by_the_result(connect: Connect) -> None:
    job = Outcome(on=[1])
    add(connect("no-such-host.invalid"), job)
    success, reason = job.wait()
    assert not success
    assert reason is not None
    assert reason.text.startswith(
        "BMP no-such-host.invalid: power on of board 1 failed: "
    )


def test_on_thread_start_comes_first(frame: SimulatedFrame, connect: Connect) -> None:
    release = threading.Event()
    threads: list[threading.Thread] = []

    def on_thread_start() -> None:
        threads.append(threading.current_thread())
        assert release.wait(SECONDS)

    controller = connect(HOST, on_thread_start)
    job = Outcome(off=[1])
    add(controller, job)
    wait_for(lambda: threads)
    assert frame.received == []
    release.set()
    assert job.wait() == (True, None)
    assert threads == [job.thread]


def test_handing_over_to_another_controller(
    simulator: BMPSimulator, connect: Connect
) -> None:
    frame = simulator.add_frame(HOST, settle_seconds=0.3)
    first = connect()
    on, off = Outcome(on=[1]), Outcome(off=[1])
    add(first, on)
    first.finish()
    second = connect(HOST, first.join)
    add(second, off)
    assert on.wait() == off.wait() == (True, None)
    assert on.at < off.at
    assert frame.power_commands() == [(True, frozenset({1})), (False, frozenset({1}))]


def test_a_start_or_a_result_that_raises_is_logged(
    frame: SimulatedFrame, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(success: bool = True, reason: str | None = None) -> None:
        raise LookupError("from the caller")

    controller = connect(HOST, fail)
    raising = Outcome(off=[1])
    raising.requests._on_done = fail
    after = Outcome(off=[1])
    add(controller, raising)
    add(controller, after)
    assert after.wait() == (True, None)
    assert "unexpected error while its thread was started" in caplog.text
    assert "unexpected error while its result was handled" in caplog.text


def test_a_result_may_lead_to_more_requests(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    after = Outcome(off=[1])
    first = Outcome(on=[1])
    first.requests._on_done = lambda success, reason=None: add(controller, after)
    add(controller, first)
    controller.stop()
    assert after.wait() == (True, None)


@pytest.mark.usefixtures("short_retry")
def test_a_defect_ends_the_request_and_not_the_thread(
    frame: SimulatedFrame, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    controller = connect()
    wrong = Outcome(links=[(1, 17, False)])  # type: ignore[list-item]
    add(controller, wrong)
    assert wrong.wait() == (
        False,
        Failure("internal error: KeyError(17)", frozenset({1})),
    )
    assert "internal error" in caplog.text
    job = Outcome(on=[1])
    add(controller, job)
    assert job.wait() == (True, None)


def test_set_link_state_of_several_boards(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    job = Outcome(on=[1, 2, 3])
    add(controller, job)
    job.wait()
    controller._set_link_state(Links.north_east, False, [1, 2])
    controller._set_link_state(Links.north_east, False, 3)
    controller._set_link_state(link=Links.north_east, enable=True, board=2)
    assert [frame.register(board, 2, 0x1005C) for board in (1, 2, 3)] == [1, 0, 1]
    with pytest.raises(BMPError, match="board 30 failed"):
        controller._set_link_state(Links.east, True, 30)


def test_a_power_on_does_not_wait_for_the_links_of_others(
    frame: SimulatedFrame, connect: Connect
) -> None:
    frame.faults.delay = 0.01
    controller = connect()
    many = Outcome(on=[0], links=[(0, Links.east, False)] * 300)
    add(controller, many)
    wait_for(lambda: Command.FPGA_WRITE in commands(frame), "the first link")
    job = Outcome(on=[1])
    add(controller, job)
    wait_for(lambda: 1 in frame.powered_boards, "the power-on")
    assert not many.is_done
    assert job.wait() == many.wait() == (True, None)
    assert frame.command_counts()[Command.FPGA_WRITE] == 300


def test_a_bmp_that_was_updated_is_used_as_what_it_is(
    frame: SimulatedFrame, connect: Connect
) -> None:
    controller = connect()
    frame.version = (1, 36, 0)
    old = Outcome(on=[1], links=[(1, Links.east, False)])
    add(controller, old)
    assert old.wait() == (True, None)
    assert frame.register(1, 0, 0x5C) == 0
    frame.version = (2, 1, 0)
    new = Outcome(on=[1], links=[(1, Links.east, False)])
    add(controller, new)
    assert new.wait() == (True, None)
    assert frame.register(1, 0, 0x5C) == 1


@pytest.mark.usefixtures("impatient", "short_retry")
def test_a_bmp_that_falls_silent_while_boards_settle(
    simulator: BMPSimulator, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    frame = simulator.add_frame(HOST, settle_seconds=0.2)
    job = Outcome(on=[1])
    add(connect(), job)
    wait_for(lambda: frame.powered_boards)
    frame.faults.silent = True
    success, reason = job.wait()
    assert not success
    assert isinstance(reason, Failure)
    assert reason.boards == {1}
    assert "reading the BMP version of board 1 failed: no answer" in caplog.text


@pytest.mark.parametrize("method", ["add", "next_step", "next_due", "take_ended"])
def test_an_error_of_the_schedule_fails_its_tasks_and_ends_nothing(
    frame: SimulatedFrame,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    method: str,
) -> None:
    controller = connect()
    monkeypatch.setattr(controller, "PAUSE_AFTER_ERROR", 0.05)
    works = getattr(Schedule, method)
    errors = [KeyError(17)]

    def fail_once(schedule: Schedule, *args: Any) -> Any:
        if (schedule or method == "add") and errors:
            raise errors.pop()
        return works(schedule, *args)

    monkeypatch.setattr(Schedule, method, fail_once)
    jobs = [Outcome(on=[1]), Outcome(off=[2])]
    with controller:
        for job in jobs:
            add(controller, job)
    results = [(success, str(reason)) for success, reason in (j.wait() for j in jobs)]
    assert (False, "internal error: KeyError(17)") in results
    assert all(len(job.calls) == 1 for job in jobs)
    assert "internal error" in caplog.text
    later = Outcome(on=[3])
    add(controller, later)
    assert later.wait() == (True, None)


def test_asking_a_bmp_with_an_error_of_ours_ends_nothing(
    frame: SimulatedFrame, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = connect()
    monkeypatch.setattr(controller, "PAUSE_AFTER_ERROR", 0.05)
    version = controller._transceiver.version
    errors = [KeyError(17)]

    def fail_once(*args: Any) -> Any:
        if errors:
            raise errors.pop()
        return version(*args)

    monkeypatch.setattr(controller._transceiver, "version", fail_once)
    answers: list[str | None] = []
    controller.watch(answers.append)
    wait_for(lambda: answers == [None])


def test_a_result_is_told_even_if_it_cannot_be_counted(
    frame: SimulatedFrame, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_args: Any) -> Any:
        raise KeyError(17)

    monkeypatch.setattr(counts, "note_request", fail)
    controller = connect()
    job = Outcome(on=[1])
    add(controller, job)
    assert job.wait() == (True, None)


def test_a_schedule_that_is_broken_for_good_can_be_stopped(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = connect()

    def fail(*_args: Any) -> Any:
        raise KeyError(17)

    monkeypatch.setattr(Schedule, "next_step", fail)
    job = Outcome(on=[1])
    add(controller, job)
    assert job.wait() == (
        False,
        Failure("internal error: KeyError(17)", frozenset({1})),
    )
    controller.stop()
    wait_for(lambda: controller.has_ended)
    with pytest.raises(RuntimeError, match="has ended"):
        controller.add_requests(Outcome(on=[1]).requests)
