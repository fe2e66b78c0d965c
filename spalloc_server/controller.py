"""Run jobs: schedule them, power their boards, and end them.

The controller is what the server's commands act on. It puts jobs into a
`JobQueue`, and when that gives a job boards, has the `AsyncBMPController` of
each frame power them on and cut them off from their surroundings.

A job's boards stay its own until they have been powered off after its end.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from functools import partial
from typing import Any

from spalloc_server import where_is
from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.bmp_requests import AtomicRequests
from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board, BoardLink, Physical, WrapAround
from spalloc_server.job import (
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
    MachineTuple,
    _Job,
)
from spalloc_server.job_queue import JobQueue
from spalloc_server.keepalives import Keepalives
from spalloc_server.machine_changes import compare_machines

__all__ = [
    "Controller",
    "JobMachineInfoTuple",
    "JobState",
    "JobStateTuple",
    "JobTuple",
    "MachineTuple",
    "_Job",
]

logger = logging.getLogger(__name__)

#: (cabinet, frame)
Frame = tuple[int, int]

#: How long boards that could not be powered off are left before the next attempt.
POWER_OFF_RETRY_SECONDS = 30.0

#: Is a controller that is unpickled now to leave the hardware alone?
_unpickled_dormant = ContextVar("_unpickled_dormant", default=False)

_UNKNOWN_JOB = JobStateTuple(JobState.unknown, None, None, None, None, None)
_NO_BOARDS = JobMachineInfoTuple(None, None, None, None, None)


class ReplayError(Exception):
    """Recorded changes do not fit the state that they are said to have followed."""


@contextlib.contextmanager
def unpickled_dormant() -> Iterator[None]:
    """Have controllers that are unpickled within wait for `Controller.start`."""
    token = _unpickled_dormant.set(True)
    try:
        yield
    finally:
        _unpickled_dormant.reset(token)


class Controller:
    """Jobs, machines, and the hardware of the machines.

    All methods may be called from any thread unless they say otherwise. After
    `stop` and `join` an instance can be pickled; the unpickled one runs at once,
    unless it was unpickled within `unpickled_dormant`.
    """

    generation = 0
    """Which snapshot of the state this is, for the one who keeps snapshots."""

    def __init__(
        self,
        next_id: int = 1,
        max_retired_jobs: int = 1200,
        on_background_state_change: Callable[[], object] | None = None,
        seconds_before_free: float = 30,
    ) -> None:
        """Start with no machine and no job.

        :param next_id: the ID of the next job
        :param max_retired_jobs: of how many ended jobs to remember the reason
        :param on_background_state_change: see the property
        :param seconds_before_free: how long boards stay unused after power-off
        """
        self._next_id = next_id
        self._max_retired_jobs = max_retired_jobs
        self._machines: OrderedDict[str, Machine] = OrderedDict()
        self._job_queue = JobQueue(
            self._job_queue_on_allocate,
            self._job_queue_on_free,
            self._job_queue_on_cancel,
            seconds_before_free,
        )
        # Jobs that have not ended, oldest first.
        self._jobs: OrderedDict[int, _Job] = OrderedDict()
        # Jobs that have ended but whose boards are still being powered off.
        self._ending_jobs: dict[int, _Job] = {}
        # Why jobs have ended, longest ago first.
        self._retired_jobs: OrderedDict[int, str | None] = OrderedDict()
        self._changed_jobs: set[int] = set()
        self._changed_machines: set[str] = set()
        self._on_background_state_change = on_background_state_change
        self._init_dynamic_state()

    def _init_dynamic_state(self) -> None:
        """Make what is not pickled, and take up the work on the hardware.

        Every job counts as heard from just now, so that its client has time to
        come back, and power changes that were interrupted are done again.
        """
        self._init_indices()
        self.start()

    def _init_indices(self) -> None:
        # Re-entrant: a BMP controller may report from within `add_requests`.
        self.lock = threading.RLock()
        """Held by whoever changes anything; hold it over several calls to have
        nothing happen between them."""
        self.on_event: Callable[[list[Any]], object] | None = None
        """Told, with the lock held, of changes that no call of a method explains:
        see `replay`. Not pickled."""
        self.job_time: float | None = None
        """When jobs created from now on are said to be; None for now. Not pickled."""
        self._dormant = True
        self._bmp_controllers: dict[str, dict[Frame, AsyncBMPController]] = {}
        # Those of removed machines, that may still have something to finish.
        self._old_bmp_controllers: list[AsyncBMPController] = []
        self._keepalives = Keepalives()
        self._power_off_retries: list[tuple[float, _Job]] = []
        self._job_of_board: dict[tuple[str, Board], _Job] = {}
        self._board_at: dict[str, dict[Physical, Board]] = {}
        for machine in self._machines.values():
            self._index_machine(machine)
        for job in self._jobs.values():
            self._index_boards(job)

    def start(self) -> None:
        """Take up the work on the hardware. Called only on a dormant controller."""
        self._dormant = False
        for machine in self._machines.values():
            self._create_machine_bmp_controllers(machine)
        for job in list(self._jobs.values()):
            job.update_keepalive(job.lasthost)
            self._keepalives.watch(job)
            if job.bmp_requests_until_ready:
                job.bmp_requests_until_ready = 0
                on = bool(job.power)
                self._set_job_power_and_links(job, on, False if on else None)
        for job in list(self._ending_jobs.values()):
            job.bmp_requests_until_ready = 0
            if job.machine_removed:
                # There is nobody left to power the boards off.
                self._power_off_done(job)
            else:
                self._set_job_power_and_links(job, power=False)

    def __getstate__(self) -> dict[str, Any]:
        """What is kept over a restart; to be called after `stop` and `join`."""
        kept = (
            "_next_id",
            "_max_retired_jobs",
            "_machines",
            "_job_queue",
            "_jobs",
            "_ending_jobs",
            "_retired_jobs",
            "_changed_jobs",
            "_changed_machines",
            "generation",
        )
        with self.lock:
            return {name: getattr(self, name) for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from where the pickled controller was stopped."""
        self.__dict__.update(state)
        self._on_background_state_change = None
        self._job_queue.on_allocate = self._job_queue_on_allocate
        self._job_queue.on_free = self._job_queue_on_free
        self._job_queue.on_cancel = self._job_queue_on_cancel
        if _unpickled_dormant.get():
            self._init_indices()
        else:
            self._init_dynamic_state()

    # Life cycle

    def stop(self) -> None:
        """Ask all threads to end once they have done what they were asked to do.

        Only `join` may be called afterwards.
        """
        with self.lock:
            for controller in self._all_bmp_controllers():
                controller.stop()

    def join(self) -> None:
        """Wait for all threads to end. Blocks."""
        with self.lock:
            controllers = self._all_bmp_controllers()
        # Without the lock: the threads need it to report their last results.
        for controller in controllers:
            controller.join()

    def _all_bmp_controllers(self) -> list[AsyncBMPController]:
        return [
            *self._old_bmp_controllers,
            *(c for frames in self._bmp_controllers.values() for c in frames.values()),
        ]

    # Settings

    @property
    def on_background_state_change(self) -> Callable[[], object] | None:
        """Called when something changes other than by a call of a method.

        It is called from any thread and must not call the controller. None for
        no call. Not pickled.
        """
        return self._on_background_state_change

    @on_background_state_change.setter
    def on_background_state_change(self, callback: Callable[[], object] | None) -> None:
        self._on_background_state_change = callback

    @property
    def max_retired_jobs(self) -> int:
        """Of how many ended jobs the reason is remembered."""
        return self._max_retired_jobs

    @max_retired_jobs.setter
    def max_retired_jobs(self, number: int) -> None:
        with self.lock:
            self._max_retired_jobs = number
            self._forget_old_jobs()

    @property
    def seconds_before_free(self) -> float:
        """How long boards powered off from now on stay unused."""
        return self._job_queue.seconds_before_free

    @seconds_before_free.setter
    def seconds_before_free(self, seconds: float) -> None:
        with self.lock:
            self._job_queue.seconds_before_free = seconds

    @property
    def changed_jobs(self) -> set[int]:
        """IDs of the jobs that have changed since this was last read."""
        with self.lock:
            changed, self._changed_jobs = self._changed_jobs, set()
            return changed

    @property
    def changed_machines(self) -> set[str]:
        """Names of the machines that have changed since this was last read.

        A machine changes when it is added, removed or modified, and when a job is
        allocated on it or frees its boards.
        """
        with self.lock:
            changed, self._changed_machines = self._changed_machines, set()
            return changed

    # Machines

    @property
    def machines(self) -> OrderedDict[str, Machine]:
        """The machines by name, highest priority first.

        Set it to change them. Where only tags, dead boards and dead links of a
        machine change, its jobs go on; otherwise, and where it is removed, they
        are destroyed.
        """
        with self.lock:
            return self._machines.copy()

    @machines.setter
    def machines(self, machines: Mapping[str, Machine]) -> None:
        with self.lock:
            changes = compare_machines(self._machines, machines)
            with self._job_queue:
                for name in changes.removed:
                    self._remove_machine(name)
                for name in changes.added:
                    self._add_machine(machines[name])
                for name in changes.modified:
                    machine = machines[name]
                    self._job_queue.modify_machine(
                        name, machine.tags, machine.dead_boards, machine.dead_links
                    )
                for name in machines:
                    self._job_queue.move_machine_to_end(name)
                self._machines = OrderedDict(machines)
                for machine in machines.values():
                    self._index_machine(machine)
            self._changed_machines.update(
                changes.removed, changes.added, changes.modified
            )

    def _add_machine(self, machine: Machine) -> None:
        """Add a machine, whose BMPs those of removed ones may still be busy with."""
        predecessors = list(self._old_bmp_controllers)

        def wait_for_predecessors() -> None:
            for controller in predecessors:
                controller.join()

        self._create_machine_bmp_controllers(machine, wait_for_predecessors)
        self._job_queue.add_machine(
            machine.name,
            machine.width,
            machine.height,
            machine.tags,
            machine.dead_boards,
            machine.dead_links,
        )

    def _remove_machine(self, name: str) -> None:
        """Remove a machine, destroying its jobs.

        The controllers of its BMPs first finish what they have to do.
        """
        self._job_queue.remove_machine(name)
        machine = self._machines.pop(name)
        for job in self._ending_jobs.values():
            if job.allocated_machine is not None and job.allocated_machine.name == name:
                job.machine_removed = True
        del self._board_at[machine.name]
        controllers = self._bmp_controllers.pop(name).values()
        for controller in controllers:
            controller.stop()
        self._old_bmp_controllers += controllers

    def _create_machine_bmp_controllers(
        self, machine: Machine, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        """Start a controller for the BMP of each frame of a machine.

        :param on_thread_start: called first by the thread of each of them
        """
        self._bmp_controllers[machine.name] = {
            frame: AsyncBMPController(hostname, on_thread_start)
            for frame, hostname in machine.bmp_ips.items()
        }

    def _index_machine(self, machine: Machine) -> None:
        self._board_at[machine.name] = {
            physical: board for board, physical in machine.board_locations.items()
        }

    def list_machines(self) -> list[MachineTuple]:
        """Describe all machines, highest priority first."""
        with self.lock:
            return [
                MachineTuple(
                    machine.name,
                    machine.tags,
                    machine.width,
                    machine.height,
                    machine.dead_boards,
                    machine.dead_links,
                )
                for machine in self._machines.values()
            ]

    def get_board_position(
        self, machine_name: str, x: int, y: int, z: int
    ) -> Physical | None:
        """Where a board is plugged in.

        :return: (cabinet, frame, board), None if there is no such board
        """
        with self.lock:
            machine = self._machines.get(machine_name)
            return None if machine is None else machine.board_locations.get((x, y, z))

    def get_board_at_position(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> Board | None:
        """Which board is plugged in there.

        :return: (x, y, z), None if there is no such board
        """
        with self.lock:
            boards = self._board_at.get(machine_name, {})
            return boards.get((cabinet, frame, board))

    # Jobs

    def create_job(self, ownerhost: str | None, *args: Any, **kwargs: Any) -> int:
        """Create a job; it may be allocated, or even have ended, on return.

        What is not named here is for `JobQueue.create_job`.

        :param ownerhost: IP address of the host that asks
        :param owner: **required**, who creates it
        :param keepalive: seconds of silence after which it is destroyed, None for
            never; 60 if not given
        :return: the ID of the job
        :raises TypeError: if there is no owner, or an argument is unknown
        :raises ValueError: if the arguments contradict each other
        """
        owner = kwargs.pop("owner", None)
        if owner is None:
            raise TypeError("owner must be specified for all jobs")
        keepalive = kwargs.pop("keepalive", 60.0)
        if keepalive is not None:
            keepalive = float(keepalive)
        with self.lock:
            job_id = self._next_id
            job = _Job(
                job_id,
                str(owner),
                start_time=self.job_time,
                keepalive=keepalive,
                lasthost=ownerhost,
                args=args,
                kwargs=kwargs,
            )
            self._jobs[job_id] = job
            try:
                self._job_queue.create_job(*args, **kwargs, job_id=job_id)
            except (TypeError, ValueError):
                del self._jobs[job_id]
                raise
            self._next_id += 1
            self._keepalives.watch(job)
            self._changed_jobs.add(job_id)
            return job_id

    def job_keepalive(self, clienthost: str | None, job_id: int) -> None:
        """Note that somebody still wants a job; all other job methods do so too.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            self._touch(clienthost, job_id)

    def _touch(self, clienthost: str | None, job_id: int) -> _Job | None:
        """Find a job that has not ended, and keep it alive."""
        job = self._jobs.get(job_id)
        if job is not None:
            job.update_keepalive(clienthost)
        return job

    def get_job_state(self, clienthost: str | None, job_id: int) -> JobStateTuple:
        """The state of a job, of any ID.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            job = self._touch(clienthost, job_id)
            if job is not None:
                return job.state_tuple()
            if job_id in self._retired_jobs:
                return _UNKNOWN_JOB._replace(
                    state=JobState.destroyed, reason=self._retired_jobs[job_id]
                )
            return _UNKNOWN_JOB

    def get_job_machine_info(
        self, clienthost: str | None, job_id: int
    ) -> JobMachineInfoTuple:
        """The boards of a job, of any ID.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            job = self._touch(clienthost, job_id)
            if job is None or job.allocated_machine is None:
                return _NO_BOARDS
            return JobMachineInfoTuple(
                job.width,
                job.height,
                job.connections,
                job.allocated_machine.name,
                job.boards,
            )

    def power_on_job_boards(self, clienthost: str | None, job_id: int) -> None:
        """Power the boards of a job on, or reset them if they are on.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            job = self._touch(clienthost, job_id)
            if job is not None and job.boards is not None:
                self._set_job_power_and_links(job, power=True, link_enable=False)

    def power_off_job_boards(self, clienthost: str | None, job_id: int) -> None:
        """Power the boards of a job off.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            job = self._touch(clienthost, job_id)
            if job is not None and job.boards is not None:
                self._set_job_power_and_links(job, power=False)

    def destroy_job(
        self, clienthost: str | None, job_id: int, reason: str | None = None
    ) -> None:
        """End a job, and give its boards to others once they are powered off.

        :param clienthost: IP address of the host that asks
        :param reason: for the people who ask what became of it
        """
        with self.lock:
            if self._touch(clienthost, job_id) is not None:
                self._job_queue.destroy_job(job_id, reason)

    def list_jobs(self) -> list[JobTuple]:
        """Describe all jobs that have not ended, oldest first."""
        with self.lock:
            return [job.list_tuple() for job in self._jobs.values()]

    @property
    def job_count(self) -> int:
        """How many jobs have not ended."""
        return len(self._jobs)

    # Regular work

    def destroy_timed_out_jobs(self) -> None:
        """Destroy the jobs that have not been heard of for too long."""
        with self.lock:
            now = time.monotonic()
            timed_out = list(self._keepalives.timed_out(now, self._jobs.get))
            if timed_out:
                # As one change: the boards of one are not for the next of them.
                with self._job_queue:
                    for job in timed_out:
                        self._end_job(job, "Job timed out.")

    def check_free(self) -> None:
        """Give out boards that have cooled down, and retry failed power-offs."""
        with self.lock:
            freed = self._job_queue.check_free()
            if freed:
                self._note_event("cooled", freed)
            now = time.monotonic()
            due = [job for at, job in self._power_off_retries if at <= now]
            self._power_off_retries = [r for r in self._power_off_retries if r[0] > now]
            for job in due:
                self._set_job_power_and_links(job, power=False)

    def _end_job(self, job: _Job, reason: str) -> None:
        """End a job other than by a command."""
        self._note_event("ended", job.id, reason)
        self._job_queue.destroy_job(job.id, reason)

    # Events and replays

    def _note_event(self, *event: Any) -> None:
        """Tell `on_event` of a change that is not the effect of a method's call."""
        if self.on_event is not None:
            self.on_event(list(event))

    def replay(self, records: Iterable[Sequence[Any]]) -> None:
        """Do again, on a dormant controller, what was done to this state before.

        A record is a list: the name of a method, or of an event that `on_event`
        was told of, and its arguments. Commands to hardware are not given; those
        that turn out not to have been finished are given by `start`.

        :raises ReplayError: if a record cannot follow those before it
        """
        methods: dict[str, Callable[..., object]] = {
            "create_job": self._replay_create_job,
            "destroy_job": self.destroy_job,
            "power_on_job_boards": self.power_on_job_boards,
            "power_off_job_boards": self.power_off_job_boards,
            "ended": self._replay_ended,
            "ready": self._replay_ready,
            "freed": self._replay_freed,
            "cooled": self._job_queue.free_cooling,
        }
        for record in records:
            try:
                name, *arguments = record
                methods[name](*arguments)
            except Exception as e:
                raise ReplayError(f"{record}: {type(e).__name__}: {e}") from e

    def _replay_create_job(
        self,
        start_time: float,
        ownerhost: str | None,
        args: list[Any],
        kwargs: dict[str, Any],
    ) -> None:
        self.job_time = start_time
        # What was refused then is refused now.
        with contextlib.suppress(TypeError, ValueError):
            self.create_job(ownerhost, *args, **kwargs)
        self.job_time = None

    def _replay_ended(self, job_id: int, reason: str) -> None:
        self._job_queue.destroy_job(self._jobs[job_id].id, reason)

    def _replay_ready(self, job_id: int) -> None:
        job = self._jobs[job_id]
        job.bmp_requests_until_ready = 0
        job.state = JobState.ready

    def _replay_freed(self, job_id: int) -> None:
        del self._ending_jobs[job_id]
        self._job_queue.free(job_id)

    # Hardware

    def _set_job_power_and_links(
        self, job: _Job, power: bool, link_enable: bool | None = None
    ) -> None:
        """Power the boards of a job on or off and change their peripheral links.

        :param link_enable: open the links (True), close them (False), or leave
            them as they are (None)
        """
        assert job.allocated_machine is not None
        job.power = power
        if job.id in self._jobs:
            job.state = JobState.power
            self._changed_jobs.add(job.id)
        if self._dormant:
            # Known to be unfinished; `start` does it.
            job.bmp_requests_until_ready = 1
            return
        controllers = self._bmp_controllers.get(job.allocated_machine.name, {})
        frames = job.boards_by_frame()
        # All are counted before one can report.
        job.bmp_requests_until_ready += len(frames)
        for frame, part in frames.items():
            requests = AtomicRequests(partial(self._bmp_on_request_complete, job))
            for board in part.boards:
                requests.power(board, power)
            if link_enable is not None:
                for board, link in part.periphery:
                    requests.link(board, link, link_enable)
            try:
                controllers[frame].add_requests(requests)
            except RuntimeError as error:
                # Its thread has ended: the server is being stopped. What is left
                # undone is done after the restart.
                self._bmp_on_request_complete(job, False, str(error))

    def _bmp_on_request_complete(
        self, job: _Job, success: bool, reason: str | None = None
    ) -> None:
        """Take the result of a request to one frame. Called by that frame's thread.

        :param job: whose boards the request was about
        :param success: was the request carried out?
        :param reason: why not
        """
        changed = False
        with self.lock:
            job.bmp_requests_until_ready -= 1
            all_done = job.bmp_requests_until_ready == 0
            if job.id in self._jobs:
                if not success:
                    changed = True
                    self._end_job(job, f"Machine configuration failed. Error: {reason}")
                elif all_done:
                    changed = True
                    self._note_event("ready", job.id)
                    job.state = JobState.ready
                    self._changed_jobs.add(job.id)
            elif job.id in self._ending_jobs:
                job.power_off_failed |= not success
                if all_done:
                    changed = True
                    self._power_off_done(job)
        callback = self._on_background_state_change
        if changed and callback is not None:
            callback()

    def _power_off_done(self, job: _Job) -> None:
        """Free the boards of an ended job, or try again later if they are still on."""
        if job.power_off_failed and not job.machine_removed:
            logger.error(
                "The boards of ended job %d could not be powered off; "
                "they are kept back and tried again in %.0f s.",
                job.id,
                POWER_OFF_RETRY_SECONDS,
            )
            job.power_off_failed = False
            retry_at = time.monotonic() + POWER_OFF_RETRY_SECONDS
            self._power_off_retries.append((retry_at, job))
            return
        self._note_event("freed", job.id)
        del self._ending_jobs[job.id]
        self._job_queue.free(job.id)

    # Callbacks of the job queue, with the lock held

    def _job_queue_on_allocate(
        self,
        job_id: int,
        machine_name: str,
        boards: set[Board],
        periphery: set[BoardLink],
        torus: WrapAround,
    ) -> None:
        """Give a job its boards, and power them on."""
        job = self._jobs[job_id]
        job.give_boards(self._machines[machine_name], boards, periphery, torus)
        self._index_boards(job)
        self._changed_machines.add(machine_name)
        self._set_job_power_and_links(job, power=True, link_enable=False)

    def _job_queue_on_free(self, job_id: int, reason: str | None) -> None:
        """End a job that has boards."""
        self._teardown_job(job_id, reason)

    def _job_queue_on_cancel(self, job_id: int, reason: str | None) -> None:
        """End a job that has no boards."""
        self._teardown_job(job_id, f"Cancelled: {reason or ''}")

    def _teardown_job(self, job_id: int, reason: str | None) -> None:
        """End a job, and power its boards off if it has any."""
        job = self._jobs.pop(job_id)
        job.state = JobState.destroyed
        self._retired_jobs[job_id] = reason
        self._forget_old_jobs()
        self._changed_jobs.add(job_id)
        logger.info("Job %d of %s ended: %s", job_id, job.owner, reason)
        if job.allocated_machine is not None:
            self._changed_machines.add(job.allocated_machine.name)
            for board in job.boards or ():
                del self._job_of_board[job.allocated_machine.name, board]
            self._ending_jobs[job_id] = job
            self._set_job_power_and_links(job, power=False)

    def _forget_old_jobs(self) -> None:
        while len(self._retired_jobs) > self._max_retired_jobs:
            self._retired_jobs.popitem(last=False)

    # Places

    def _index_boards(self, job: _Job) -> None:
        if job.allocated_machine is not None:
            for board in job.boards or ():
                self._job_of_board[job.allocated_machine.name, board] = job

    def _job_for_location(
        self, machine: Machine, x: int, y: int, z: int
    ) -> _Job | None:
        """The job that has a board, None if no job has it."""
        return self._job_of_board.get((machine.name, (x, y, z)))

    def _where_is_by_logical_triple(
        self, machine_name: str, x: int, y: int, z: int
    ) -> dict[str, Any] | None:
        """`where_is` by board coordinates."""
        machine = self._machines.get(machine_name)
        if machine is None:
            return None
        return where_is.describe_board(machine, (x, y, z), self._job_for_location)

    def _where_is_by_physical_triple(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> dict[str, Any] | None:
        """`where_is` by physical coordinates."""
        logical = self.get_board_at_position(machine_name, cabinet, frame, board)
        if logical is None:
            return None
        return self._where_is_by_logical_triple(machine_name, *logical)

    def _where_is_by_chip_coordinate(
        self, machine_name: str, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """`where_is` by chip of a machine."""
        machine = self._machines.get(machine_name)
        if machine is None:
            return None
        return where_is.describe_chip(machine, (chip_x, chip_y), self._job_for_location)

    def _where_is_by_job_chip_coordinate(
        self, job_id: int, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """`where_is` by chip of a job."""
        job = self._jobs.get(job_id)
        if job is None:
            return None
        return where_is.describe_job_chip(job, (chip_x, chip_y), self._job_for_location)

    def where_is(self, **kwargs: Any) -> dict[str, Any] | None:
        """Find a board or chip.

        ::

            where_is(machine=..., x=..., y=..., z=...)
            where_is(machine=..., cabinet=..., frame=..., board=...)
            where_is(machine=..., chip_x=..., chip_y=...)
            where_is(job_id=..., chip_x=..., chip_y=...)

        :return: see `spalloc_server.where_is.describe_chip`; None if there is no
            such board or chip
        :raises TypeError: if the arguments are not one of these sets
        """
        finders: dict[str, Callable[..., dict[str, Any] | None]] = {
            "machine x y z": self._where_is_by_logical_triple,
            "machine cabinet frame board": self._where_is_by_physical_triple,
            "machine chip_x chip_y": self._where_is_by_chip_coordinate,
            "job_id chip_x chip_y": self._where_is_by_job_chip_coordinate,
        }
        for arguments, find in finders.items():
            names = arguments.split()
            if kwargs.keys() == set(names):
                with self.lock:
                    return find(*(kwargs[name] for name in names))
        given = ", ".join(sorted(kwargs)) or "none"
        raise TypeError(f"where_is cannot find anything by these arguments: {given}")
