"""Match jobs to machines: queue those that have to wait, allocate those that can run.

A job joins the queue of every machine that could hold it were that machine idle.
Of each queue only the head is tried, so that a large job is not passed over for
ever by small ones; the first machine with room gets the job.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum, auto
from types import TracebackType
from typing import Any

from spalloc_server.allocator import Allocation, Allocator
from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.plain.shapes import (
    BOOL,
    INT,
    NUMBER,
    OPTIONAL_INT,
    OPTIONAL_STR,
    STR,
    PlainDataError,
    anything_plain,
    dict_of,
    fields,
    list_of,
    of_type,
    optional,
    plain,
    set_of,
)

#: ``f(job_id, machine_name, boards, periphery, torus)``
OnAllocate = Callable[[int, str, set[Board], set[BoardLink], WrapAround], object]
#: ``f(job_id, reason)``
OnEnd = Callable[[int, "str | None"], object]

#: Never allocated from: it is only asked whether a request makes sense at all.
_ANY_MACHINE = Allocator(1, 1)

_DEFAULT_TAGS = frozenset({"default"})

#: Why a job that no machine could ever hold is cancelled.
_NO_MACHINE = "No suitable machines available."


_STATE = fields(
    "job queue",
    {
        "seconds_before_free": NUMBER,
        "machines": list_of(
            fields(
                "machine of the queue",
                {
                    "name": STR,
                    "tags": set_of(STR),
                    "removed": BOOL,
                    "allocator": anything_plain,
                    "queue": list_of(INT),
                },
            )
        ),
        "jobs": list_of(
            fields(
                "job of the queue",
                {
                    "id": INT,
                    "pending": BOOL,
                    "ending": BOOL,
                    "machine_name": OPTIONAL_STR,
                    "tags": optional(set_of(STR)),
                    "args": of_type(tuple),
                    "kwargs": dict_of(STR, anything_plain),
                    "machine": OPTIONAL_INT,
                    "allocation_id": OPTIONAL_INT,
                },
            )
        ),
    },
)


class Holding(Enum):
    """Why a board is not free."""

    allocated = auto()
    """A job has it, or a rectangle that it lies in."""
    ending = auto()
    """It is not yet given back after the end of its job."""
    cooling = auto()
    """It is given back, and cools down."""


class _Job:
    """A job that is queued, allocated, or waiting for its boards to be freed."""

    __slots__ = (
        "allocation_id",
        "args",
        "ending",
        "id",
        "kwargs",
        "machine",
        "machine_name",
        "pending",
        "queues",
        "tags",
    )

    def __init__(
        self,
        _id: int,
        pending: bool = True,
        machine_name: str | None = None,
        tags: Iterable[str] | None = frozenset(),
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
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
        """
        self.id = _id
        self.pending = pending
        self.machine_name = machine_name
        self.tags = tags
        self.args = args
        self.kwargs = kwargs or {}
        self.machine = machine
        self.allocation_id = allocation_id
        # The machines in whose queues the job still stands.
        self.queues: list[_Machine] = []
        # Is it destroyed, but still in possession of its boards?
        self.ending = False

    def __repr__(self) -> str:
        return f"<_Job {self.id}>"


class _Machine:
    """A machine and the jobs that wait for it.

    Jobs are not taken out of the middle of a queue: one that is no longer
    pending is passed over when it comes to the head.
    """

    def __init__(
        self,
        name: str,
        tags: Iterable[str],
        allocator: Allocator,
        queue: deque[_Job] | None = None,
    ) -> None:
        """Describe a machine.

        :param tags: all that a job requires must be among them
        :param allocator: of the machine's boards
        :param queue: the jobs waiting, first come first
        """
        self.name = name
        self.tags = frozenset(tags)
        self.allocator = allocator
        self.queue: deque[_Job] = deque() if queue is None else queue
        self._stale = 0
        # So many at the beginning are not to be tried before boards are released.
        self._passed = 0
        # The head that did not fit, and the state of the machine at that time.
        self._blocked: tuple[int, int] | None = None

    def __repr__(self) -> str:
        return f"<_Machine {self.name}>"

    def enqueue(self, job: _Job) -> None:
        """Put a job at the end of the queue."""
        self.queue.append(job)
        job.queues.append(self)

    def head_to_try(self) -> _Job | None:
        """The first pending job, unless it is known that it does not fit yet.

        Those that wait for boards that are withheld keep their places, but nobody waits
        for them.
        """
        while self.queue and not self.queue[0].pending:
            self.queue.popleft()
            self._stale -= 1
            self._passed = 0
        for job in itertools.islice(self.queue, self._passed, None):
            if job.pending and not self.is_held_back(job):
                return None if self._blocked == self._attempt(job) else job
            self._passed += 1
        return None

    def is_held_back(self, job: _Job) -> bool:
        """Does a job that is possible need boards that are withheld?"""
        allocator = self.allocator
        return bool(allocator.withheld_boards) and not allocator.alloc_possible_now(
            *job.args, **job.kwargs
        )

    def note_blocked(self, job: _Job) -> None:
        """Do not try this head again before something has been freed."""
        self._blocked = self._attempt(job)

    def note_left(self) -> None:
        """A job in the queue is no longer pending."""
        self._stale += 1
        if self._stale > 32 and self._stale > len(self.queue) // 2:
            self.queue = deque(job for job in self.queue if job.pending)
            self._stale = self._passed = 0

    def clear_queue(self) -> None:
        """Forget who waits."""
        self.queue.clear()
        self._stale = self._passed = 0
        self._blocked = None

    def _attempt(self, job: _Job) -> tuple[int, int]:
        return job.id, self.allocator.generation


