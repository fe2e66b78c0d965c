"""A walk through whatever can happen to jobs and boards, checked after each step."""

from __future__ import annotations

import json
import pickle
import random
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

from spalloc_server import controller as controller_module
from spalloc_server.allocator import Allocator
from spalloc_server.configuration import Machine
from spalloc_server.control import change_log, sick_boards
from spalloc_server.control.frames import Frames
from spalloc_server.controller import Controller, JobState
from spalloc_server.coordinates import Board
from spalloc_server.hardware.requests import AtomicRequests, Failure
from spalloc_server.model import changes, job
from spalloc_server.model.board_states import BoardState
from spalloc_server.storage.store import StateStore
from tests.recorded_bmps import BMPs, RecordedBMP, machine

CONFIGURATIONS: list[dict[str, Machine]] = [
    {"m": machine(width=3, height=2), "n": machine("n", width=2)},
    {"n": machine("n", width=2), "m": machine(width=3, height=2)},
    {
        "m": machine(width=3, height=2, dead_boards={(0, 0, 0), (1, 1, 2)}),
        "n": machine("n", width=2, tags={"other", "default"}),
    },
    {"m": machine(width=2, height=2)},
    {"m": machine(width=3, height=2), "n": machine("n", width=1)},
    {},
]
"""What may be in force: machines of other priorities, tags, boards and sizes."""

SCHEDULING: list[dict[str, Any]] = [
    {"scheduling": "fifo", "longest_overtaking": 28_800.0},
    {"scheduling": "backfill", "longest_overtaking": 0.0},
    {"scheduling": "backfill", "longest_overtaking": 600.0},
    {"scheduling": "backfill", "boards_per_owner": 6, "jobs_per_owner": 3},
    {"scheduling": "fifo", "boards_per_owner": 3},
]
"""Rules of who is next, and limits, that may be in force; None where not named."""

NO_LIMITS: dict[str, Any] = {"boards_per_owner": None, "jobs_per_owner": None}

OWNERS = ("me", "you", "they")

SHAPES: list[tuple[int, ...]] = [(), (1,), (2,), (4,), (1, 1), (2, 1), (1, 2), (3, 2)]


