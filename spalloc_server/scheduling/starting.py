"""Who of those that wait is started, and when it is worth looking."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import inf

from spalloc_server.allocator import Allocation
from spalloc_server.scheduling import keeping, trying
from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.matching import Matching
from spalloc_server.scheduling.state import QueueState


class Starting:
    """Gives jobs their boards, as far as there are any."""

    def __init__(
        self,
        state: QueueState,
        matching: Matching,
        on_start: Callable[[_Job, Allocation], object],
        attempt: Callable[[_Job, _Machine], bool],
    ) -> None:
        """Start nobody yet.

        :param matching: takes those who are started out of their lines
        :param on_start: told of each
        :param attempt: does what `try_job` does, or has it done
        """
        self._state = state
        self._matching = matching
        self._on_start = on_start
        self._attempt = attempt
        self.is_settled = False
        """Is it known that nobody can start, whoever is tried?"""

    def try_job(self, job: _Job, machine: _Machine) -> bool:
        """Start a job on a machine if there is room.

        :return: whether there was room
        """
        kept = machine.kept
        if kept is not None and kept.job_id == job.id:
            allocation = machine.allocator.alloc_kept(*job.args, **job.kwargs)
        else:
            allocation = machine.allocator.alloc(*job.args, **job.kwargs)
        if allocation is None:
            return False
        state = self._state
        self._matching.take_out(job)
        job.machine = machine
        machine.holders[allocation.allocation_id] = job
        job.started_at = state.go_on()
        state.waits.add(job.boards, job.started_at - job.queued_at)
        state.limits.hold(job)
        job.allocation_id = allocation.allocation_id
        self._on_start(job, allocation)
        return True

    def start_all(self) -> None:
        """Start who can be: each machine in turn tries its line, over and over."""
        state = self._state
        self.is_settled = False
        patience = state.longest_overtaking if state.is_fair else None
        told = state.clock()
        now = state.timeline.at(told)
        progress, changed = True, False
        while progress:
            progress = changed = False
            for machine in list(state.machines.values()):
                before = machine.head, machine.kept, machine.looked
                if trying.start_one(
                    machine, now, patience, self.may_start, self._attempt
                ):
                    progress = True
                elif before != (machine.head, machine.kept, machine.looked):
                    changed = True
                    state.timeline.go_to(told)
        # What is kept for one may be a reason to pass over another.
        self.is_settled = not changed

    def start_by_age(
        self, nowhere: Sequence[_Job], drop: Callable[[Iterable[_Job]], object]
    ) -> None:
        """Start whoever is first in a line and fits, the oldest before all others.

        Only for lines in which nobody is overtaken. It decides as if they had all come
        just now, one after the other, each to the first machine that has room.

        :param nowhere: those that are to be dropped, oldest first
        :param drop: drops some of them
        """
        state = self._state
        self.is_settled = False
        told = state.clock()
        now = state.timeline.at(told)
        while True:
            first: tuple[_Job, _Machine] | None = None
            for machine in state.machines.values():
                before = machine.head
                job = trying.head_to_try(machine, now, self.may_start)
                if before != machine.head:
                    state.timeline.go_to(told)
                if job is not None and (first is None or job.number < first[0].number):
                    first = job, machine
            number = inf if first is None else first[0].number
            older = [job for job in nowhere if job.number < number]
            if older:
                drop(older)
                nowhere = nowhere[len(older) :]
                continue
            if first is None:
                return
            job, machine = first
            if not self._attempt(job, machine):
                machine.note_blocked(job)

    def may_start(self, job: _Job) -> bool:
        """Is a job within what its owner may hold?

        What the heads of queues need counts as held: no other job of the same owner
        makes them wait. Of several heads, those count for which a part is kept for
        longer.
        """
        limit = self._state.limits.boards
        if limit is None or job.owner is None:
            return True
        # Of each head of the same owner, since when a part is kept for it.
        heads: dict[_Job, float] = {}
        for machine in self._state.machines.values():
            head = None if machine.head is None else machine.waiting(machine.head[0])
            if head is not None and head.owner == job.owner:
                kept = machine.kept
                is_kept = kept is not None and kept.job_id == head.id
                since = kept.since if kept is not None and is_kept else inf
                heads[head] = min(since, heads.get(head, inf))
        rank = heads.get(job, inf), job.number
        reserved = sum(
            head.boards
            for head, since in heads.items()
            if job not in heads or (since < inf and (since, head.number) < rank)
        )
        return self._state.limits.held_by(job.owner) + reserved + job.boards <= limit

    # Where nobody needs to be tried

    def follows_from_coming(self, job: _Job) -> bool:
        """May anybody start because a job has been put in line?

        Not if others are before it, nobody could start before it came, and it is not
        yet time to keep a part for somebody.
        """
        if not self.is_settled:
            return True
        is_fair = self._state.is_fair
        for machine in job.queues:
            if machine.line.head() == job.id:
                return True
            if is_fair and machine.line.next_to_try() is not None:
                return True
        return is_fair and self._is_time_to_look()

    def follows_from_leaving(self, job: _Job) -> bool:
        """May others start when a job leaves its lines?

        Not if it is the head of none, and what its owner may have does not matter.
        """
        if not self.is_settled or self._state.limits.boards is not None:
            return True
        for machine in job.queues:
            if machine.head is None or machine.head[0] == job.id:
                return True
        return self._state.is_fair and self._is_time_to_look()

    def _is_time_to_look(self) -> bool:
        now, patience = self._state.now(), self._state.longest_overtaking
        for machine in self._state.machines.values():
            if keeping.is_time_to_look(machine, now, patience):
                return True
        return False

    def is_due(self) -> bool:
        """Would something be decided now only because time has passed?"""
        now, patience = self._state.now(), self._state.longest_overtaking
        machines = self._state.machines.values()
        return self._state.is_fair and any(
            keeping.is_due(machine, now, patience) for machine in machines
        )