class JobQueue:
    """Jobs, the machines they run on, and the queues in between.

    Not thread safe. Callbacks are made from within the methods; they must not
    call back into the queue except for `destroy_job` and `free`.
    """

    def __init__(
        self,
        on_allocate: OnAllocate | None,
        on_free: OnEnd | None,
        on_cancel: OnEnd | None,
        seconds_before_free: float = 30,
    ) -> None:
        """Start with no machine and no job.

        :param on_allocate: ``f(job_id, machine_name, boards, periphery, torus)``,
            called when a job gets its boards: the set of boards ``(x, y, z)``, the
            set of links ``(x, y, z, link)`` that leave them, and the axes around
            which they wrap
        :param on_free: ``f(job_id, reason)``, called when a job must give its
            boards back. They stay its own until `free` is called: they have to be
            powered off first.
        :param on_cancel: ``f(job_id, reason)``, called when a job is dropped
            from the queue
        :param seconds_before_free: how long freed boards stay out of use
        """
        self.on_allocate = on_allocate
        self.on_free = on_free
        self.on_cancel = on_cancel
        self._seconds_before_free = seconds_before_free
        # By name, highest priority first.
        self._machines: OrderedDict[str, _Machine] = OrderedDict()
        # By ID, oldest first.
        self._jobs: dict[int, _Job] = {}
        self._postponed = 0
        self._machines_changed = False

    @property
    def seconds_before_free(self) -> float:
        """How long boards freed from now on stay out of use."""
        return self._seconds_before_free

    @seconds_before_free.setter
    def seconds_before_free(self, seconds: float) -> None:
        self._seconds_before_free = seconds
        for machine in self._machines.values():
            machine.allocator.seconds_before_free = seconds

    def __enter__(self) -> JobQueue:
        """Put off scheduling until the outermost ``with`` block ends.

        Changes made to several machines then count as one, and no job is
        allocated only to be destroyed at once.
        """
        self._postponed += 1
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None = None,
        _value: BaseException | None = None,
        _traceback: TracebackType | None = None,
    ) -> None:
        self._postponed -= 1
        if self._machines_changed:
            self._regenerate_queues()
        else:
            self._process_queue()

    def __getstate__(self) -> dict[str, Any]:
        """Plain data: all but the callbacks, which have to be set anew.

        Machines that have been removed, but whose boards jobs still have, come after
        those there are. Jobs refer to machines by their number in the list.
        """
        machines = list(self._machines.values())
        number_of = {id(machine): n for n, machine in enumerate(machines)}
        jobs = []
        for job in self._jobs.values():
            machine = job.machine
            if machine is not None and id(machine) not in number_of:
                number_of[id(machine)] = len(machines)
                machines.append(machine)
            jobs.append(
                {
                    "id": job.id,
                    "pending": job.pending,
                    "ending": job.ending,
                    "machine_name": job.machine_name,
                    "tags": None if job.tags is None else set(job.tags),
                    "args": plain(job.args),
                    "kwargs": plain(job.kwargs),
                    "machine": None if machine is None else number_of[id(machine)],
                    "allocation_id": job.allocation_id,
                }
            )
        return {
            "seconds_before_free": self._seconds_before_free,
            "machines": [
                {
                    "name": machine.name,
                    "tags": set(machine.tags),
                    "removed": number >= len(self._machines),
                    "allocator": machine.allocator.__getstate__(),
                    "queue": [job.id for job in machine.queue if job.pending],
                }
                for number, machine in enumerate(machines)
            ],
            "jobs": jobs,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again, without callbacks.

        :raises PlainDataError: if it is no such state
        """
        _STATE(state, "job queue")
        self.on_allocate = self.on_free = self.on_cancel = None
        self._seconds_before_free = state["seconds_before_free"]
        self._postponed = 0
        self._machines_changed = False
        machines = []
        self._machines = OrderedDict()
        for kept in state["machines"]:
            allocator = Allocator.__new__(Allocator)
            allocator.__setstate__(kept["allocator"])
            machine = _Machine(kept["name"], kept["tags"], allocator)
            machines.append(machine)
            if not kept["removed"]:
                self._machines[machine.name] = machine
        self._jobs = {}
        for kept in state["jobs"]:
            job = self._jobs[kept["id"]] = _Job(
                kept["id"],
                kept["pending"],
                kept["machine_name"],
                None if kept["tags"] is None else frozenset(kept["tags"]),
                kept["args"],
                kept["kwargs"],
                allocation_id=kept["allocation_id"],
            )
            job.ending = kept["ending"]
            number = kept["machine"]
            if number is not None:
                if not 0 <= number < len(machines):
                    raise PlainDataError(f"job queue: {job} has machine {number}")
                job.machine = machines[number]
            if job.pending == (number is not None and job.allocation_id is not None):
                raise PlainDataError(
                    f"job queue: {job} waits and has boards, or neither"
                )
        for machine, kept in zip(machines, state["machines"], strict=True):
            for job_id in kept["queue"]:
                waiting = self._jobs.get(job_id)
                if waiting is None or not waiting.pending:
                    raise PlainDataError(f"job queue: job {job_id} cannot be waiting")
                machine.enqueue(waiting)

    def _candidates(self, job: _Job) -> Iterator[_Machine]:
        """The machines that could hold a job were they idle, by priority."""
        machines: Iterable[_Machine]
        if job.machine_name is not None:
            named = self._machines.get(job.machine_name)
            machines = () if named is None else (named,)
        else:
            tags = _DEFAULT_TAGS if job.tags is None else job.tags
            machines = (m for m in self._machines.values() if m.tags.issuperset(tags))
        for machine in machines:
            if machine.allocator.alloc_possible(*job.args, **job.kwargs):
                yield machine

    def _try_job(self, job: _Job, machine: _Machine) -> bool:
        """Allocate a job on a machine if there is room, and say so to `on_allocate`.

        :return: whether there was room
        """
        allocation = machine.allocator.alloc(*job.args, **job.kwargs)
        if allocation is None:
            return False
        self._dequeue(job)
        job.machine = machine
        self._allocated(job, allocation)
        return True

    def _allocated(self, job: _Job, allocation: Allocation) -> None:
        assert job.machine is not None
        job.allocation_id, boards, periphery, torus = allocation
        if self.on_allocate is not None:
            self.on_allocate(job.id, job.machine.name, boards, periphery, torus)

    def _dequeue(self, job: _Job) -> None:
        job.pending = False
        for machine in job.queues:
            machine.note_left()
        job.queues.clear()

    def _enqueue_job(self, job: _Job) -> None:
        """Put a job into the queue of every machine that could hold it.

        It is allocated at once if it is the head of a queue and there is room,
        and cancelled if no machine could ever hold it.
        """
        if self._postponed:
            # All waiting jobs are enqueued when the block ends.
            self._machines_changed = True
            return
        for machine in self._candidates(job):
            machine.enqueue(job)
        if job.queues:
            self._process_queue()
        else:
            self.destroy_job(job.id, _NO_MACHINE)

    def _process_queue(self) -> None:
        """Allocate what can be: each machine in turn tries its head, over and over."""
        if self._postponed:
            return
        progress = True
        while progress:
            progress = False
            for machine in list(self._machines.values()):
                job = machine.head_to_try()
                if job is None:
                    continue
                if self._try_job(job, machine):
                    progress = True
                else:
                    machine.note_blocked(job)

    def _regenerate_queues(self) -> None:
        """Enqueue every waiting job again, oldest first, as the machines are now."""
        if self._postponed:
            self._machines_changed = True
            return
        self._machines_changed = False
        for machine in self._machines.values():
            machine.clear_queue()
        waiting = [job for job in self._jobs.values() if job.pending]
        for job in waiting:
            job.queues.clear()
        for job in waiting:
            # Callbacks for an earlier one may have destroyed a later one.
            if job.pending:
                self._enqueue_job(job)

    def add_machine(
        self,
        name: str,
        width: int,
        height: int,
        tags: Iterable[str] | None = None,
        dead_boards: Iterable[Board] = frozenset(),
        dead_links: Iterable[BoardLink] = frozenset(),
    ) -> None:
        """Add a machine, with a lower priority than all others.

        :param width: in triads
        :param height: in triads
        :param tags: None for "default"
        :param dead_boards: boards that do not work
        :param dead_links: links that do not work, see `Allocator`
        :raises ValueError: if the name is in use
        """
        if name in self._machines:
            raise ValueError(f"there is a machine called {name!r} already")
        self._machines[name] = _Machine(
            name,
            _DEFAULT_TAGS if tags is None else tags,
            Allocator(
                width,
                height,
                dead_boards,
                dead_links,
                seconds_before_free=self._seconds_before_free,
            ),
        )
        self._regenerate_queues()

    def move_machine_to_end(self, name: str) -> None:
        """Give a machine the lowest priority.

        :raises KeyError: if there is no such machine
        """
        self._machines.move_to_end(name)

    def modify_machine(
        self,
        name: str,
        tags: Iterable[str] | None = None,
        dead_boards: Iterable[Board] | None = None,
        dead_links: Iterable[BoardLink] | None = None,
    ) -> None:
        """Change what is not None. Jobs already allocated are left alone.

        :param tags: the machine's new tags
        :param dead_boards: the boards that do not work from now on
        :param dead_links: the links that do not work from now on
        :raises KeyError: if there is no such machine
        """
        machine = self._machines[name]
        if tags is not None:
            machine.tags = frozenset(tags)
        if dead_boards is not None:
            machine.allocator.dead_boards = frozenset(dead_boards)
        if dead_links is not None:
            machine.allocator.dead_links = frozenset(dead_links)
        self._regenerate_queues()

    def withhold(self, name: str, boards: Iterable[Board]) -> None:
        """Give out certain boards no more, until another call names others.

        Jobs that need them wait, and are not taken to be impossible. Jobs already
        allocated are left alone.

        :raises KeyError: if there is no such machine
        """
        self._machines[name].allocator.withheld_boards = frozenset(boards)
        self._regenerate_queues()

    def restore_withheld(
        self, name: str, dead: Iterable[Board], withheld: Iterable[Board]
    ) -> None:
        """Say which boards that are not given out are dead, and which are withheld.

        To be called after the state was taken up again; who waits where stays as it is.
        """
        allocator = self._machines[name].allocator
        allocator.dead_boards = frozenset(dead)
        allocator.withheld_boards = frozenset(withheld)

    def remove_machine(self, name: str) -> None:
        """Remove a machine; jobs allocated on it must give their boards back.

        :raises KeyError: if there is no such machine
        """
        machine = self._machines[name]
        with self:
            for job in list(self._jobs.values()):
                if job.machine is machine and not job.ending:
                    self.destroy_job(job.id, "Machine removed.")
            del self._machines[name]
            self._machines_changed = True

    def create_job(self, *args: Any, **kwargs: Any) -> None:
        """Queue a job, and allocate it if there is room for it now.

        All callbacks may be made before this returns.

        :param args: for `Allocator.alloc`
        :param kwargs: ``job_id``, which is required and unique; ``machine``, the name
            of the only machine to run on; or ``tags``, which a machine must have, None
            for "default". All others are for `Allocator.alloc`.
        :raises TypeError: if an argument is unknown, or machine and tags are given
        :raises ValueError: if the arguments contradict each other, or the ID is
            in use
        """
        self.add_job(self.make_job(*args, **kwargs))

    def add_job(self, job: _Job) -> None:
        """Queue a job that `make_job` has just made; see `create_job`."""
        self._jobs[job.id] = job
        self._enqueue_job(job)

    def make_job(self, *args: Any, **kwargs: Any) -> _Job:
        """Check the arguments of `create_job`, and raise what it raises.

        :return: the job, for `add_job`
        """
        job_id = kwargs.pop("job_id", None)
        machine_name = kwargs.pop("machine", None)
        tags = kwargs.pop("tags", None)
        if job_id is None:
            raise TypeError("job_id must be specified")
        if machine_name is not None and tags is not None:
            raise TypeError("only one of machine and tags may be specified for a job")
        if job_id in self._jobs:
            raise ValueError(f"job_id {job_id} is in use")
        _ANY_MACHINE.alloc_possible(*args, **kwargs)
        return _Job(
            job_id,
            machine_name=machine_name,
            tags=None if tags is None else frozenset(tags),
            args=args,
            kwargs=kwargs,
        )

    def destroy_job(self, job_id: int, reason: str | None = None) -> None:
        """End a job.

        A queued one is dropped and `on_cancel` called. For an allocated one
        `on_free` is called; its boards can be given to another job after `free`.

        :param reason: for the people who ask what became of the job
        :raises KeyError: if there is no such job, or it was destroyed before
        """
        job = self._jobs[job_id]
        if job.ending:
            raise KeyError(job_id)
        if job.pending:
            del self._jobs[job_id]
            self._dequeue(job)
            if self.on_cancel is not None:
                self.on_cancel(job_id, reason)
            self._process_queue()
        else:
            job.ending = True
            if self.on_free is not None:
                self.on_free(job_id, reason)

    def free(self, job_id: int) -> None:
        """Let the boards of a destroyed job cool down and be given out again.

        To be called once they are powered off. The job is then forgotten.

        :raises KeyError: if there is no such job, or it was not destroyed before
        """
        job = self._jobs[job_id]
        if not job.ending:
            raise KeyError(job_id)
        assert job.machine is not None
        assert job.allocation_id is not None
        del self._jobs[job_id]
        job.machine.allocator.free(job.allocation_id)
        self._process_queue()

    def requeue(self, job_id: int, holder_id: int) -> None:
        """Take an allocated job's boards away and queue it again, before all others.

        No callback is made for that; the job may be allocated or cancelled at once.

        :param holder_id: the boards now belong to a destroyed job of this ID, which
            is to be freed
        :raises KeyError: if the job is not allocated
        """
        holder = self._jobs.get(job_id)
        if holder is None or holder.pending or holder.ending:
            raise KeyError(job_id)
        job = _Job(
            job_id,
            machine_name=holder.machine_name,
            tags=holder.tags,
            args=holder.args,
            kwargs=holder.kwargs,
        )
        holder.id = holder_id
        holder.ending = True
        del self._jobs[job_id]
        self._jobs = {job_id: job, **self._jobs, holder_id: holder}
        self._regenerate_queues()

    def move_to_head(self, job_id: int) -> None:
        """Have a waiting job wait before all others; it may be allocated at once.

        :raises KeyError: if there is no such job, or it does not wait
        """
        job = self._jobs[job_id]
        if not job.pending:
            raise KeyError(job_id)
        del self._jobs[job_id]
        self._jobs = {job_id: job, **self._jobs}
        self._regenerate_queues()

    def is_held_back(self, job_id: int) -> bool:
        """Does a job wait because of boards that are withheld, and only of these?

        :raises KeyError: if there is no such job
        """
        job = self._jobs[job_id]
        return bool(job.queues) and all(m.is_held_back(job) for m in job.queues)

    def queues_of(self, job_id: int) -> tuple[str, ...]:
        """The machines in whose queues a job stands, highest priority first.

        :raises KeyError: if there is no such job
        """
        return tuple(machine.name for machine in self._jobs[job_id].queues)

    def holdings(self, machine_name: str) -> Iterator[tuple[Board, Holding]]:
        """The boards of a machine that are not free, and why not.

        :raises KeyError: if there is no such machine
        """
        machine = self._machines[machine_name]
        ending = {
            job.allocation_id
            for job in self._jobs.values()
            if job.ending and job.machine is machine
        }
        for allocation_id, is_cooling, boards in machine.allocator.holdings():
            if is_cooling:
                holding = Holding.cooling
            elif allocation_id in ending:
                holding = Holding.ending
            else:
                holding = Holding.allocated
            for board in boards:
                yield board, holding

    def check_free(self) -> dict[str, int]:
        """Give out boards that have cooled down.

        :return: how many allocations became free on which machines
        """
        freed = {m.name: m.allocator.check_free() for m in self._machines.values()}
        freed = {name: number for name, number in freed.items() if number}
        if freed:
            self._process_queue()
        return freed

    def free_cooling(self, freed: Mapping[str, int]) -> None:
        """Do what a call of `check_free` with this result did, whatever the time."""
        for name, number in freed.items():
            for _ in range(number):
                self._machines[name].allocator._free_next()
        self._process_queue()
