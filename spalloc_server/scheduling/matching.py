"""Which jobs stand in the lines of which machines."""

from __future__ import annotations

from spalloc_server.scheduling.demands import Demands
from spalloc_server.scheduling.keeping import check_kept
from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.state import QueueState


class Matching:
    """Puts jobs that wait in line, and takes them out. Starts nobody."""

    def __init__(self, state: QueueState) -> None:
        """Begin with nobody who waits."""
        self._state = state
        self.demands = Demands(state.machines)
        # Those that wait, but do not stand in line yet.
        self._newcomers: list[_Job] = []

    def begin_again(self) -> None:
        """Have nobody stand in line; `match_again` puts all who wait there."""
        self._newcomers = [job for job in self._state.jobs.values() if job.pending]
        self.demands = Demands(self._state.machines)
        for job in self._state.jobs.values():
            job.queues = ()
            job.demand = self.demands.of(job)
        for machine in self._state.machines.values():
            machine.let_go()
            machine.empty_line(self._state.is_fair)

    def machines_for(self, job: _Job) -> tuple[_Machine, ...]:
        """The machines that could hold a job were they idle, by priority."""
        return self.demands.machines_for(job.demand)

    def postpone(self, job: _Job) -> None:
        """Leave a job to the next `match_again`."""
        self._newcomers.append(job)

    def place(self, job: _Job) -> None:
        """Put a job that stands nowhere yet in line."""
        machines = self.demands.machines_for(job.demand)
        for machine in machines:
            machine.enqueue(job)
        job.queues = machines
        self.demands.join(job, machines)

    def take_out(self, job: _Job) -> None:
        """Take a job out of all lines: it waits no more."""
        job.pending = False
        for machine in job.queues:
            machine.line.discard(job.id)
        job.queues = ()
        self.demands.leave(job)

    def match_again(self) -> list[_Job]:
        """Put jobs in the lines where they belong now; leave them where they do.

        Takes time in proportion to the number of different requests, and of the jobs
        that do not belong where they stand.

        :return: those that belong nowhere, oldest first
        """
        self.demands.note_change()
        displaced, self._newcomers = self._newcomers, []
        for demand in self.demands.awaited():
            wanted = self.demands.machines_for(demand)
            if demand.placed is None or demand.placed != wanted:
                displaced += demand.jobs.values()
                demand.placed = wanted
        displaced = sorted({job for job in displaced if job.pending}, key=_number)
        for job in displaced:
            self._move(job)
        for machine in self._state.machines.values():
            machine.match_withheld()
            check_kept(machine)
        return [job for job in displaced if not job.queues]

    def _move(self, job: _Job) -> None:
        """Have a job stand in the lines where it belongs, and no others."""
        wanted = self.demands.machines_for(job.demand)
        machines = self._state.machines
        already = [m for m in job.queues if machines.get(m.name) is m]
        for machine in already:
            if machine not in wanted:
                machine.line.discard(job.id)
        for machine in wanted:
            if machine not in already:
                machine.enqueue(job)
        job.queues = wanted
        self.demands.join(job, wanted)


def _number(job: _Job) -> int:
    """The place of a job in the order of arrival."""
    return job.number
