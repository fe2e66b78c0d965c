"""BMPs that do not answer when a server starts or reads its configuration again."""

from __future__ import annotations

import signal
import time

import pytest

from tests.hardware_faults.machine_room import (
    QUEUED,
    READY,
    Room,
    boards_of,
    create,
    dead_boards,
    longest_reply,
    reason_of,
    state,
    wait_for_state,
)
from tests.support import wait_until

FRAME_0 = [[0, 0, z] for z in range(3)]


def test_the_server_starts_without_some_bmps_and_takes_them_in_later(
    room: Room,
) -> None:
    room.add(served=False)
    room.serve("m", 1)
    client = room.start()
    assert room.server is not None
    line = room.server.wait_for_log(r"ERROR.*out of service until their BMP answers.*")
    assert "machine m, cabinet 0, frame 0 " in line[0]
    assert f"BMP {room.host('m', 0)}: " in line[0]
    wait_until(lambda: dead_boards(client) == FRAME_0)
    problems = client.call("list_problems", "m")
    assert [problem["board"] for problem in problems] == FRAME_0
    assert all("BMP version" in problem["reason"] for problem in problems)
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)
    assert boards_of(client, job_id) == [[1, 0, z] for z in range(3)]
    # Said once, however often it is tried.
    assert room.server.log.count("until their BMP answers") == 1

    client.call("notify_machine")
    frame = room.serve("m", 0)
    assert client.notification() == {"machines_changed": ["m"]}
    assert dead_boards(client) == []
    room.server.wait_for_log("WARNING.*machine m, cabinet 0, frame 0 answers again")
    second = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, second)
    assert boards_of(client, second) == FRAME_0
    assert frame.powered_boards == {0, 1, 2}


def test_the_server_starts_without_any_bmp(room: Room) -> None:
    room.add(served=False)
    client = room.start()
    wait_until(lambda: len(dead_boards(client)) == 6)
    waiting = create(client, keepalive=None)
    assert state(client, waiting) == QUEUED
    for number in (signal.SIGKILL, signal.SIGTERM):
        client = room.restart(number)
        assert len(dead_boards(client)) == 6
        # A power cut does not empty the queue.
        assert state(client, waiting) == QUEUED
    room.serve("m", 0)
    room.serve("m", 1)
    wait_until(lambda: dead_boards(client) == [])
    wait_for_state(client, READY, waiting)
    client.call("destroy_job", waiting)
    job_id = create(client, 2, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)


def test_a_name_that_does_not_resolve_is_a_silent_bmp(room: Room) -> None:
    room.add()
    room.change("m", bmps=["no-such-bmp.invalid", room.host("m", 1)])
    client = room.start()
    assert room.server is not None
    room.server.wait_for_log("frame 0 are out .* BMP no-such-bmp.invalid: ")
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)


def test_a_job_that_meets_a_silent_bmp_at_the_start_is_given_other_boards(
    room: Room,
) -> None:
    room.add(served=False)
    room.serve("m", 1)
    client = room.start()
    # Before it is known that there is no BMP.
    job_id = create(client)
    assert boards_of(client, job_id) == [[0, 0, 0]]
    wait_for_state(client, READY, job_id)
    assert boards_of(client, job_id) == [[1, 0, 0]]


@pytest.mark.parametrize("restart", [None, signal.SIGKILL, signal.SIGTERM])
def test_a_bmp_that_falls_silent_while_jobs_end_and_start(
    room: Room, restart: signal.Signals | None
) -> None:
    """Nobody loses a place, and boards are back as soon as the BMP is."""
    (frame,) = room.add(width=1)
    client = room.start()
    ending = create(client, 1, 1)
    wait_for_state(client, READY, ending)
    waiting = [create(client, 1, 1, max_dead_boards=0) for _ in range(2)]
    frame.faults.silent = True
    client.call("destroy_job", ending)
    wait_until(lambda: dead_boards(client) == FRAME_0)
    if restart is not None:
        client = room.restart(restart)
        wait_until(lambda: dead_boards(client) == FRAME_0)
    for problem in client.call("list_problems"):
        # It is nothing that these boards have done.
        assert problem["waits_for_bmp"]
    for job_id in waiting:
        told = client.call("get_job_state", job_id)
        assert told["state"] == QUEUED
        text = told["waiting"]["text"]
        assert text.startswith("waiting: frame (0, 0) does not answer since ")
    assert frame.powered_boards == {0, 1, 2}
    frame.faults.silent = False
    wait_for_state(client, READY, waiting[0])
    assert client.call("list_problems") == []
    # The boards of the one that ended were off in between.
    assert room.server is not None
    assert room.server.log.count("powered off boards 0, 1, 2") == 1
    assert state(client, waiting[1]) == QUEUED

    client.call("power_off_job_boards", waiting[0])
    wait_for_state(client, READY, waiting[0])
    frame.faults.silent = True
    client.call("power_off_job_boards", waiting[0])
    wait_until(lambda: dead_boards(client) == FRAME_0)
    client.call("destroy_job", waiting[0])
    frame.faults.silent = False
    wait_for_state(client, READY, waiting[1])
    assert client.call("list_problems") == []


def test_a_bmp_that_falls_silent_while_a_job_starts(room: Room) -> None:
    (frame,) = room.add(width=1)
    client = room.start()
    frame.faults.silent = True
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_until(lambda: dead_boards(client) == FRAME_0)
    wait_for_state(client, QUEUED, job_id)
    assert all(problem["waits_for_bmp"] for problem in client.call("list_problems"))
    frame.faults.silent = False
    wait_for_state(client, READY, job_id)
    assert client.call("list_problems") == []


def test_bmps_that_are_not_there_at_a_reload(room: Room) -> None:
    room.add()
    client = room.start()
    running = create(client, 2, 1)
    wait_for_state(client, READY, running)
    room.add("n", served=False)
    room.serve("n", 1)
    room.reload()
    assert longest_reply(client, 1.0) < 0.5
    assert dead_boards(client, "m") == []
    wait_until(lambda: dead_boards(client, "n") == FRAME_0)
    job_id = create(client, 1, 1, machine="n", max_dead_boards=0)
    wait_for_state(client, READY, running, job_id)
    room.serve("n", 0)
    wait_until(lambda: dead_boards(client, "n") == [])


def test_reloads_never_wait_for_a_dead_bmp(room: Room) -> None:
    # The server's own patience: half a minute for each request to a dead BMP.
    room.waits = {"settle": 0.0}
    silent, _ = room.add("dead")
    room.add("good")
    client = room.start()
    doomed = create(client, 2, 1, machine="dead")
    kept = create(client, 1, 1, machine="good")
    wait_for_state(client, READY, doomed, kept)
    silent.faults.silent = True

    # Described differently, so that it goes and comes back.
    room.change("dead", network=77)
    began = time.monotonic()
    room.reload()
    assert reason_of(client, doomed) == "Machine removed."
    again = create(client, 1, 0, 0, machine="dead")
    wait_for_state(client, READY, again)  # the frame of a BMP that works
    room.add("new")
    room.remove("dead")
    room.reload()
    assert reason_of(client, again) == "Machine removed."
    fresh = [create(client, 1, 1, machine=name) for name in ("good", "new")]
    wait_for_state(client, READY, kept, *fresh)
    # All that while the first request to the dead one has not even failed.
    assert time.monotonic() - began < 10
    assert longest_reply(client, 1.0) < 0.5
    room.add("last")
    room.reload()
    wait_for_state(client, READY, create(client, machine="last"))
    silent.faults.silent = False
    wait_until(lambda: silent.powered_boards == set())
