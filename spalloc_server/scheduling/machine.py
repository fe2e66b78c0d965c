"""A machine as the queue sees it: its boards, who waits for them, and what is kept."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from spalloc_server.allocator import Allocator
from spalloc_server.scheduling.job import _Job
from spalloc_server.scheduling.line import Line
from spalloc_server.scheduling.parts import best_part


@dataclass(frozen=True)
class Kept:
    """A part of a machine that is kept for the head of its line."""

    job_id: int
    """The job."""
    since: float
    """When the part was chosen."""
    holders: frozenset[int]
    """The allocations that had boards of it then."""


class _Machine:
    """A machine and the jobs that wait for it."""

    def __init__(
        self,
        name: str,
        tags: Iterable[str],
        allocator: Allocator,
        queue: Iterable[_Job] | None = None,
    ) -> None:
        """Describe a machine.

        :param tags: all that a job requires must be among them
        :param allocator: of the machine's boards
        :param queue: the jobs waiting, first come first
        """
        self.name = name
        self.tags = frozenset(tags)
        self.allocator = allocator
        self.line = Line(fair=False)
        self.kept: Kept | None = None
        # Who is first in line, since when, and whether a part is to be kept at once
        # since there was one before.
        self.head: tuple[int, float] | None = None
        self.keep_at_once = False
        # The jobs that are in line, and those that have boards, by allocation.
        self.waiting: dict[int, _Job] = {}
        self.holders: dict[int, _Job] = {}
        # The head that did not fit, and the state of the machine at that time.
        self._blocked: tuple[int, int] | None = None
        for job in queue or ():
            job.number = job.number or len(self.waiting) + 1
            self.enqueue(job)

    def __repr__(self) -> str:
        return f"<_Machine {self.name}>"

    @property
    def queue(self) -> deque[_Job]:
        """The jobs waiting, in order. A copy."""
        return deque(self.waiting[job_id] for job_id in self.line)

    def enqueue(self, job: _Job, key: tuple[int, int, int] | None = None) -> None:
        """Put a job in line.

        :param key: its place, None for the one that it has by its owner and number
        """
        area = self.allocator.area_of(*job.args, **job.kwargs)
        if key is None:
            self.line.append(
                job.id, job.owner, job.number, job.request, area, job.boards
            )
        else:
            self.line.insert(job.id, job.owner, key, job.request, area, job.boards)
        self.waiting[job.id] = job
        job.queues.append(self)

    def enqueue_first(self, job: _Job) -> None:
        """Put a job before all others, but for one for which a part is kept."""
        behind = None if self.kept is None else self.kept.job_id
        self.enqueue(job, self.line.first_place(behind))

    def dequeue(self, job: _Job) -> None:
        """Take a job out of the line."""
        self.line.discard(job.id)
        del self.waiting[job.id]

    def empty_line(self, fair: bool) -> None:
        """Have nobody wait."""
        self.line = Line(fair)
        self.waiting.clear()
        self.head = self._blocked = None

    def note_blocked(self, job: _Job) -> None:
        """Do not try this head again before something has been freed."""
        self._blocked = (job.id, self.allocator.generation)
        self.line.block(job.id)

    def is_blocked(self, job: _Job) -> bool:
        """Is it known that this head does not fit?"""
        return self._blocked == (job.id, self.allocator.generation)

    def see_head(self, now: float) -> _Job | None:
        """Who is first in line; what was kept for somebody else is let go."""
        job_id = self.line.head()
        if self.head is None or self.head[0] != job_id:
            self.head = None if job_id is None else (job_id, now)
            self.keep_at_once = False
        if self.kept is not None and self.kept.job_id != job_id:
            self.let_go()
        return None if job_id is None else self.waiting[job_id]

    def let_go(self) -> None:
        """Keep nothing for anybody."""
        self.kept = None
        self.allocator.let_go()

    def keep_part_for(self, job: _Job, now: float) -> None:
        """Choose the part that is expected to be free first, and keep it for a job."""
        allocator = self.allocator

        def ages(allocations: list[int]) -> list[float]:
            return [
                now - self.holders[allocation_id].started_at
                for allocation_id in allocations
                if allocation_id in self.holders
            ]

        parts = allocator.parts_for(*job.args, **job.kwargs)
        best = best_part(
            ((region, frozenset(inside)), ages(inside)) for region, inside in parts
        )
        if best is not None:
            (region, holders), _ = best
            allocator.keep(region)
            self.kept = Kept(job.id, now, holders)

    def check_kept(self) -> None:
        """After boards have failed or come back: will the kept part still do?"""
        if self.kept is None:
            return
        job = self.waiting.get(self.kept.job_id)
        region = self.allocator.kept
        if (
            job is None
            or region is None
            or not self.allocator.would_do(region, *job.args, **job.kwargs)
        ):
            self.let_go()
            self.keep_at_once = job is not None

    def start_one(
        self,
        now: float,
        patience: float | None,
        may_start: Callable[[_Job], bool],
        try_job: Callable[[_Job, _Machine], bool],
    ) -> bool:
        """Start the first in line that fits, if anybody does.

        :param patience: how many seconds the head may be overtaken before a part is
            kept for it; None for no overtaking
        :param may_start: is it within what its owner may hold?
        :param try_job: starts a job if there is room
        :return: was a job started?
        """
        self.line.unblock(self.allocator.take_room())
        head = self.see_head(now)
        while head is not None and not may_start(head):
            self.line.set_aside(head.id, head.owner)
            head = self.see_head(now)
        if head is None:
            return False
        # What was kept for another head is available now.
        self.line.unblock(self.allocator.take_room())
        if not self.is_blocked(head):
            if try_job(head, self):
                return True
            self.note_blocked(head)
        if patience is None:
            return False
        if self.kept is None and self.is_due(now, patience):
            self.keep_part_for(head, now)
        while (job_id := self.line.next_to_try()) is not None:
            job = self.waiting[job_id]
            if not may_start(job):
                self.line.set_aside(job_id, job.owner)
            elif try_job(job, self):
                return True
            else:
                self.line.block(job_id)
        return False

    def is_due(self, now: float, patience: float) -> bool:
        """Is it time to keep a part for the head?"""
        if self.kept is not None or self.head is None:
            return False
        return self.keep_at_once or now - self.head[1] >= patience

    def __getstate__(self) -> dict[str, Any]:
        """The machine without its line, which `JobQueue` stores."""
        return {"name": self.name, "tags": self.tags, "allocator": self.allocator}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["name"], state["tags"], state["allocator"]
        )
