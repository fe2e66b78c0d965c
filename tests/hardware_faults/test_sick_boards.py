"""Boards that fail, and what users and operators see of it."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from tests.hardware_faults.machine_room import (
    QUEUED,
    READY,
    Room,
    boards_of,
    create,
    dead_boards,
    reason_of,
    state,
    wait_for_state,
)
from tests.support import Client, CommandError, wait_until


def test_a_board_with_a_wrong_fpga_costs_its_job_a_moment(room: Room) -> None:
    frame, _ = room.add()
    frame.faults.load_wrong_fpga(1, fpga=2)
    client = room.start()
    client.call("notify_machine")
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)
    assert job_id == 1
    assert boards_of(client, job_id) == [[1, 0, z] for z in range(3)]
    assert dead_boards(client) == [[0, 0, 1]]
    assert client.notification() == {"machines_changed": ["m"]}
    (problem,) = client.call("list_problems", "m")
    assert problem["board"] == [0, 0, 1]
    assert problem["physical"] == [0, 0, 1]
    assert problem["ip_address"] == "10.1.0.1"
    assert problem["reason"] == (
        f"BMP {room.host('m', 0)}: wrong FPGA identity on board 1: FPGA 2 says 0"
    )
    # The others of the first place are off, and somebody else can have them.
    other = create(client, 0, 0, 0, machine="m")
    wait_for_state(client, READY, other)
    assert frame.powered_boards == {0}


def test_a_frame_that_refuses_power_blames_the_boards_of_the_request(
    room: Room,
) -> None:
    good, bad, _, _ = room.add(width=4, height=2)
    bad.faults.fail_power(on=True)
    client = room.start()
    # In one turn of the loop: soon after, the job may be somewhere else already.
    client.send(
        b'{"command": "create_job", "args": [2, 1],'
        b' "kwargs": {"owner": "me", "keepalive": null, "max_dead_boards": 0}}\n'
        b'{"command": "get_job_machine_info", "args": [1]}\n'
    )
    job_id = client.reply()["return"]
    info = client.reply()["return"]
    assert info["boards"] == [[x, 0, z] for x in (0, 1) for z in range(3)]
    wait_for_state(client, READY, job_id)
    given = boards_of(client, job_id)
    # It has had one more place in the bad frame since, or none, as time went.
    blamed: dict[str, list[list[int]]] = {}
    for problem in client.call("list_problems"):
        blamed.setdefault(problem["reason"], []).append(problem["board"])
    first = "power on of boards 0, 1, 2 failed: the answer was RC_DEAD"
    # Not those of the other frame, nor others of this one.
    assert blamed.pop(f"BMP {room.host('m', 1)}: {first}") == [
        [1, 0, z] for z in range(3)
    ]
    second = "power on of boards 3, 4, 5 failed: the answer was RC_DEAD"
    assert blamed in (
        {},
        {f"BMP {room.host('m', 1)}: {second}": [[1, 1, z] for z in range(3)]},
    )
    assert not any(board in given for board in dead_boards(client))
    wait_until(lambda: len(good.powered_boards) == sum(b[0] == 0 for b in given))


def test_a_frame_that_falls_silent_is_left_alone(room: Room) -> None:
    silent, _ = room.add(height=2)
    client = room.start()
    first = create(client)
    wait_for_state(client, READY, first)
    silent.faults.silent = True
    # One board in the silent frame: elsewhere in there would be no better.
    job_id = create(client)
    assert boards_of(client, job_id) == [[0, 0, 1]]
    wait_for_state(client, READY, job_id)
    ((x, *_),) = boards_of(client, job_id)
    assert x == 1
    out = {tuple(p["board"]): p for p in client.call("list_problems")}
    assert sorted(out) == [(0, y, z) for y in range(2) for z in range(3)]
    # Also of the one that the job had asked for: it has done nothing.
    for problem in out.values():
        assert problem["waits_for_bmp"]
        assert "reading the BMP version of board 0" in problem["reason"]
        assert problem["next_test"] is None
    # The job that is there goes on.
    assert state(client, first) == READY
    silent.faults.clear()
    wait_until(lambda: dead_boards(client) == [])
    assert room.server is not None
    assert "cabinet 0, frame 0 answers again" in room.server.log


def test_after_three_places_a_job_is_told_what_failed(room: Room) -> None:
    for frame in room.add(width=5):
        frame.faults.fail_power([2], on=True)
    client = room.start()
    job_id = create(client, 1, 1, max_dead_boards=0, machine="m")
    reason = reason_of(client, job_id)
    dead = dead_boards(client)
    frames = sorted({x for x, _, _ in dead})
    assert len(frames) == 3
    # The last of the places.
    assert reason in [
        "Machine configuration failed. Error: "
        f"BMP {room.host('m', x)}: power on of boards 0, 1, 2 failed: the answer was "
        f"RC_DEAD (machine m, boards (x, 0, 0) at cabinet 0, frame {x}, board 0; "
        f"({x}, 0, 1) at cabinet 0, frame {x}, board 1; "
        f"({x}, 0, 2) at cabinet 0, frame {x}, board 2)".replace("(x,", f"({x},")
        for x in frames
    ]
    assert room.server is not None
    assert len(room.server.log.split("Job 1 of me: BMP")) == 4


def test_a_ready_job_ends_when_it_is_reset_on_a_failing_board(room: Room) -> None:
    frame, _ = room.add()
    client = room.start()
    job_id = create(client, 1, 1)
    wait_for_state(client, READY, job_id)
    frame.faults.load_wrong_fpga(2, fpga=1)
    client.call("power_on_job_boards", job_id)
    assert reason_of(client, job_id) == (
        "Machine configuration failed. Error: "
        f"BMP {room.host('m', 0)}: wrong FPGA identity on board 2: FPGA 1 says 2 "
        "(machine m, board (0, 0, 2) at cabinet 0, frame 0, board 2)"
    )
    assert dead_boards(client) == [[0, 0, 2]]
    wait_until(lambda: frame.powered_boards == set())


def test_machines_change_for_those_who_watch_them(room: Room) -> None:
    frame, _ = room.add()
    frame.faults.load_wrong_fpga(0)
    client = room.start()
    watcher = room.connect()
    watcher.call("notify_machine", "m")
    create(client)
    while not dead_boards(watcher):
        assert watcher.notification() == {"machines_changed": ["m"]}
    watcher.notifications.clear()
    client.call("clear_problem", "m", 0, 0, 0)
    while dead_boards(watcher):
        assert watcher.notification() == {"machines_changed": ["m"]}


def test_jobs_that_cannot_run_for_now_wait_and_say_so(room: Room) -> None:
    frame, _ = room.add()
    client = room.start()
    running = create(client, 1, 1)
    wait_for_state(client, READY, running)
    waiting = create(client, 2, 1, max_dead_boards=0)
    assert state(client, waiting) == QUEUED
    frame.faults.fail_power([0], on=True)
    client.call("power_on_job_boards", running)
    wait_until(lambda: dead_boards(client))
    late = create(client, 2, 1, max_dead_boards=0)
    for job_id in (waiting, late):
        told = client.call("get_job_state", job_id)
        assert told["state"] == QUEUED
        assert told["waiting"]["text"].startswith(
            "waiting: frame (0, 0) is out of service since "
        )
    frame.faults.clear()
    for z in range(3):
        client.call("clear_problem", "m", 0, 0, z)
    wait_for_state(client, READY, waiting)
    assert state(client, late) == QUEUED


def test_boards_stay_out_of_service_over_restarts_and_reloads(room: Room) -> None:
    frame, _ = room.add()
    frame.faults.load_wrong_fpga(1)
    client = room.start()
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)
    (problem,) = client.call("list_problems")
    for number in (signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        client = room.restart(number)
        assert dead_boards(client) == [[0, 0, 1]]
        (same,) = client.call("list_problems")
        assert 0 < same.pop("next_test") <= 600
        assert same == {k: v for k, v in problem.items() if k != "next_test"}
        wait_for_state(client, READY, job_id)
    room.change("m", tags={"default", "more"})
    room.reload()
    assert dead_boards(client) == [[0, 0, 1]]


@pytest.mark.parametrize(
    "number",
    [None, signal.SIGTERM, signal.SIGKILL],
    ids=["running on", "stopped", "killed"],
)
def test_a_board_that_works_again_returns_by_itself(
    room: Room, number: signal.Signals | None
) -> None:
    frame, _ = room.add()
    room.settings.update(
        first_board_retry=0.4, longest_board_retry=0.8, timeout_check_interval=0.1
    )
    frame.faults.load_wrong_fpga(1)
    client = room.start()
    watcher = room.connect()
    job_id = create(client, 1, 1, max_dead_boards=0)
    wait_for_state(client, READY, job_id)
    wait_until(lambda: frame.powered_boards == set())
    if number is not None:
        client = room.restart(number)
        watcher = room.connect()
    watcher.call("notify_machine")
    frame.forget_received()
    # Three times in each of two tries, and off again: a test, of this board alone.
    tests = [(True, frozenset({1}))] * 6
    wait_until(lambda: frame.power_commands()[:6] == tests)
    assert dead_boards(client) == [[0, 0, 1]]
    frame.faults.clear()
    wait_until(lambda: dead_boards(client) == [])
    assert client.call("list_problems") == []
    assert watcher.notification() == {"machines_changed": ["m"]}
    assert frame.powered_boards == set()
    assert frame.power_commands()[-2:] == [
        (True, frozenset({1})),
        (False, frozenset({1})),
    ]
    assert room.server is not None
    room.server.wait_for_log(r"Board \(0, 0, 1\) of m is back in service")


def test_the_pause_between_tests_grows(room: Room) -> None:
    frame, _ = room.add()
    room.settings.update(
        first_board_retry=0.2, longest_board_retry=1000, timeout_check_interval=0.05
    )
    room.waits = {**(room.waits or {}), "RETRY_SECONDS": 0.0}
    frame.faults.load_wrong_fpga(1)
    client = room.start()
    create(client, 0, 0, 1, machine="m")
    pauses: list[float] = []

    def next_test() -> float:
        (problem,) = client.call("list_problems") or [{"next_test": None}]
        return float(problem["next_test"] or 0)

    for pause in (0.4, 0.8, 1.6, 3.2):
        wait_until(lambda pause=pause: pause / 2 < next_test() <= pause)  # type: ignore[misc]
        pauses.append(pause)
    assert pauses == [0.4, 0.8, 1.6, 3.2]


def test_boards_that_stay_on_are_not_given_out(room: Room) -> None:
    frame, _ = room.add(width=2)
    room.settings.update(first_board_retry=0.5, timeout_check_interval=0.1)
    client = room.start()
    job_id = create(client, 1, 1)
    wait_for_state(client, READY, job_id)
    frame.faults.fail_power(on=False)
    client.call("destroy_job", job_id)
    waiting = create(client, 2, 1, max_dead_boards=0)
    out = [[0, 0, z] for z in range(3)]
    wait_until(lambda: dead_boards(client) == out)
    (reason,) = {problem["reason"] for problem in client.call("list_problems")}
    assert "power off of boards 0, 1, 2 failed: the answer was RC_DEAD" in reason
    assert state(client, waiting) == QUEUED
    client.call("destroy_job", waiting)
    elsewhere = create(client, 1, 1, max_dead_boards=0)
    assert boards_of(client, elsewhere) == [[1, 0, z] for z in range(3)]
    # Tests fail for as long as they cannot be powered off.
    assert room.server is not None
    room.server.wait_for_log(r"Board \(0, 0, 0\) of m: .* power off of ")
    assert dead_boards(client) == out
    frame.faults.clear()
    wait_until(lambda: dead_boards(client) == [])
    assert frame.powered_boards == set()
    wait_for_state(client, READY, create(client, 1, 1, max_dead_boards=0))


def test_boards_of_forgotten_jobs_are_not_lost(room: Room) -> None:
    frame, other = room.add()
    room.settings["max_retired_jobs"] = 0
    client = room.start()
    for _ in range(3):
        job_id = create(client, 2, 1)
        wait_for_state(client, READY, job_id)
        frame.faults.silent = other.faults.silent = True
        client.call("destroy_job", job_id)
        # Forgotten before its boards are off.
        assert client.call("get_job_state", job_id)["state"] == 0
        assert frame.powered_boards == other.powered_boards == {0, 1, 2}
        frame.faults.silent = other.faults.silent = False
    last = create(client, 2, 1, max_dead_boards=0)
    wait_for_state(client, READY, last)
    assert len(boards_of(client, last)) == 6


# What users report


def report_twice(client: Client) -> list[Any]:
    """Two jobs, one after the other, report the board at 10.1.0.0.

    :return: what came of it
    """
    outcomes = []
    for number in range(2):
        job_id = create(client, 0, 0, 0, machine="m", owner=f"user {number}")
        wait_for_state(client, READY, job_id)
        outcome = client.call(
            "report_problem", "10.1.0.0", x=1, y=2, p=3, description=f"hot {number}"
        )
        outcomes.append(outcome)
        client.call("destroy_job", job_id, "it is hot")
    return outcomes


FIRST = "kept; a board goes out of service when two jobs report it"


def test_reports_of_two_jobs_take_a_board_out_of_service(room: Room) -> None:
    room.add()
    client = room.start()
    by_nobody = client.call("report_problem", "10.1.0.0", description="by nobody")
    same = {"machine": "m", "board": [0, 0, 0], "physical": [0, 0, 0]}
    assert by_nobody == {
        **same,
        **{"jobs": 0, "out_of_service": False, "text": FIRST},
    }
    first, second = report_twice(client)
    assert first == {**by_nobody, "jobs": 1}
    assert second == {
        **same,
        **{"jobs": 2, "out_of_service": True, "text": "it is out of service from now"},
    }
    assert dead_boards(client) == [[0, 0, 0]]
    again = client.call("report_problem", "10.1.0.0", description="by nobody")
    assert again == {**second, "text": "it is out of service already"}
    client.call("clear_problem", "m", 0, 0, 0)
    client.call("report_problem", "10.1.0.0", description="by nobody")
    report_twice(client)
    (problem,) = client.call("list_problems")
    assert problem["out_of_service"] is True
    assert problem["reason"] == "reported by 2 jobs: by nobody; hot 0; hot 1"
    times = [report.pop("time") for report in problem["reports"]]
    assert times == sorted(times)
    place = {"x": 1, "y": 2, "p": 3}
    assert problem["reports"][1:] == [
        {"job_id": 3, "owner": "user 0", **place, "description": "hot 0"},
        {"job_id": 4, "owner": "user 1", **place, "description": "hot 1"},
    ]
    assert problem["reports"][0]["job_id"] is None
    for number in (signal.SIGKILL, signal.SIGTERM):
        client = room.restart(number)
        (same,) = client.call("list_problems")
        assert [report.pop("time") for report in same["reports"]] == times
        assert {**same, "next_test": 0} == {**problem, "next_test": 0}
        assert dead_boards(client) == [[0, 0, 0]]
    client.call("clear_problem", "m", 0, 0, 0)
    assert dead_boards(client) == []
    client = room.restart(signal.SIGKILL)
    assert client.call("list_problems") == []
    assert dead_boards(client) == []
    wait_for_state(client, READY, create(client, 0, 0, 0, machine="m"))


def test_a_single_job_cannot_take_a_board_out_of_service(room: Room) -> None:
    room.add()
    client = room.start()
    create(client, 0, 0, 0, machine="m")
    for _ in range(3):
        assert client.call("report_problem", "10.1.0.0")["text"] == FIRST
    assert dead_boards(client) == []
    client = room.restart(signal.SIGKILL)
    (problem,) = client.call("list_problems", machine_name="m")
    assert problem["out_of_service"] is False
    assert len(problem["reports"]) == 3
    assert client.call("list_problems", "other") == []


def test_who_has_a_reported_board_keeps_it(room: Room) -> None:
    room.add()
    client = room.start()
    job_id = create(client, 0, 0, 0, machine="m")
    wait_for_state(client, READY, job_id)
    client.call("report_problem", "10.1.0.0")
    client.call("destroy_job", job_id)
    second = create(client, 0, 0, 0, machine="m")
    wait_for_state(client, READY, second)
    client.call("report_problem", "10.1.0.0")
    assert dead_boards(client) == [[0, 0, 0]]
    assert state(client, second) == READY
    client.call("power_on_job_boards", second)
    wait_for_state(client, READY, second)
    third = create(client, 0, 0, 0, machine="m")
    assert state(client, third) == QUEUED


@pytest.mark.parametrize(
    ("command", "args", "problem"),
    [
        ("report_problem", [], "ip_address"),
        ("report_problem", [7], "ip_address must be a string, not 7"),
        ("report_problem", ["1.2.3.4"], "ip_address '1.2.3.4' belongs to no board"),
        ("report_problem", ["10.1.0.0", "0"], "x must be an integer, not '0'"),
        ("report_problem", ["10.1.0.0", 0, -1], "y must be from 0"),
        ("report_problem", ["10.1.0.0", 0, 0, 1.5], "p must be an integer, not 1.5"),
        ("report_problem", ["10.1.0.0", 0, 0, 0, 8], "description must be a string"),
        ("list_problems", [3], "machine_name must be a string, not 3"),
        ("clear_problem", ["m", 0, 0], "z"),
        ("clear_problem", ["m", 0, None, 0], "y must be an integer, not None"),
        ("clear_problem", ["m", 0, 0, 3], "machine 'm' has no board (0, 0, 3)"),
        ("clear_problem", ["k", 0, 0, 0], "machine 'k' has no board (0, 0, 0)"),
    ],
)
def test_wrong_arguments_are_named(
    client_of_a_room: Client, command: str, args: list[object], problem: str
) -> None:
    with pytest.raises(CommandError) as caught:
        client_of_a_room.call(command, *args)
    assert problem in str(caught.value)
    assert client_of_a_room.call("list_problems") == []
