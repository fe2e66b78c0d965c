"""All that is known of jobs and machines: what the parts of the controller share."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from spalloc_server.configuration import Machine
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_health import BoardHealth
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.job import _Job
from spalloc_server.model.withheld import Withheld

PRESENT_RULES: Final = 4
"""The rules by which the server decides; before 4, boards that were out of service made
jobs impossible. What was stored under older rules is replayed by these."""


@dataclass(slots=True, eq=False)
class State:
    """What outlives the process, and an index over it.

    Guarded by the controller's lock. The parts of the controller hold on to this object
    only, never to what is in it: that may be replaced.
    """

    job_queue: JobQueue
    """Who waits for which machine, and which boards are given out."""
    next_id: int = 1
    """The ID of the next job."""
    next_holder_id: int = -1
    """Boards that a living job had to give up are held by jobs of these IDs."""
    max_retired_jobs: int = 1200
    """Of how many ended jobs the reason is remembered."""
    machines: OrderedDict[str, Machine] = field(default_factory=OrderedDict)
    """By name, highest priority first."""
    jobs: dict[int, _Job] = field(default_factory=dict)
    """Jobs that have not ended, oldest first."""
    ending_jobs: dict[int, _Job] = field(default_factory=dict)
    """Jobs that have ended but whose boards are still being powered off."""
    retired_jobs: OrderedDict[int, str | None] = field(default_factory=OrderedDict)
    """Why jobs have ended, longest ago first."""
    changed_jobs: set[int] = field(default_factory=set)
    """Jobs that have changed since those who watch were told."""
    changed_machines: set[str] = field(default_factory=set)
    """Machines that have changed since those who watch were told."""
    health: BoardHealth = field(default_factory=BoardHealth)
    """Which boards are out of service, and what was reported of boards."""
    withheld: Withheld = field(default_factory=Withheld)
    """Which boards are drained, and which machines are closed."""
    rules: int = PRESENT_RULES
    """By which rules decisions are made."""
    boards: BoardIndex = field(init=False)
    """Where boards are, and which job has them; made anew from the rest."""

    def __post_init__(self) -> None:
        self.boards = BoardIndex(self.machines.values(), self.jobs.values())

    def forget_old_jobs(self) -> None:
        """Remember why jobs ended of no more of them than is set."""
        while len(self.retired_jobs) > self.max_retired_jobs:
            self.retired_jobs.popitem(last=False)