class HandClock:
    """Stands in for the module `time`."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return 1e9 + self.now


class BoardWalk:
    """A controller with its hardware, its time and its saved state.

    Each method that does not begin with ``check`` is a step. All numbers may be of any
    size: they choose among what there is.
    """

    def __init__(self, scheduling: str = "backfill") -> None:
        self._undo = ExitStack()
        self.clock = HandClock()
        self.bmps = BMPs()
        for module in (sick_boards, controller_module, job, change_log):
            self._undo.enter_context(mock.patch.object(module, "time", self.clock))
        monotonic = staticmethod(self.clock.monotonic)
        self._undo.enter_context(mock.patch.object(Allocator, "clock", monotonic))
        self._undo.enter_context(
            mock.patch.object(
                controller_module, "AsyncBMPController", self._make_bmp_controller
            )
        )
        memory = Path("/dev/shm")
        self._folder = self._undo.enter_context(
            tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)
        )
        self.controller = Controller(seconds_before_free=30, max_retired_jobs=0)
        self._configure(scheduling=scheduling)
        self.controller.machines = CONFIGURATIONS[0]
        self.store = StateStore(f"{self._folder}/.config.state.1.0.0")
        self.store.open(self.controller)
        # Boards whose last power-off is known to have failed: (machine, board).
        self._perhaps_on: set[tuple[str, Board]] = set()
        self._perhaps_on_stored: set[tuple[str, Board]] = set()

    def _make_bmp_controller(self, *args: Any) -> Any:
        return self.bmps.make(*args)

    def _configure(self, **settings: Any) -> None:
        controller = self.controller
        controller.configure(controller.settings._replace(**settings))

    def close(self) -> None:
        """Leave nothing behind."""
        self.store.close()
        self._undo.close()

    # Steps

    def _command(self, name: str, *arguments: Any) -> None:
        """Give a command as the server does: stored first, then done."""
        record = [name, self.clock.time(), "1.2.3.4", *arguments]
        self.store.commit([record])
        # As it will come back from the disk.
        self.controller.replay([json.loads(json.dumps(record))])

    def create(self, shape: int, demands: int) -> None:
        """Create a job."""
        options: dict[str, Any] = {
            "owner": OWNERS[demands % 7 % 3],
            "keepalive": [None, 60.0][demands % 2],
            "max_dead_boards": [None, 0, 1][demands % 3],
        }
        if demands % 5 == 0:
            options["machine"] = "m"
        self._command("create_job", SHAPES[shape % len(SHAPES)], options)

    def create_on_board(self, number: int) -> None:
        """Create a job for a certain board."""
        options = {"owner": "me", "machine": "m", "keepalive": None}
        self._command("create_job", [number % 3, number // 3 % 2, number % 2], options)

    def change_job(self, number: int, kind: int) -> None:
        """Destroy a job, or power it on or off."""
        jobs = self.controller.list_jobs()
        if jobs:
            job_id = jobs[number % len(jobs)].job_id
            name, *arguments = [
                ("destroy_job", "done"),
                ("power_on_job_boards",),
                ("power_off_job_boards",),
            ][kind % 3]
            self._command(name, job_id, *arguments)

    def answer(self, number: int, outcome: int) -> None:
        """Have a BMP answer its oldest request."""
        pending = {bmp.hostname: bmp for bmp in self.bmps.made if bmp.requests}
        if not pending:
            return
        bmp = pending[sorted(pending)[number % len(pending)]]
        requests = bmp.requests.pop(0)
        boards = sorted({*requests.power_on_boards, *requests.power_off_boards})
        off = self._boards_at(bmp, requests.power_off_boards)
        if not _is_for_job(requests):
            # A test: of a board that an operator has put back meanwhile, it is no news.
            off &= {
                (problem["machine"], problem["board"])
                for problem in self.controller.list_problems()
                if problem["out_of_service"]
            }
        if outcome % 3:
            requests.on_done(True)
            self._perhaps_on -= off
            return
        failed = boards[:1] if outcome % 2 else boards
        requests.on_done(False, Failure("no answer", frozenset(failed)))
        self._perhaps_on |= off & self._boards_at(bmp, failed)

    def _boards_at(
        self, bmp: RecordedBMP, numbers: list[int]
    ) -> set[tuple[str, Board]]:
        """The boards of these numbers; none where the BMP is no longer in use."""
        return {
            (name, board)
            for name, described in self.controller.machines.items()
            for (cabinet, row), controller in self._frames(name).items()
            if controller is bmp
            for board, place in described.board_locations.items()
            if place[:2] == (cabinet, row) and place[2] in numbers
        }

    def _frames(self, name: str) -> Frames:
        frames = self.controller._parts.frames.of_machine(name)
        assert frames is not None
        return frames

    def answer_all(self) -> None:
        """Have all BMPs do all that they were asked for."""
        self.bmps.answer()
        # This may be less than all, which makes for a weaker check only.
        self._perhaps_on.clear()

    def hear_bmp(self, number: int, silent: bool) -> None:
        """Have a BMP found to be silent, or not to be."""
        bmp = self.bmps.made[number % len(self.bmps.made)] if self.bmps.made else None
        if bmp is not None and bmp.on_answer is not None:
            bmp.on_answer("silent" if silent else None)

    def report(self, number: int) -> None:
        """Have a user report a board."""
        boards = sorted(
            ip
            for m in self.controller.machines.values()
            for ip in m.spinnaker_ips.values()
        )
        if boards:
            ip_address = boards[number % len(boards)]
            self._command("report_problem", ip_address, None, None, None, "hot")

    def clear(self, number: int) -> None:
        """Have an operator put a board back."""
        problems = self.controller.list_problems()
        if problems:
            problem = problems[number % len(problems)]
            self._command("clear_problem", problem["machine"], *problem["board"])
            self._perhaps_on.discard((problem["machine"], problem["board"]))

    def order(self, number: int, kind: int) -> None:
        """Have an operator drain or resume boards, close or open, end or move jobs."""
        name = "m" if "m" in self.controller.machines else "n"
        boards = sorted(self._locations(name))[number % 5 :: 3]
        jobs = [job.job_id for job in self.controller.list_jobs()] or [0]
        job_id = jobs[number % len(jobs)]
        everywhere = [name, None][number % 2]
        orders: list[tuple[Any, ...]] = [
            ("drain", name, boards, "fans", number % 3 == 0),
            ("resume", name, boards, None),
            ("resume", name, sorted(self._locations(name)), None),
            ("close", everywhere, "night"),
            ("open", everywhere, None),
            ("open", None, None),
            ("end jobs", [job_id, 0], "enough"),
            ("move job", job_id, None),
        ]
        self._command(*orders[kind % len(orders)])

    def _locations(self, name: str) -> list[Board]:
        found = self.controller.machines.get(name)
        return [] if found is None else list(found.board_locations)

    def wait(self, seconds: float) -> None:
        """Let time pass, with what the server does by itself then."""
        self.clock.now += seconds
        self.controller.destroy_timed_out_jobs()
        self.controller.check_free()

    def reload(self, number: int) -> None:
        """Have another configuration in force."""
        wired = {n: m.board_locations for n, m in self.controller.machines.items()}
        self.controller.seconds_before_free = [30, 0, 5][number % 3]
        self.controller.machines = CONFIGURATIONS[number % len(CONFIGURATIONS)]
        self._perhaps_on = {
            (name, board)
            for name, board in self._perhaps_on
            # One that is wired anew is another machine: nothing is known of it before
            # all requests to the old one have ended.
            if name in self.controller.machines
            and wired[name] == self.controller.machines[name].board_locations
        }

    def reschedule(self, number: int) -> None:
        """Have other rules of scheduling in force."""
        self._configure(**NO_LIMITS | SCHEDULING[number % len(SCHEDULING)])

    def save(self) -> None:
        """Have a snapshot taken, as when the journal has grown long."""
        self.store.snapshot(self.controller)

    def restart(self, answered: bool) -> None:
        """Stop the server, which may be answered before, and start it again."""
        if answered:
            self.answer_all()
        self.controller.stop()
        self.controller.join()
        # Other frames may have gone on for a little longer.
        for number in (0, 1):
            self.answer(number, number)
        assert self.store.finish(self.controller)
        self._start()

    def crash(self, committed: bool) -> None:
        """Kill the server, perhaps before the last events were stored."""
        if committed:
            self.store.commit_events(self.controller)
        else:
            # Of the others nothing is known any more, and they are powered off again.
            self._perhaps_on &= self._perhaps_on_stored
        self.store.close()
        self._start()

    def _start(self) -> None:
        machines = self.controller.machines
        self.bmps.made.clear()
        self.store = StateStore(f"{self._folder}/.config.state.1.0.0")
        restored = self.store.restore()
        assert restored is not None
        self.controller = restored
        self.controller.start()
        self.controller.machines = machines
        self.store.open(self.controller)

    # Checks

    def check(self) -> None:
        """Check all that must be so at any moment."""
        self.store.commit_events(self.controller)
        self._perhaps_on_stored = set(self._perhaps_on)
        for name in self.controller.machines:
            self.check_states(name)
            self.check_allocator(name)
        self.check_requests()
        copy = pickle.dumps(self.controller)
        self.check_nothing_is_lost(copy)

    def check_states(self, name: str) -> None:
        """Check that states, jobs and dead boards agree."""
        described = self.controller.machines[name]
        states = self.controller.board_states(name)
        everything = {
            (x, y, z)
            for x in range(described.width)
            for y in range(described.height)
            for z in range(3)
        }
        assert states.keys() == everything
        of = {state: {b for b in states if states[b] is state} for state in BoardState}
        living, ending = self._boards_of_jobs(name)
        twice = [board for board, n in (living + ending).items() if n > 1]
        assert not twice, f"in two jobs: {twice}"
        held = of[BoardState.allocated] | of[BoardState.draining]
        assert set(living) <= held
        perhaps_on = {board for machine, board in self._perhaps_on if machine == name}
        assert not perhaps_on & of[BoardState.free]
        drained = self.controller._state.withheld.drained_boards(name)
        drained &= described.board_locations.keys()
        going_off = of[BoardState.powering_off] - self._lent(name)
        assert set(ending) == going_off | of[BoardState.draining] - set(living)
        assert of[BoardState.drained] | of[BoardState.draining] == (
            drained - of[BoardState.dead]
        )
        assert of[BoardState.dead] <= described.dead_boards
        assert (
            described.dead_boards
            <= of[BoardState.dead] | {*living, *ending} | (of[BoardState.cooling])
        )
        out = {
            problem["board"]
            for problem in self.controller.list_problems(name)
            if problem["out_of_service"]
        }
        assert of[BoardState.out_of_service] <= out
        assert not out & of[BoardState.free]
        (told,) = (m for m in self.controller.list_machines() if m.name == name)
        assert told.dead_boards == described.dead_boards | out | drained

    def _boards_of_jobs(self, name: str) -> tuple[Counter[Board], Counter[Board]]:
        """The boards of jobs, and of those that have ended but are not off yet."""
        living: Counter[Board] = Counter()
        ending: Counter[Board] = Counter()
        for job_tuple in self.controller.list_jobs():
            if job_tuple.allocated_machine_name == name:
                living.update(job_tuple.boards or ())
        for ended in self.controller._state.ending_jobs.values():
            found = ended.allocated_machine
            if found is not None and found.name == name and not ended.machine_removed:
                ending.update(ended.boards or ())
        return living, ending

    def _lent(self, name: str) -> set[Board]:
        """Boards that lie in the rectangle of an ending job, but that it had not."""
        _, ending = self._boards_of_jobs(name)
        held = {
            board
            for board, holding in self.controller._state.job_queue.holdings(name)
            if holding.name == "ending"
        }
        return held - set(ending)

    def check_allocator(self, name: str) -> None:
        """Check who has which board, and that exactly the free ones can be given."""
        allocator = self.controller._state.job_queue._machines[name].allocator
        owners = {
            board: job_tuple.job_id
            for job_tuple in self.controller.list_jobs()
            if job_tuple.allocated_machine_name == name
            for board in job_tuple.boards or ()
        }
        states = self.controller.board_states(name)
        pickled = pickle.dumps(allocator)
        for board, state in states.items():
            copy = pickle.loads(pickled)
            given = copy.alloc(*board) is not None
            free = state is BoardState.free and not self._is_closed(name)
            assert given == free, f"{board} is {state}"
            x, y, z = board
            found = self.controller.where_is(machine=name, x=x, y=y, z=z) or {}
            assert found.get("job_id") == owners.get(board)

    def _is_closed(self, name: str) -> bool:
        return self.controller._state.withheld.closing_of(name) is not None

    def check_requests(self) -> None:
        """Check that each job waits for exactly the requests that are under way."""
        waiting = Counter(
            id(requests.on_done.args[1])  # type: ignore[attr-defined]
            for _, requests in self.bmps.pending()
            if _is_for_job(requests)
        )
        for ended in self.controller._state.ending_jobs.values():
            assert ended.bmp_requests_until_ready == waiting[id(ended)] > 0
        for living in self.controller._state.jobs.values():
            assert living.bmp_requests_until_ready == waiting[id(living)]
            if living.boards is None:
                assert living.state is JobState.queued
            else:
                busy = waiting[id(living)] > 0
                assert living.state is (JobState.power if busy else JobState.ready)

    def check_nothing_is_lost(self, pickled: bytes) -> None:
        """Check that all can be given out once everybody is gone and all is mended."""
        bmps, self.bmps = self.bmps, BMPs()
        try:
            copy = pickle.loads(pickled)
            self.mend_everything(copy)
            self.check_all_free(copy)
        finally:
            self.bmps = bmps

    def mend_everything(self, controller: Controller) -> None:
        """End all jobs, answer all requests, clear all problems, and let all rest."""
        now = self.clock.now
        controller.configure(controller.settings._replace(**NO_LIMITS))
        for job_tuple in controller.list_jobs():
            controller.destroy_job(None, job_tuple.job_id)
        self.bmps.answer()
        for problem in controller.list_problems():
            controller.clear_problem(problem["machine"], *problem["board"])
        controller.apply(changes.Open("ada", None, None))
        for name, m in controller.machines.items():
            boards = list(m.board_locations)
            controller.apply(changes.Resume("ada", name, boards, None))
        self.clock.now += 100
        controller.check_free()
        self.clock.now = now

    def check_all_free(self, controller: Controller) -> None:
        """Check that every board can be given out, one by one and all at once."""
        assert not controller._state.ending_jobs
        for name, described in controller.machines.items():
            states = Counter(controller.board_states(name).values())
            dead = len(described.dead_boards)
            assert states[BoardState.dead] == dead
            assert states[BoardState.free] == states.total() - dead
            job_id = controller.create_job(
                None,
                described.width,
                described.height,
                owner="me",
                machine=name,
                max_dead_boards=dead
                if (0, 0, 0) not in described.dead_boards
                else None,
            )
            boards = controller.get_job_machine_info(None, job_id).boards
            if (0, 0, 0) not in described.dead_boards:
                assert boards is not None
                assert len(boards) == states.total() - dead

    def check_end(self) -> None:
        """End the walk: this very controller can give out everything again."""
        self.mend_everything(self.controller)
        self.check_all_free(self.controller)


def _is_for_job(requests: AtomicRequests) -> bool:
    """Was it made for a job, and not to test a board?"""
    name: str = requests.on_done.func.__name__  # type: ignore[attr-defined]
    return name == "_frame_done"


def choose_step(chance: random.Random) -> tuple[str, tuple[Any, ...]]:
    """Choose any step: its name and its arguments."""
    number, kind = chance.randrange(1000), chance.randrange(1000)
    steps: list[tuple[int, str, tuple[Any, ...]]] = [
        (12, "create", (number, kind)),
        (3, "create_on_board", (number,)),
        (6, "change_job", (number, kind)),
        (20, "answer", (number, kind)),
        (1, "answer_all", ()),
        (3, "hear_bmp", (number, kind % 2 == 0)),
        (4, "report", (number,)),
        (2, "clear", (number,)),
        (6, "order", (number, kind)),
        (8, "wait", ([0.5, 5.0, 31.0, 700.0, 90_000.0][kind % 5],)),
        (2, "reload", (number,)),
        (1, "reschedule", (number,)),
        (1, "save", ()),
        (1, "restart", (kind % 2 == 0,)),
        (2, "crash", (kind % 2 == 0,)),
    ]
    ((_, name, arguments),) = chance.choices(steps, [weight for weight, *_ in steps])
    return name, arguments


def random_step(walk: BoardWalk, chance: random.Random) -> str:
    """Do any step; tells which."""
    name, arguments = choose_step(chance)
    getattr(walk, name)(*arguments)
    return f"{name}{arguments}"


def walk_at_random(
    seed: int, seconds: float, steps: int, scheduling: str = "backfill"
) -> int:
    """Walk until time or steps run out; how many steps there were.

    Steps are told where one is wrong, so that the walk can be followed.
    """
    chance = random.Random(seed)
    walk = BoardWalk(scheduling)
    done: list[str] = []
    until = time.monotonic() + seconds
    try:
        while len(done) < steps and time.monotonic() < until:
            done.append("a step that fails")
            done[-1] = random_step(walk, chance)
            walk.check()
        walk.check_end()
    except Exception as error:
        raise AssertionError(f"{error!r} in walk {seed} after {done}") from error
    finally:
        walk.close()
    return len(done)
