"""Jobs and machines as the queue sees them: who waits for what, and what is kept."""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any

from spalloc_server.allocator import Allocator
from spalloc_server.placement.plans import boards_asked
from spalloc_server.scheduling.line import Line

#: Never allocated from: it is only asked whether a request makes sense at all.
_ANY_MACHINE = Allocator(1, 1)

#: Of how many requests a machine remembers what they need of it.
_REMEMBERED = 4096

#: Jobs are of the same class of size if they need less than this share of the machine,
#: the next one, or more than both (which is `line.LARGE`).
_SHARES = (0.04, 0.16)


@dataclass(frozen=True)
class Kept:
    """A part of a machine that is kept for the head of its line."""

    job_id: int
    """The job."""
    since: float
    """When the part was chosen."""
    holders: frozenset[int]
    """The allocations that had boards of it then."""


#: Arguments of the command that creates a job.
Words = tuple[tuple[Any, ...], dict[str, Any]]


class Demand:
    """What some jobs ask for, and where they wait."""

    __slots__ = (
        "args",
        "boards",
        "could",
        "could_at",
        "jobs",
        "kinds",
        "kwargs",
        "machine_name",
        "placed",
        "request",
        "tags",
        "words",
    )

    def __init__(
        self,
        machine_name: str | None,
        tags: frozenset[str] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> None:
        """Check a demand.

        :param machine_name: the only machine that will do, None for any with the tags
        :param tags: what the machine must have, None for "default"
        :param args: what to ask of `Allocator.alloc`
        :param kwargs: likewise
        :raises TypeError: if an argument is unknown
        :raises ValueError: if the arguments contradict each other
        """
        _ANY_MACHINE.alloc_possible(*args, **kwargs)
        self.machine_name = machine_name
        self.tags = tags
        self.args = args
        self.kwargs = kwargs
        self.request: Hashable = (args, *kwargs.items()) if kwargs else args
        """The same for all that ask for the same of a machine."""
        self.boards = boards_asked(*args, **kwargs)
        """For how many boards each of the jobs counts."""
        self.jobs: dict[int, _Job] = {}
        """Those that wait, by ID."""
        self.placed: tuple[_Machine, ...] | None = None
        """In whose lines all of them stand; None where that may not be the same."""
        self.could: tuple[_Machine, ...] = ()
        """The machines that could hold it were they idle, by priority..."""
        self.could_at = -1
        """...in this version of the machines."""
        self.words: Words | None = None
        """How the first job has put it."""
        self.kinds: list[object] | None = None
        """Of what kinds these words are."""

    def in_words(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Words:
        """The words of a job that asks for it, as one object for all with the same.

        :param args: of the command with which it was created; not to be changed
        :param kwargs: likewise
        """
        words = args, kwargs
        if self.words is None:
            self.words = words
            self.kinds = _kinds(words)
        # 1, 1.0 and True are equal, but are not told in the same way.
        alike = self.words == words and self.kinds == _kinds(words)
        return self.words if alike else words


def _kinds(words: Words) -> list[object]:
    args, kwargs = words
    return [*map(type, args), *kwargs, *map(type, kwargs.values())]


class _Job:
    """A job that is queued, allocated, or waiting for its boards to be freed."""

    __slots__ = (
        "allocation_id",
        "demand",
        "ending",
        "id",
        "machine",
        "number",
        "owner",
        "pending",
        "queued_at",
        "queues",
        "started_at",
    )

    def __init__(
        self,
        _id: int,
        pending: bool = True,
        machine_name: str | None = None,
        tags: Iterable[str] | None = frozenset(),
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        machine: _Machine | None = None,
        allocation_id: int | None = None,
    ) -> None:
        """Describe a job.

        :param _id: unique among the jobs of its queue
        :param pending: is it queued?
        :param machine_name: the only machine it may run on, None for any with the tags
        :param tags: what its machine must have, None for "default"
        :param args: what to ask of `Allocator.alloc`
        :param kwargs: what to ask of `Allocator.alloc`
        :param machine: the machine it is allocated on
        :param allocation_id: its allocation on that machine
        :raises TypeError: as `Demand` does
        :raises ValueError: likewise
        """
        own_tags = None if tags is None else frozenset(tags)
        demand = Demand(machine_name, own_tags, args, kwargs or {})
        self._begin(demand, _id, None, machine, allocation_id)
        self.pending = pending

    @classmethod
    def of(cls, demand: Demand, job_id: int, owner: str | None) -> _Job:
        """Make a job that waits for what others may wait for, too.

        :param owner: who takes turns with others, and whom limits are for
        """
        job = cls.__new__(cls)
        job._begin(demand, job_id, owner)
        return job

    def _begin(
        self,
        demand: Demand,
        job_id: int,
        owner: str | None,
        machine: _Machine | None = None,
        allocation_id: int | None = None,
    ) -> None:
        self.id = job_id
        self.pending = True
        # What it asks for; one for all jobs of the queue that ask for the same.
        self.demand = demand
        # Who takes turns with others, and whom limits are for.
        self.owner = owner
        self.machine = machine
        self.allocation_id = allocation_id
        # The machines in whose queues the job still stands. Set by who puts it there;
        # mostly all that ask for the same have it in common.
        self.queues: tuple[_Machine, ...] = ()
        # Is it destroyed, but still in possession of its boards?
        self.ending = False
        # Its place in the order of arrival, and when it was queued and got boards.
        self.number = 0
        self.queued_at = 0.0
        self.started_at = 0.0

    @property
    def machine_name(self) -> str | None:
        """See `Demand`; likewise those that follow."""
        return self.demand.machine_name

    @property
    def tags(self) -> frozenset[str] | None:
        """What its machine must have."""
        return self.demand.tags

    @property
    def args(self) -> tuple[Any, ...]:
        """What to ask of `Allocator.alloc`."""
        return self.demand.args

    @property
    def kwargs(self) -> dict[str, Any]:
        """What to ask of `Allocator.alloc`."""
        return self.demand.kwargs

    @property
    def boards(self) -> int:
        """For how many boards it counts: those that come with whole triads do, too."""
        return self.demand.boards

    def __repr__(self) -> str:
        return f"<_Job {self.id}>"


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
        # When a part was last looked for, and until when it is known that none will be
        # kept if nothing happens; the latter need not be stored.
        self.looked = 0.0
        self.none_before = 0.0
        self.jobs: dict[int, _Job] = {}
        """The jobs of whoever has this machine, those in line among them, by ID."""
        # Those that have boards, by allocation.
        self.holders: dict[int, _Job] = {}
        # What requests need of this machine: triads, and the class of size.
        self._needs: dict[Hashable, tuple[int, int]] = {}
        # The head that did not fit, and the state of the machine at that time.
        self._blocked: tuple[int, int] | None = None
        for job in queue or ():
            job.number = job.number or len(self.line) + 1
            self.jobs[job.id] = job
            self.enqueue(job)
            job.queues += (self,)

    def __repr__(self) -> str:
        return f"<_Machine {self.name}>"

    @property
    def queue(self) -> deque[_Job]:
        """The jobs waiting, in order. A copy."""
        return deque(self.jobs[job_id] for job_id in self.line)

    def waiting(self, job_id: int) -> _Job | None:
        """The job of an ID, None if it is not in line."""
        return self.jobs[job_id] if job_id in self.line else None

    def enqueue(self, job: _Job, key: tuple[int, int, int] | None = None) -> None:
        """Put a job in line; whoever does, says so in its `queues`.

        :param key: its place, None for the one that it has by its owner and number
        """
        demand = job.demand
        request = demand.request
        needs = self._needs.get(request)
        if needs is None:
            needs = self._find_needs(job)
        area, size_class = needs
        line, owner = self.line, job.owner
        if key is None:
            key = line.next_place(owner, job.number, size_class)
        line.insert(job.id, owner, key, request, area, demand.boards, size_class)
        if self.allocator.withheld_boards and self._needs_withheld(job):
            self.line.hold_back(job.id, True)

    def _find_needs(self, job: _Job) -> tuple[int, int]:
        """How many triads a job needs at least, and its class of size."""
        allocator = self.allocator
        area = allocator.area_of(*job.args, **job.kwargs)
        share = area / (allocator.width * allocator.height)
        needs = area, bisect_right(_SHARES, share)
        if len(self._needs) >= _REMEMBERED:
            self._needs.clear()
        self._needs[job.demand.request] = needs
        return needs

    def _needs_withheld(self, job: _Job) -> bool:
        """Does a job that is possible need boards that are withheld?"""
        allocator = self.allocator
        return bool(allocator.withheld_boards) and not allocator.alloc_possible_now(
            *job.args, **job.kwargs
        )

    def match_withheld(self) -> None:
        """After boards were withheld, or are no more: pass over those who need them.

        They keep their places, but nobody waits for them.
        """
        for job_id in self.line.one_of_each():
            needs = self._needs_withheld(self.jobs[job_id])
            self.line.hold_back(job_id, needs)

    def enqueue_first(self, job: _Job) -> None:
        """Put a job before all others, but for one for which a part is kept."""
        behind = None if self.kept is None else self.kept.job_id
        self.enqueue(job, self.line.first_place(behind))

    def empty_line(self, fair: bool) -> None:
        """Have nobody wait."""
        self.line = Line(fair)
        self.head = self._blocked = None

    def note_blocked(self, job: _Job) -> None:
        """Do not try this head again before something has been freed."""
        self._blocked = (job.id, self.allocator.generation)
        self.line.block(job.id)

    def is_blocked(self, job: _Job) -> bool:
        """Is it known that this head does not fit?"""
        return self._blocked == (job.id, self.allocator.generation)

    def let_go(self) -> None:
        """Keep nothing for anybody."""
        self.kept = None
        self.allocator.let_go()

    def __getstate__(self) -> dict[str, Any]:
        """The machine without its line, which `JobQueue` stores."""
        return {"name": self.name, "tags": self.tags, "allocator": self.allocator}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(  # type: ignore[misc]
            state["name"], state["tags"], state["allocator"]
        )
