"""Match jobs to machines: queue those that have to wait, allocate those that can run.

A job joins the queue of every machine that could hold it were that machine idle; the
first machine with room gets the job. Who else may be tried where the head of a queue
does not fit is a matter of *scheduling*:

``"fifo"``
    nobody, so that a large job is not passed over for ever by small ones.
``"backfill"``
    the others, in a part of the machine that the head does not need: the rest is kept
    for it. And owners take turns. See `spalloc_server.scheduling`.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

from spalloc_server.allocator import Allocation, Allocator
from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.scheduling import holding, mending, stored
from spalloc_server.scheduling.demands import DEFAULT_TAGS
from spalloc_server.scheduling.holding import Holding
from spalloc_server.scheduling.limits import Limits
from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.matching import Matching
from spalloc_server.scheduling.starting import Starting
from spalloc_server.scheduling.state import SCHEDULING, QueueState
from spalloc_server.scheduling.timeline import Timeline
from spalloc_server.scheduling.waiting import Waiting, describe

__all__ = ["Holding", "JobQueue", "_Job", "_Machine"]

#: ``f(job_id, machine_name, boards, periphery, torus)``
OnAllocate = Callable[[int, str, set[Board], set[BoardLink], WrapAround], object]
#: ``f(job_id, reason)``
OnEnd = Callable[[int, "str | None"], object]

#: Why a job that no machine could ever hold is cancelled.
_NO_MACHINE = "No suitable machines available."


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
        scheduling: str = "fifo",
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
        :param scheduling: "fifo" or "backfill", see `scheduling`
        :raises ValueError: if it is neither
        """
        self.on_allocate = on_allocate
        self.on_free = on_free
        self.on_cancel = on_cancel
        self._use(QueueState(seconds_before_free, _checked_scheduling(scheduling)))
        self._postponed = 0
        self._machines_changed = False
        self._to_process = False
        self._cool_by: Callable[[], float] | None = None

    def _use(self, state: QueueState) -> None:
        self._state = state
        self._machines = state.machines
        self._jobs = state.jobs
        self._matching = Matching(state)
        self._starting = Starting(
            state,
            self._matching,
            self._allocated,
            # Looked up each time: something else may be put in its place.
            lambda job, machine: self._try_job(job, machine),
        )

    @property
    def seconds_before_free(self) -> float:
        """How long boards freed from now on stay out of use."""
        return self._state.seconds_before_free

    @seconds_before_free.setter
    def seconds_before_free(self, seconds: float) -> None:
        self._state.seconds_before_free = seconds
        for machine in self._machines.values():
            machine.allocator.seconds_before_free = seconds

    @property
    def clock(self) -> Callable[[], float]:
        """What tells the time that scheduling goes by; seconds since 1970 by default.

        Replace it on an instance to set the time by hand; boards then cool down by it,
        too. It is asked when something happens, and in `check_free`.
        """
        return self._state.clock

    @clock.setter
    def clock(self, clock: Callable[[], float]) -> None:
        self._state.clock = self._cool_by = clock
        for machine in self._machines.values():
            machine.allocator.clock = clock

    @property
    def scheduling(self) -> str:
        """Who is tried where the head of a queue does not fit.

        It can be changed at any time; jobs that wait are put in order anew.

        :raises ValueError: if it is neither "fifo" nor "backfill"
        """
        return self._state.scheduling

    @scheduling.setter
    def scheduling(self, word: str) -> None:
        if _checked_scheduling(word) != self._state.scheduling:
            self._state.scheduling = word
            self._matching.begin_again()
            self._regenerate_queues()

    @property
    def longest_overtaking(self) -> float:
        """For how many seconds the head of a queue may be overtaken.

        After that, a part of the machine is kept for it. Only with "backfill".
        """
        return self._state.longest_overtaking

    @longest_overtaking.setter
    def longest_overtaking(self, seconds: float) -> None:
        self._state.longest_overtaking = seconds
        self._process_queue()

    @property
    def limits(self) -> tuple[int | None, int | None]:
        """How many boards, and how many jobs, an owner may have; see `set_limits`."""
        return self._state.limits.boards, self._state.limits.jobs

    def set_limits(
        self, boards_per_owner: int | None = None, jobs_per_owner: int | None = None
    ) -> None:
        """Set what an owner may have; jobs without an owner are not limited.

        :param boards_per_owner: boards that an owner may hold at a time, with those
            that come with whole triads; further jobs wait, and others pass them. None
            for any number.
        :param jobs_per_owner: jobs that an owner may have that have not ended; the
            next one is cancelled at once. None for any number.
        """
        self._state.limits = Limits(boards_per_owner, jobs_per_owner)
        self._state.count_again()
        for machine in self._machines.values():
            machine.line.restore_all()
        self._process_queue()

    def schedule_by(self, clock: Callable[[], float]) -> None:
        """Replace the `clock` of scheduling only; boards cool down by their own.

        :param clock: seconds since 1970
        """
        self._state.clock = clock

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
        elif self._to_process:
            self._process_queue()

    def __getstate__(self) -> dict[str, Any]:
        """Plain data: all but the callbacks and the clock, to be set anew."""
        state = self._state
        return {
            "seconds_before_free": state.seconds_before_free,
            "scheduling": state.scheduling,
            "longest_overtaking": state.longest_overtaking,
            "boards_per_owner": state.limits.boards,
            "jobs_per_owner": state.limits.jobs,
            "time": state.timeline.state(),
            "arrivals": state.arrivals,
            "requeued": state.requeued,
            **stored.to_plain(state.machines.values(), state.jobs.values()),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again, without callbacks.

        :raises PlainDataError: if it is no such state
        """
        stored.QUEUE(state, "job queue")
        self.__init__(None, None, None)  # type: ignore[misc]
        ours = self._state
        ours.seconds_before_free = state["seconds_before_free"]
        ours.scheduling = state["scheduling"]
        ours.longest_overtaking = state["longest_overtaking"]
        ours.limits = Limits(state["boards_per_owner"], state["jobs_per_owner"])
        ours.timeline = Timeline(*state["time"])
        ours.arrivals, ours.requeued = state["arrivals"], state["requeued"]
        demands = self._matching.demands
        machines, jobs = stored.from_plain(state, ours.is_fair, demands)
        ours.jobs.update(jobs)
        for machine in machines:
            machine.jobs = ours.jobs
            ours.machines[machine.name] = machine
        ours.count_again()

    # Who stands where, and who is started

    def _try_job(self, job: _Job, machine: _Machine) -> bool:
        """Allocate a job on a machine if there is room, and say so to `on_allocate`.

        :return: whether there was room
        """
        return self._starting.try_job(job, machine)

    def _allocated(self, job: _Job, allocation: Allocation) -> None:
        """A job has been given boards."""
        assert job.machine is not None
        _, boards, periphery, torus = allocation
        if self.on_allocate is not None:
            self.on_allocate(job.id, job.machine.name, boards, periphery, torus)

    def _enqueue_job(self, job: _Job) -> None:
        """Put a job into the queue of every machine that could hold it.

        It is allocated at once if it is the head of a queue and there is room,
        and cancelled if no machine could ever hold it.
        """
        if self._postponed:
            # All waiting jobs are enqueued when the block ends.
            self._matching.postpone(job)
            self._machines_changed = True
            return
        self._matching.place(job)
        if not job.queues:
            self.destroy_job(job.id, self._why_impossible(job))
        elif self._starting.follows_from_coming(job):
            self._process_queue()

    def _why_impossible(self, job: _Job) -> str:
        """Why no machine could ever hold a job."""
        if job.machine_name is not None and job.machine_name not in self._machines:
            return f"There is no machine {job.machine_name!r}."
        return _NO_MACHINE

    def _process_queue(self) -> None:
        """Allocate what can be: each machine in turn tries its head, over and over."""
        self._to_process = self._postponed > 0
        if not self._to_process:
            self._starting.start_all()

    def _regenerate_queues(self) -> None:
        """Match every waiting job with the machines as they are now.

        Jobs keep their places; in the queue of a machine where they did not wait
        before, the oldest come first.
        """
        if self._postponed:
            self._machines_changed = True
            return
        self._machines_changed = False
        nowhere = self._matching.match_again()
        with self:
            if self._state.is_fair:
                self._to_process = True
                self._drop(nowhere)
            else:
                self._starting.start_by_age(nowhere, self._drop)

    def _drop(self, jobs: Iterable[_Job]) -> None:
        """Cancel jobs that no machine could ever hold."""
        for job in jobs:
            # A callback for one of them may have destroyed another one.
            if job.pending:
                self.destroy_job(job.id, self._why_impossible(job))

    # Machines

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
        allocator = Allocator(
            width,
            height,
            dead_boards,
            dead_links,
            seconds_before_free=self._state.seconds_before_free,
        )
        if self._cool_by is not None:
            allocator.clock = self._cool_by
        machine = _Machine(name, DEFAULT_TAGS if tags is None else tags, allocator)
        machine.empty_line(self._state.is_fair)
        machine.jobs = self._jobs
        self._machines[name] = machine
        self._regenerate_queues()

    def move_machine_to_end(self, name: str) -> None:
        """Give a machine the lowest priority.

        :raises KeyError: if there is no such machine
        """
        self._machines.move_to_end(name)
        self._matching.demands.note_change()

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
        self._matching.demands.note_change()
        self._machines[name].match_withheld()

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
            self._matching.demands.note_change()
            self._machines_changed = True

    # Jobs

    def create_job(self, *args: Any, **kwargs: Any) -> None:
        """Queue a job, and allocate it if there is room for it now.

        All callbacks may be made before this returns.

        :param args: for `Allocator.alloc`
        :param kwargs: ``job_id``, which is required and unique; ``machine``, the name
            of the only machine to run on; or ``tags``, which a machine must have, None
            for "default"; ``owner``, who takes turns with others and whom limits are
            for (jobs without one are as those of one owner without limits). All others
            are for `Allocator.alloc`.
        :raises TypeError: if an argument is unknown, or machine and tags are given
        :raises ValueError: if the arguments contradict each other, or the ID is
            in use
        """
        self.add_job(self.make_job(*args, **kwargs))

    def add_job(self, job: _Job) -> None:
        """Queue a job that `make_job` has just made; see `create_job`."""
        state = self._state
        refused = state.limits.take_on(job)
        state.arrivals += 1
        job.number = state.arrivals
        job.queued_at = state.go_on()
        state.jobs[job.id] = job
        if refused is None:
            self._enqueue_job(job)
        else:
            self.destroy_job(job.id, refused)

    def make_job(
        self,
        *args: Any,
        job_id: int | None = None,
        machine: str | None = None,
        tags: Iterable[str] | None = None,
        owner: str | None = None,
        **kwargs: Any,
    ) -> _Job:
        """Check the arguments of `create_job`, and raise what it raises.

        :return: the job, for `add_job`
        """
        if job_id is None:
            raise TypeError("job_id must be specified")
        if machine is not None and tags is not None:
            raise TypeError("only one of machine and tags may be specified for a job")
        if job_id in self._jobs:
            raise ValueError(f"job_id {job_id} is in use")
        demand = self._matching.demands.find(machine, tags, args, kwargs)
        return _Job.of(demand, job_id, None if owner is None else str(owner))

    def destroy_job(self, job_id: int, reason: str | None = None) -> None:
        """End a job.

        A queued one is dropped and `on_cancel` called. For an allocated one
        `on_free` is called; its boards can be given to another job after `free`.

        :param reason: for the people who ask what became of the job
        :raises KeyError: if there is no such job, or it was destroyed before
        """
        state = self._state
        job = state.jobs[job_id]
        if job.ending:
            raise KeyError(job_id)
        if job.pending:
            del state.jobs[job_id]
            # Where it is put off, it is looked at once for all.
            follows = self._postponed or self._starting.follows_from_leaving(job)
            self._matching.take_out(job)
            state.limits.discard(job)
            if state.limits.boards is not None:
                state.restore(job.owner)
            if self.on_cancel is not None:
                self.on_cancel(job_id, reason)
            if follows:
                self._process_queue()
        else:
            job.ending = True
            state.runs.add(job.boards, state.now() - job.started_at)
            state.limits.discard(job)
            state.limits.release(job)
            if self.on_free is not None:
                self.on_free(job_id, reason)
            if state.limits.boards is not None:
                state.restore(job.owner)
                self._process_queue()

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
        del job.machine.holders[job.allocation_id]
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
        job = _Job.of(holder.demand, job_id, holder.owner)
        state = self._state
        state.requeued += 1
        job.number, job.queued_at = -state.requeued, state.go_on()
        holder.id = holder_id
        holder.ending = True
        state.limits.release(holder)
        state.restore(holder.owner)
        self._jobs[job_id] = job
        self._jobs[holder_id] = holder
        if state.is_fair:
            machines = self._matching.machines_for(job)
            for machine in machines:
                machine.enqueue_first(job)
            job.queues = machines
        self._matching.postpone(job)
        self._regenerate_queues()

    def move_to_head(self, job_id: int) -> None:
        """Have a waiting job wait before all others; it may be allocated at once.

        :raises KeyError: if there is no such job, or it does not wait
        """
        job = self._jobs[job_id]
        if not job.pending:
            raise KeyError(job_id)
        self._state.requeued += 1
        job.number = -self._state.requeued
        for machine in job.queues:
            # Whoever orders this has it before a promise to somebody else.
            machine.let_go()
            machine.line.discard(job.id)
            machine.enqueue(job, machine.line.first_place())
        self._regenerate_queues()

    def mend(self, with_boards: Mapping[int, bool], ending: Container[int]) -> set[int]:
        """Put in order what an error in the midst of another method has left.

        Jobs that nobody knows are dropped, boards that no job has are free again, and
        the rest is matched anew; that may make callbacks.

        :param with_boards: the jobs that have not ended, and whether each has boards
        :param ending: the jobs that have ended, but have not been freed
        :return: all jobs that are known here
        """
        with self:
            mending.put_in_order(self._state, with_boards, ending)
            self._matching.begin_again()
            self._state.count_again()
            self._machines_changed = True
            return set(self._jobs)

    # What is told of them

    def queues_of(self, job_id: int) -> tuple[str, ...]:
        """The machines in whose queues a job stands, highest priority first.

        :raises KeyError: if there is no such job
        """
        return tuple(machine.name for machine in self._jobs[job_id].queues)

    def waiting(self, job_id: int) -> Waiting | None:
        """Where a job stands and why it waits, None if it does not wait.

        Takes time in proportion to the number of machines, and of those who hold boards
        of what is kept for it.
        """
        return self.waiting_of([job_id]).get(job_id)

    def waiting_of(self, job_ids: Iterable[int]) -> dict[int, Waiting]:
        """What `waiting` tells of those jobs of some that wait, all at once."""
        state, may_start = self._state, self._starting.may_start
        now, waits, runs = state.now(), state.waits, state.runs
        told = {}
        for job_id in job_ids:
            job = state.jobs.get(job_id)
            if job is not None and job.pending:
                limited = not may_start(job)
                told[job_id] = describe(job, limited, now, waits, runs)
        return told

    def first_and_length(self, machine_name: str) -> tuple[int | None, int]:
        """The first job in the queue of a machine, and how many wait in it.

        :raises KeyError: if there is no such machine
        """
        line = self._machines[machine_name].line
        return line.first(), len(line)

    def kept_boards(self) -> dict[str, int]:
        """How many working boards of each machine are kept for somebody."""
        return {
            name: 0
            if (region := machine.allocator.kept) is None
            else machine.allocator.working_boards(region)
            for name, machine in self._machines.items()
        }

    def holdings(self, machine_name: str) -> Iterator[tuple[Board, Holding]]:
        """The boards of a machine that are not free, and why not.

        :raises KeyError: if there is no such machine
        """
        return holding.holdings(self._machines[machine_name])

    # Time

    def check_free(self) -> dict[str, int]:
        """Give out boards that have cooled down.

        :return: how many allocations became free on which machines
        """
        freed = {m.name: m.allocator.check_free() for m in self._machines.values()}
        freed = {name: number for name, number in freed.items() if number}
        if freed or self.is_due():
            self._process_queue()
        return freed

    def is_due(self) -> bool:
        """Would something be decided now only because time has passed?"""
        return self._starting.is_due()

    def free_cooling(self, freed: Mapping[str, int]) -> None:
        """Do what a call of `check_free` with this result did, whatever the time."""
        for name, number in freed.items():
            for _ in range(number):
                self._machines[name].allocator._free_next()
        self._process_queue()


def _checked_scheduling(word: str) -> str:
    if word not in SCHEDULING:
        raise ValueError(f"scheduling should be one of {SCHEDULING}, not {word!r}")
    return word
