"""Jobs that toggle their power, and the end of a server that has much to do with BMPs.

With the waits of real hardware, but for how long boards settle where it says so.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spalloc_server.simulator import Command
from tests.hardware_faults.machine_room import (
    DESTROYED,
    READY,
    Room,
    boards_of,
    create,
    open_room,
    state,
    wait_for_state,
)
from tests.support import Client, wait_until

TOGGLES = 60

SETTLE = 1.0
"""Seconds that boards settle, where it is not the five of real ones."""

LONGEST_STOP = 30.0
"""Seconds within which the server has to end, whatever it has to do."""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        room.waits = None
        yield room


def toggle(client: Client, job_id: int, times: int = TOGGLES) -> None:
    """Switch a job off and on, so many times, without waiting; it is on in the end."""
    for number in range(times):
        name = "power_off_job_boards" if number % 2 == 0 else "power_on_job_boards"
        client.send_command(name, job_id)
    for _ in range(times):
        assert client.reply()["return"] is None


def stop_seconds(room: Room, number: signal.Signals = signal.SIGTERM) -> float:
    assert room.server is not None
    began = time.monotonic()
    assert room.server.stop(number) == 0
    return time.monotonic() - began


def test_of_many_toggles_the_last_counts_and_nobody_waits_for_the_others(
    room: Room,
) -> None:
    room.waits = {"settle": SETTLE}
    (frame,) = room.add(width=1, height=8)
    frame.power_on_seconds = 0.15
    client = room.start()
    job_id = create(client)
    wait_for_state(client, READY, job_id)
    before = len(frame.power_commands())
    began = time.monotonic()
    toggle(client, job_id)
    other = create(client)
    wait_for_state(client, READY, job_id, other)
    # Two or three power-ons, one after the other; all of them would take 35 s.
    assert time.monotonic() - began < 8 * SETTLE
    assert len(frame.power_commands()) - before < 10
    # The final state is that of the last request.
    assert frame.powered_boards == {0, 1}
    assert client.call("get_job_state", job_id)["power"] is True
    toggle(client, job_id, TOGGLES + 1)
    wait_for_state(client, READY, job_id)
    assert frame.powered_boards == {1}
    toggle(client, job_id)
    began = time.monotonic()
    client.call("destroy_job", job_id)
    client.call("destroy_job", other)
    everything = create(client, 1, 8)
    wait_until(lambda: boards_of(client, everything))
    assert time.monotonic() - began < 8 * SETTLE
    wait_for_state(client, READY, everything)


def test_the_end_comes_soon_however_much_was_toggled(room: Room) -> None:
    room.waits = {"settle": SETTLE}
    frames = room.add(width=2, height=8)
    for frame in frames:
        frame.power_on_seconds = 0.15
    client = room.start()
    jobs = [create(client) for _ in range(6)]
    wait_for_state(client, READY, *jobs)
    for job_id in jobs:
        toggle(client, job_id)
    assert stop_seconds(room) < LONGEST_STOP / 3


@pytest.mark.long
@pytest.mark.slow
def test_the_end_comes_soon_though_a_bmp_does_not_answer(room: Room) -> None:
    (frame,) = room.add(width=1, height=8)
    client = room.start()
    jobs = [create(client) for _ in range(24)]
    wait_for_state(client, READY, *jobs)
    frame.faults.silent = True
    for job_id in jobs:
        toggle(client, job_id, 3)
    assert room.server is not None
    room.server.wait_for_log(r"\(try 1 of 2\)")
    assert stop_seconds(room) < LONGEST_STOP
    # The BMP answers again, and what was lost is done.
    frame.faults.silent = False
    client = room.start()
    wait_until(lambda: {state(client, job_id) for job_id in jobs} <= {READY, DESTROYED})
    wait_until(lambda: frame.powered_boards == set())


@pytest.mark.long
@pytest.mark.slow
def test_the_end_comes_soon_though_power_commands_are_never_answered(
    room: Room,
) -> None:
    # The BMP says its version, but a power-on takes its four tries of ten seconds.
    (frame,) = room.add(width=1, height=8)
    frame.faults.fail_power(on=True, result=None)
    client = room.start()
    jobs = [create(client) for _ in range(24)]
    wait_until(lambda: any(c.command == Command.POWER for c in frame.received))
    assert stop_seconds(room) < LONGEST_STOP
    frame.faults.clear()
    client = room.start()
    wait_for_state(client, READY, *jobs)
    assert frame.powered_boards == set(range(24))


@pytest.mark.slow
def test_what_a_destroyed_job_wanted_counts_no_more(room: Room) -> None:
    """Its first try has failed, and it waits 15 s for the second one."""
    (frame,) = room.add(width=1, height=8)
    frame.faults.fail_power([0], on=True)
    client = room.start()
    job_id = create(client)
    assert room.server is not None
    room.server.wait_for_log(r"\(try 1 of 2\)")
    began = time.monotonic()
    client.call("destroy_job", job_id)
    wait_until(lambda: (False, frozenset({0})) in frame.power_commands())
    assert time.monotonic() - began < 5
    after = len(frame.power_commands())
    frame.faults.clear()
    others = [create(client) for _ in range(24)]
    wait_for_state(client, READY, *others)
    assert all(on for on, _ in frame.power_commands()[after:])
    assert [state(client, other) for other in others] == [READY] * 24
