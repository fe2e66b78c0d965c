"""A queue in virtual time, whose jobs run for as long as they are told to."""

from __future__ import annotations

import heapq
import itertools
import pickle
from typing import Any

import pytest

from spalloc_server.allocator import Allocator
from spalloc_server.coordinates import Board
from spalloc_server.job_queue import JobQueue
from spalloc_server.scheduling.machine import Kept, _Machine

COOLING = 30.0


class Room:
    """Runs jobs, and looks at what is kept for whom.

    :ivar started: when each job got boards, and on which machine
    :ivar latest: for each job that a part was kept for: when it starts at the latest,
        if nobody who came later, or was behind it, makes it wait
    """

    def __init__(self, scheduling: str = "backfill", restart_every: int = 0) -> None:
        self.now = 1000.0
        self.restart_every = restart_every
        self.started: dict[int, tuple[float, str]] = {}
        self.cancelled: dict[int, str | None] = {}
        self.boards: dict[int, tuple[str, set[Board]]] = {}
        self.ends: dict[int, float] = {}
        self.runs: dict[int, float] = {}
        self.latest: dict[int, float] = {}
        self.part_kept: dict[str, tuple[Kept, Any]] = {}
        self._events: list[tuple[float, int, str, int]] = []
        self._order = itertools.count()
        self._steps = 0
        self._moving = False
        self.queue = JobQueue(None, None, None, COOLING, scheduling=scheduling)
        self._attach()

    def _attach(self) -> None:
        self.queue.on_allocate = self._on_allocate
        self.queue.on_cancel = self._on_cancel
        self.queue.clock = lambda: self.now

    def restart(self) -> None:
        """Go on with a copy, as after a restart of the server."""
        stored = pickle.dumps(self.queue)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Allocator, "clock", staticmethod(lambda: self.now))
            self.queue = pickle.loads(stored)
        self._attach()

    def _on_allocate(
        self, job_id: int, machine: str, boards: set[Board], *_: object
    ) -> None:
        kept = self.queue._machines[machine].kept
        if kept is not None and kept.job_id != job_id:
            region = self.queue._machines[machine].allocator.kept
            assert region is not None
            assert not any((x, y) in region for x, y, _ in boards), "from a kept part"
        assert job_id not in self.boards
        self.started[job_id] = self.now, machine
        self.boards[job_id] = machine, boards
        self.ends[job_id] = self.now + self.runs[job_id]
        self._push(self.ends[job_id], "end", job_id)

    def _on_cancel(self, job_id: int, reason: str | None) -> None:
        self.cancelled[job_id] = reason

    def _push(self, at: float, what: str, job_id: int = -1) -> None:
        heapq.heappush(self._events, (at, next(self._order), what, job_id))

    def create(self, job_id: int, run: float, *args: int, **kwargs: Any) -> None:
        """Hand a job in now."""
        self.runs[job_id] = run
        self.queue.create_job(*args, job_id=job_id, **kwargs)
        self._look()

    def cancel(self, job_id: int) -> None:
        """Have a waiting job end."""
        self.queue.destroy_job(job_id)
        self._look()

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        until = self.now + seconds
        while self._events and self._events[0][0] <= until:
            self._step()
        self.now = until
        self.queue.check_free()
        self._look()

    def wait_for_all(self) -> None:
        """Let time pass until nobody waits or runs."""
        while self._events:
            self._step()

    def _step(self) -> None:
        self.now, _, what, job_id = heapq.heappop(self._events)
        if what == "end":
            self.queue.destroy_job(job_id)
            self.queue.free(job_id)
            del self.boards[job_id]
            self._push(self.now + COOLING, "cool")
        else:
            self.queue.check_free()
        self._look()

    def _look(self) -> None:
        self._steps += 1
        if self.restart_every and self._steps % self.restart_every == 0:
            self.restart()
        for machine in self.queue._machines.values():
            kept = machine.kept
            if kept is not None and kept.job_id not in self.latest:
                self.latest[kept.job_id] = self._free_at(machine, kept)

    def _free_at(self, machine: _Machine, kept: Kept) -> float:
        """When those have ended, and cooled down, that hold boards of a part."""
        ends = [self.now]
        for allocation_id in kept.holders:
            holder = machine.holders.get(allocation_id)
            if holder is None:
                ends.append(machine.allocator._cooling.get(allocation_id, self.now))
            else:
                ends.append(self.ends[holder.id] + COOLING)
        return max(ends)
