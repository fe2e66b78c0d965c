"""What a job queue knows: machines, jobs, owners and time. Shared by its parts."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from spalloc_server.scheduling.limits import Limits
from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.recent import RecentTimes
from spalloc_server.scheduling.timeline import Timeline

#: What `QueueState.scheduling` may be.
SCHEDULING = ("fifo", "backfill")

#: How many seconds the head of a queue may be overtaken before a part is kept for it.
LONGEST_OVERTAKING = 28_800.0


@dataclass(eq=False)
class QueueState:
    """The machines, the jobs and the rules of a queue."""

    seconds_before_free: float
    """How long freed boards stay out of use."""
    scheduling: str
    """Who is tried where the head of a line does not fit."""
    longest_overtaking: float = LONGEST_OVERTAKING
    """For how many seconds the head of a line may be overtaken."""
    machines: OrderedDict[str, _Machine] = field(default_factory=OrderedDict)
    """By name, highest priority first."""
    jobs: dict[int, _Job] = field(default_factory=dict)
    """By ID."""
    limits: Limits = field(default_factory=Limits)
    """What owners may have, and have."""
    timeline: Timeline = field(default_factory=Timeline)
    clock: Callable[[], float] = time.time
    """What tells the time that scheduling goes by; seconds since 1970."""
    waits: RecentTimes = field(default_factory=RecentTimes)
    """How long jobs have waited."""
    runs: RecentTimes = field(default_factory=RecentTimes)
    """How long jobs have had boards."""
    arrivals: int = 0
    """How many jobs have been queued."""
    requeued: int = 0
    """How many have been queued again."""

    @property
    def is_fair(self) -> bool:
        """Do owners take turns?"""
        return self.scheduling == "backfill"

    def now(self) -> float:
        """What time it is."""
        return self.timeline.at(self.clock())

    def go_on(self) -> float:
        """What time it is; to be called when a time is going to be remembered."""
        return self.timeline.go_to(self.clock())

    def restore(self, owner: str | None) -> None:
        """An owner may hold more boards than before."""
        if self.limits.boards is not None:
            for machine in self.machines.values():
                machine.line.restore(owner)

    def count_again(self) -> None:
        """Count what each owner has."""
        self.limits = Limits(self.limits.boards, self.limits.jobs)
        for job in self.jobs.values():
            if not job.ending:
                self.limits.add(job)
                if not job.pending:
                    self.limits.hold(job)
