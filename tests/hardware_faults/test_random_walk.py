"""Random commands and faults, reloads and restarts, over the real command line."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from typing import Any

import pytest

from spalloc_server.simulator import SimulatedFrame
from tests.hardware_faults.machine_room import (
    DESTROYED,
    POWER,
    QUEUED,
    READY,
    Room,
    boards_of,
    create,
    dead_boards,
    longest_reply,
    reason_of,
    state,
)
from tests.support import wait_until

SECONDS = 8.0
WIDTH, HEIGHT = 3, 2
ALL = {(x, y, z) for x in range(WIDTH) for y in range(HEIGHT) for z in range(3)}


class Walk:
    """A server with one machine, and somebody who breaks things."""

    def __init__(self, room: Room, seed: int) -> None:
        self.room = room
        self.chance = random.Random(seed)
        self.frames: list[SimulatedFrame] = room.add(width=WIDTH, height=HEIGHT)
        room.settings.update(
            first_board_retry=0.3,
            longest_board_retry=0.6,
            timeout_check_interval=0.1,
            seconds_before_free=0.1,
            max_retired_jobs=0,
        )
        room.waits = {**(room.waits or {}), "RETRY_SECONDS": 0.05}
        self.dead: set[tuple[int, int, int]] = set()
        self.client = room.start()

    def create(self) -> None:
        shape = self.chance.choice([(), (2,), (1, 1), (1, 2), (2, 1), (4,), (3, 2)])
        create(self.client, *shape, max_dead_boards=self.chance.choice([None, 0]))

    def change(self) -> None:
        jobs = self.client.call("list_jobs")
        if jobs:
            (command,) = self.chance.choices(
                ["destroy_job", "power_on_job_boards", "power_off_job_boards"],
                [2, 1, 1],
            )
            self.client.call(command, self.chance.choice(jobs)["job_id"])

    def report(self) -> None:
        jobs = [job for job in self.client.call("list_jobs") if job["boards"]]
        if jobs:
            info = self.client.call(
                "get_job_machine_info", self.chance.choice(jobs)["job_id"]
            )
            _, address = self.chance.choice(info["connections"])
            self.client.call("report_problem", address, description="hot")

    def clear(self) -> None:
        for problem in self.client.call("list_problems")[:2]:
            self.client.call("clear_problem", problem["machine"], *problem["board"])

    def break_something(self) -> None:
        faults = self.chance.choice(self.frames).faults
        kind = self.chance.randrange(5)
        if kind == 0:
            faults.silent = True
        elif kind == 1:
            faults.dropped_packets = 0.2
        elif kind == 2:
            faults.fail_power([self.chance.randrange(6)], on=None, times=3)
        elif kind == 3:
            faults.load_wrong_fpga(self.chance.randrange(6), times=8)
        else:
            faults.fail_power(on=False, times=2)

    def mend(self) -> None:
        self.chance.choice(self.frames).faults.clear()

    def reload(self) -> None:
        self.dead = set(self.chance.sample(sorted(ALL), self.chance.randrange(3)))
        self.room.change("m", dead_boards=self.dead)
        self.room.reload()

    def restart(self) -> None:
        self.client = self.room.restart(
            self.chance.choice([signal.SIGTERM, signal.SIGKILL])
        )

    def pause(self) -> None:
        time.sleep(self.chance.random() * 0.3)

    def step(self) -> str:
        weights = {
            self.create: 10,
            self.change: 6,
            self.pause: 6,
            self.report: 2,
            self.break_something: 2,
            self.mend: 2,
            self.clear: 1,
            self.reload: 1,
            self.restart: 1,
        }
        (act,) = self.chance.choices(list(weights), list(weights.values()))
        act()
        return act.__name__

    def check(self) -> None:
        """Check what clients can see: no board is in two jobs, or given out dead."""
        self.client.send_command("list_jobs")
        self.client.send_command("list_machines")
        jobs: list[dict[str, Any]] = self.client.reply()["return"]
        (machine,) = self.client.reply()["return"]
        held = Counter(tuple(b) for job in jobs for b in job["boards"] or ())
        assert not [board for board, times in held.items() if times > 1]
        assert set(held) <= ALL
        assert self.dead <= {tuple(board) for board in machine["dead_boards"]}
        for job in jobs:
            assert job["state"] in (QUEUED, POWER, READY)
            assert (job["boards"] is None) == (job["state"] == QUEUED)

    def check_end(self) -> None:
        """Check that everything can be given out once it is mended, by itself."""
        for frame in self.frames:
            frame.faults.clear()
        if self.dead:
            self.dead = set()
            self.room.change("m", dead_boards=set())
            self.room.reload()
        for job in self.client.call("list_jobs"):
            self.client.call("destroy_job", job["job_id"])
        wait_until(lambda: dead_boards(self.client) == [])
        job_id = create(self.client, WIDTH, HEIGHT, max_dead_boards=0)
        wait_until(lambda: state(self.client, job_id) in (READY, DESTROYED))
        assert state(self.client, job_id) == READY, reason_of(self.client, job_id)
        assert {(x, y, z) for x, y, z in boards_of(self.client, job_id)} == ALL


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "scheduling"), [(1, "backfill"), (2, "fifo")])
def test_a_random_walk(room: Room, seed: int, scheduling: str) -> None:
    room.settings["scheduling"] = scheduling
    walk = Walk(room, seed)
    steps: list[str] = []
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or len(steps) < 20:
        steps.append(walk.step())
        walk.check()
    walk.check_end()
    assert room.server is not None
    assert "Traceback" not in room.server.log
    assert room.server.stop() == 0


def test_commands_are_answered_while_frames_are_dead(room: Room) -> None:
    """The loop waits for no hardware, whatever is broken."""
    walk = Walk(room, 3)
    for frame in walk.frames[1:]:
        frame.faults.silent = True
    for _ in range(20):
        walk.create()
    longest = longest_reply(walk.client, 1.0)
    assert longest < 0.5
    walk.check_end()
