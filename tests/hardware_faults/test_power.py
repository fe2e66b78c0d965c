"""Jobs that start together, lost packets, and requests that fail."""

from __future__ import annotations

import signal
import time

import pytest

from tests.hardware_faults.machine_room import (
    POWER,
    QUICK,
    READY,
    Room,
    boards_of,
    create,
    dead_boards,
    seconds_until_ready,
    state,
    wait_for_state,
)
from tests.support import wait_until


@pytest.mark.slow
def test_24_jobs_on_a_frame_are_ready_as_soon_as_one(room: Room) -> None:
    # The plain command line, with the five seconds that real boards settle.
    room.waits = None
    room.add(width=1, height=8)
    alone = seconds_until_ready(room.start(), 1)
    assert alone > 5
    assert room.server is not None
    room.server.stop()
    room.options = ("--cold-start",)
    together = seconds_until_ready(room.start(), 24)
    assert together < 1.5 * alone


@pytest.mark.slow
def test_1200_jobs_on_50_frames_are_ready_as_soon_as_one(room: Room) -> None:
    room.waits = None
    # How long boards of real frames take to power on.
    for frame in room.add(width=50, height=8):
        frame.power_on_seconds = 2.0
    client = room.start()
    together = seconds_until_ready(client, 1200)
    assert len(client.call("list_jobs")) == 1200
    alone = 5.0 + 2.0
    # Other tests use the processors, too. One frame after another would take 100 s, and
    # one board of a frame after another 48 s.
    assert together < 2.5 * alone


@pytest.mark.slow
def test_a_request_starts_at_once_while_others_settle(room: Room) -> None:
    room.waits = None
    (frame,) = room.add(width=1)
    client = room.start()
    first = create(client)
    wait_until(lambda: frame.powered_boards == {0})
    time_of_second = time.monotonic()
    second, third = create(client), create(client)
    wait_until(lambda: frame.powered_boards == {0, 1, 2})
    assert time.monotonic() - time_of_second < 2
    client.call("destroy_job", third)
    assert state(client, first) == state(client, second) == POWER
    wait_for_state(client, READY, first, second)
    assert time.monotonic() - time_of_second < 7.5


def test_a_retry_holds_up_nobody_and_is_not_waited_for_at_the_end(room: Room) -> None:
    room.waits = {**QUICK, "RETRY_SECONDS": 15.0}
    (frame,) = room.add(width=1)
    frame.faults.fail_power([0], on=True, times=1)
    client = room.start()
    failing = create(client, 0, 0, 0, machine="m")
    assert room.server is not None
    room.server.wait_for_log("try 1 of 2")
    failed_at = time.monotonic()
    other = create(client, 0, 0, 1, machine="m")
    wait_for_state(client, READY, other)
    client.call("destroy_job", other)
    wait_until(lambda: frame.powered_boards == set())
    assert state(client, failing) == POWER
    assert room.server.stop(signal.SIGTERM) == 0
    assert time.monotonic() - failed_at < 7.5
    # The second try was made on the way out.
    assert frame.powered_boards == {0}
    client = room.start()
    wait_for_state(client, READY, failing)


@pytest.mark.parametrize("seed", [1, 2])
def test_lost_packets_are_ridden_out(room: Room, seed: int) -> None:
    frames = room.add(width=2, height=1)
    for frame in frames:
        frame.faults._random.seed(seed)
        frame.faults.dropped_packets = 0.2
    client = room.start()
    jobs = [create(client, 0, 0, z, machine="m") for z in range(3)]
    jobs.append(create(client, 1, 1))
    wait_for_state(client, READY, *jobs)
    assert dead_boards(client) == []
    places = [board for job_id in jobs for board in boards_of(client, job_id)]
    assert sorted(places) == [[x, 0, z] for x in (0, 1) for z in range(3)]
    for job_id in jobs:
        client.call("destroy_job", job_id)
    wait_until(lambda: not frames[0].powered_boards | frames[1].powered_boards)
    assert dead_boards(client) == []


def test_a_bmp_that_never_answers_touches_only_its_own_frame(room: Room) -> None:
    # The server's own patience: 25 seconds until a request has failed for good.
    room.waits = {"settle": 0.0}
    silent, good = room.add()
    client = room.start()
    first = create(client, 0, 0, 0, machine="m")
    wait_for_state(client, READY, first)
    silent.faults.silent = True
    create(client, 0, 0, 1, machine="m")
    client.call("destroy_job", first)
    wait_until(lambda: good.received)
    started = time.monotonic()
    for _ in range(5):
        job_id = create(client, 1, 0, 0, machine="m")
        wait_for_state(client, READY, job_id)
        client.call("destroy_job", job_id)
    assert time.monotonic() - started < 5
    assert state(client, 2) == POWER
    assert dead_boards(client) == []


@pytest.mark.long
@pytest.mark.slow
def test_with_the_patience_of_the_server_itself(room: Room) -> None:
    room.waits = {"settle": 0.0}
    silent, failing_once, _ = room.add(width=3)
    client = room.start()
    silent.faults.silent = True
    failing_once.faults.fail_power(times=1)
    started = time.monotonic()
    moved = create(client, 1, 1, max_dead_boards=0)
    retried = create(client, 1, 0, 0, machine="m")
    assert boards_of(client, moved) == [[0, 0, z] for z in range(3)]
    wait_for_state(client, READY, retried)
    assert 15 <= time.monotonic() - started < 20
    wait_for_state(client, READY, moved)
    assert 20 < time.monotonic() - started < 35
    assert boards_of(client, moved) == [[2, 0, z] for z in range(3)]
    assert dead_boards(client) == [[0, 0, z] for z in range(3)]
