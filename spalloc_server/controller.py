"""Run jobs on machines: the server without its network.

The controller is what the server's commands act on. It puts jobs into a `JobQueue`, and
when that gives a job boards, has the `AsyncBMPController` of each frame power them on
and cut them off from their surroundings. The parts that do so are in
`spalloc_server.control`; in here are the doors to them.
"""

from __future__ import annotations

import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.configuration import Machine
from spalloc_server.control.job_power import FrameResult
from spalloc_server.control.machine_set import Settings
from spalloc_server.control.parts import Parts
from spalloc_server.control.plain_state import from_plain, to_plain
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board, BoardLink, Physical, WrapAround
from spalloc_server.job_queue import JobQueue
from spalloc_server.model import changes
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.changes import Change, Record
from spalloc_server.model.job import _Job
from spalloc_server.model.job_events import JobEvent
from spalloc_server.model.job_tuples import (
    JobDetails,
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
    MachineTuple,
)
from spalloc_server.model.load import Load
from spalloc_server.model.report_limits import BoardKey
from spalloc_server.model.withheld import Withheld
from spalloc_server.scheduling.waiting import Waiting

__all__ = [
    "Controller",
    "JobMachineInfoTuple",
    "JobState",
    "JobStateTuple",
    "JobTuple",
    "MachineTuple",
    "_Job",
]


class Controller:
    """Jobs, machines, and the hardware of the machines.

    All methods may be called from any thread unless they say otherwise. After
    `stop` and `join` an instance can be pickled; the unpickled one runs at once.
    """

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
        :param on_background_state_change: see the attribute
        :param seconds_before_free: how long boards stay unused after power-off
        """
        self._state = State(
            JobQueue(None, None, None, seconds_before_free),
            next_id=next_id,
            max_retired_jobs=max_retired_jobs,
        )
        self._init_dynamic_state()
        self.on_background_state_change = on_background_state_change

    # Life cycle

    def _init_dynamic_state(self) -> None:
        """Make what is not kept, and take up the work on the hardware."""
        self._connect_parts()
        self.start()

    def _connect_parts(self) -> None:
        """Make what is not kept, and leave the hardware alone."""
        self._parts = Parts(self._state, self._create_machine_bmp_controllers)
        self._log = self._parts.log

    def start(self) -> None:
        """Take up the work on the hardware. Called only on a dormant controller.

        Every job counts as heard from just now, and power changes that were
        interrupted are done again.
        """
        self._parts.start()

    def stop(self) -> None:
        """Ask all threads to end once they have done what they were asked to do.

        Only `join` may be called afterwards.
        """
        for controller in self._parts.all_frames():
            controller.stop()

    def join(self) -> None:
        """Wait for all threads to end. Blocks."""
        # Without the lock: the threads need it to report their last results.
        for controller in self._parts.all_frames():
            controller.join()

    def __getstate__(self) -> dict[str, Any]:
        """What is kept over a restart; to be called after `stop` and `join`."""
        with self._log.lock:
            return to_plain(self._state)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from where the pickled controller was stopped."""
        self._state = from_plain(state)
        self._init_dynamic_state()

    @classmethod
    def restored(cls, state: dict[str, Any]) -> Controller:
        """Make a controller that leaves the hardware alone until `start` is called.

        :param state: what `__getstate__` of another one has given
        :raises ValueError: if it is no such thing
        """
        controller = cls.__new__(cls)
        controller._state = from_plain(state)
        controller._connect_parts()
        return controller

    # Changes

    @property
    def lock(self) -> Any:
        """Held by whoever changes anything; hold it over several calls to have
        nothing happen between them.
        """
        return self._log.lock

    @property
    def on_event(self) -> Callable[[Record], object] | None:
        """Told, with the lock held, of changes that no command explains, as they are
        to be stored for `replay`.
        """
        return self._log.on_event

    @on_event.setter
    def on_event(self, callback: Callable[[Record], object] | None) -> None:
        self._log.on_event = callback

    @property
    def on_failure(self) -> Callable[[], object] | None:
        """Told, with the lock held and by any thread, that because of an internal error
        what was told and stored need not be what was done: what there is now counts.
        """
        return self._log.on_failure

    @on_failure.setter
    def on_failure(self, callback: Callable[[], object] | None) -> None:
        self._log.on_failure = callback

    @property
    def failures(self) -> Counter[str]:
        """How often there was an internal error in what no command explains, by what
        it was in. To be read only.
        """
        return self._log.failures

    @property
    def on_job_event(self) -> Callable[[JobEvent], object] | None:
        """Told, with the lock held and by any thread, what happens to jobs; must not
        block.
        """
        return self._parts.jobs.on_job_event

    @on_job_event.setter
    def on_job_event(self, callback: Callable[[JobEvent], object] | None) -> None:
        self._parts.jobs.on_job_event = callback

    @property
    def on_background_state_change(self) -> Callable[[], object] | None:
        """Called when something changes other than by a call of a method.

        It is called from any thread and must not call the controller. None for no call.
        """
        return self._log.on_background_change

    @on_background_state_change.setter
    def on_background_state_change(self, callback: Callable[[], object] | None) -> None:
        self._log.on_background_change = callback

    def mend(self) -> None:
        """Put in order what a change has left that raised anything unexpected.

        What was stored before is no longer what was done, see `on_failure`. Takes time
        in proportion to all jobs.
        """
        with self._log.lock:
            self._log.mend()

    def apply(self, change: Change, at: float | None = None) -> Any:
        """Do a change that is stored already, or that nobody stores.

        :param at: when that is said to be, in seconds since 1970 (UTC); None for now
        :return: the ID of the job, of `CreateJob`
        :raises RefusedError: if it cannot be done as things are
        """
        return self._log.do(change, at)

    def replay(self, records: Iterable[Sequence[Any]]) -> None:
        """Do again, on a dormant controller, what was done to this state before.

        :param records: stored changes, see `spalloc_server.model.changes`
        :raises ReplayError: if one cannot follow those before it
        """
        self._log.replay(records)

    @property
    def changed_jobs(self) -> set[int]:
        """IDs of the jobs that have changed since this was last read."""
        if not self._state.changed_jobs:
            return set()
        with self._log.lock:
            changed, self._state.changed_jobs = self._state.changed_jobs, set()
            return changed

    @property
    def changed_machines(self) -> set[str]:
        """Names of the machines that have changed since this was last read.

        A machine changes when it is added, removed or modified, and when a job is
        allocated on it or frees its boards.
        """
        if not self._state.changed_machines:
            return set()
        with self._log.lock:
            state = self._state
            changed, state.changed_machines = state.changed_machines, set()
            return changed

    def note_changed(self, jobs: Iterable[int], machines: Iterable[str]) -> None:
        """Have jobs and machines be among those that have changed."""
        with self._log.lock:
            self._state.changed_jobs.update(jobs)
            self._state.changed_machines.update(machines)

    # Settings and machines

    def configure(
        self, settings: Settings, machines: Mapping[str, Machine] | None = None
    ) -> None:
        """Have other settings or machines in force, as one change.

        :param machines: see `machines`; None leaves them
        """
        with self._log.lock:
            self._parts.machines.configure(settings, machines)

    @property
    def settings(self) -> Settings:
        """The settings in force."""
        return self._parts.machines.settings

    @property
    def max_retired_jobs(self) -> int:
        """Of how many ended jobs the reason is remembered."""
        return self._state.max_retired_jobs

    @max_retired_jobs.setter
    def max_retired_jobs(self, number: int) -> None:
        with self._log.lock:
            self.configure(self.settings._replace(max_retired_jobs=number))

    @property
    def seconds_before_free(self) -> float:
        """How long boards powered off from now on stay unused."""
        return self._state.job_queue.seconds_before_free

    @seconds_before_free.setter
    def seconds_before_free(self, seconds: float) -> None:
        with self._log.lock:
            self.configure(self.settings._replace(seconds_before_free=seconds))

    def set_board_retries(self, first: float, longest: float) -> None:
        """Set after how many seconds boards out of service are tried again.

        :param first: the first time; twice as long each time after that
        :param longest: but never longer than this
        """
        with self._log.lock:
            settings = self.settings._replace(
                first_board_retry=first, longest_board_retry=longest
            )
            self.configure(settings)

    @property
    def machines(self) -> OrderedDict[str, Machine]:
        """The machines by name, highest priority first.

        Set it to change them. Where only tags, dead boards and dead links of a
        machine change, its jobs go on; otherwise, and where it is removed, they
        are destroyed.
        """
        with self._log.lock:
            return self._state.machines.copy()

    @machines.setter
    def machines(self, machines: Mapping[str, Machine]) -> None:
        with self._log.lock:
            self.configure(self.settings, machines)

    def _create_machine_bmp_controllers(
        self, machine: Machine, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        """Start a controller for the BMP of each frame of a machine.

        A BMP that those of removed machines are still busy with is left to them until
        they have finished; no other waits for that.

        :param on_thread_start: called first by the thread of each of them
        """
        # Looked up now: programs put others in the place of the class.
        self._parts.frames.make(machine, AsyncBMPController, on_thread_start)

    def list_machines(self) -> list[MachineTuple]:
        """Describe all machines, highest priority first.

        Boards out of service are among the dead ones.
        """
        with self._log.lock:
            return self._parts.machines.tuples()

    def board_states(self, machine_name: str) -> dict[Board, BoardState]:
        """The state of every board of a machine.

        :raises KeyError: if there is no such machine
        """
        with self._log.lock:
            return self._parts.machines.board_states(machine_name)

    def load(self) -> Load:
        """How busy the machines are. Takes time in proportion to jobs and boards."""
        with self._log.lock:
            return self._parts.machines.load()

    def get_board_position(
        self, machine_name: str, x: int, y: int, z: int
    ) -> Physical | None:
        """Where a board is plugged in.

        :return: (cabinet, frame, board), None if there is no such board
        """
        with self._log.lock:
            machine = self._state.machines.get(machine_name)
            return None if machine is None else machine.board_locations.get((x, y, z))

    def get_board_at_position(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> Board | None:
        """Which board is plugged in there.

        :return: (x, y, z), None if there is no such board
        """
        with self._log.lock:
            return self._parts.finder.board_at(machine_name, cabinet, frame, board)

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
        if kwargs.get("owner") is None:
            raise TypeError("owner must be specified for all jobs")
        options = {**kwargs, "owner": str(kwargs["owner"])}
        if kwargs.get("keepalive") is not None:
            options["keepalive"] = float(kwargs["keepalive"])
        job_id: int = self.apply(changes.CreateJob(ownerhost, args, options))
        return job_id

    def job_keepalive(self, clienthost: str | None, job_id: int) -> None:
        """Note that somebody still wants a job; all other job methods do so too.

        :param clienthost: IP address of the host that asks
        """
        with self._log.lock:
            job = self._state.jobs.get(job_id)
            if job is not None:
                job.update_keepalive(clienthost)

    def get_job_state(self, clienthost: str | None, job_id: int) -> JobStateTuple:
        """The state of a job, of any ID.

        :param clienthost: IP address of the host that asks
        """
        with self._log.lock:
            job = self._parts.jobs.touch(clienthost, job_id)
            if job is None:
                return self._parts.answers.ended_state(job_id)
            return job.state_tuple()

    def get_job_machine_info(
        self, clienthost: str | None, job_id: int
    ) -> JobMachineInfoTuple:
        """The boards of a job, of any ID.

        :param clienthost: IP address of the host that asks
        """
        with self._log.lock:
            job = self._parts.jobs.touch(clienthost, job_id)
            return self._parts.answers.boards(job)

    def describe_job(
        self, job_id: int
    ) -> tuple[JobStateTuple, JobTuple | None, JobMachineInfoTuple]:
        """All there is to know of a job, of any ID; does not keep it alive.

        :return: its state, what `list_jobs` tells of it (None if it has ended or there
            is none), and its boards
        """
        with self._log.lock:
            return self._parts.answers.all_of(job_id)

    def power_on_job_boards(self, clienthost: str | None, job_id: int) -> None:
        """Power the boards of a job on, or reset them if they are on.

        :param clienthost: IP address of the host that asks
        """
        self.apply(changes.PowerOnJob(clienthost, job_id))

    def power_off_job_boards(self, clienthost: str | None, job_id: int) -> None:
        """Power the boards of a job off.

        :param clienthost: IP address of the host that asks
        """
        self.apply(changes.PowerOffJob(clienthost, job_id))

    def destroy_job(
        self, clienthost: str | None, job_id: int, reason: str | None = None
    ) -> None:
        """End a job, and give its boards to others once they are powered off.

        :param clienthost: IP address of the host that asks
        :param reason: for the people who ask what became of it
        """
        self.apply(changes.DestroyJob(clienthost, job_id, reason))

    def list_jobs(self) -> list[JobTuple]:
        """Describe all jobs that have not ended, oldest first."""
        with self._log.lock:
            return [job.list_tuple() for job in self._state.jobs.values()]

    def waiting(self, job_id: int) -> Waiting | None:
        """Where a job stands and why it waits, None if it does not wait."""
        with self._log.lock:
            return self._parts.answers.waiting(job_id)

    def waiting_of(self, job_ids: Iterable[int]) -> dict[int, Waiting]:
        """What `waiting` tells of those jobs of some that wait, all at once."""
        with self._log.lock:
            return self._parts.answers.waiting_of(job_ids)

    def kept_boards(self) -> dict[str, int]:
        """How many boards of each machine are kept for somebody who waits."""
        with self._log.lock:
            return self._state.job_queue.kept_boards()

    def job_details(
        self, job_ids: Iterable[int] | None = None
    ) -> dict[int, JobDetails]:
        """What `list_jobs` does not tell, by job ID; for those who only look on.

        :param job_ids: of these jobs, as far as they have not ended; None for all
        """
        with self._log.lock:
            ids = self._state.jobs if job_ids is None else job_ids
            return self._parts.answers.details(ids)

    def details_of(self, job_id: int) -> JobDetails | None:
        """What `job_details` tells of a job, None if it has ended."""
        return self.job_details([job_id]).get(job_id)

    def first_and_length_of_queue(self, machine_name: str) -> tuple[int | None, int]:
        """The first job that waits for a machine, and how many do.

        :raises KeyError: if there is no such machine
        """
        with self._log.lock:
            return self._state.job_queue.first_and_length(machine_name)

    @property
    def withheld(self) -> Withheld:
        """Which boards are drained and which machines closed; not to be changed."""
        return self._state.withheld

    @property
    def job_count(self) -> int:
        """How many jobs have not ended."""
        return len(self._state.jobs)

    # Regular work

    def destroy_timed_out_jobs(self) -> None:
        """Destroy the jobs that have not been heard of for too long."""
        self.destroy_silent_jobs(time.monotonic())

    def destroy_silent_jobs(self, heard_until: float) -> None:
        """Destroy the jobs that had not been heard of for too long at some time.

        :param heard_until: up to then, by the monotonic clock, all that was said by
            anybody has been heard; nobody's silence since then counts
        """
        with self._log.lock:
            self._parts.deadlines.destroy_timed_out(heard_until)

    def excuse_silence(self, seconds: float) -> None:
        """Have some time not count for the keepalives of jobs.

        :param seconds: for how long nobody could be heard until now
        """
        with self._log.lock:
            self._parts.deadlines.excuse_silence(seconds)

    def check_free(self) -> None:
        """Give out boards that have cooled down, and try those out of service again."""
        self._parts.look_after_boards()

    # Problems of boards

    def report_problem(
        self,
        ip_address: str,
        x: int | None = None,
        y: int | None = None,
        p: int | None = None,
        description: str | None = None,
    ) -> dict[str, Any]:
        """Store that something is wrong with a board.

        Enough reports by different jobs take it out of service.

        :param ip_address: of the board's Ethernet chip, as told to the job
        :param x: chip on the board
        :param y: chip on the board
        :param p: core of the chip
        :return: what came of it: ``machine``, ``board`` and ``physical`` say which
            board it is, ``jobs`` how many jobs have reported it, ``out_of_service``
            whether it is, and ``text`` what this means, for people
        :raises ValueError: if no board has this address, or there are too many reports
        """
        change = changes.ReportProblem(None, ip_address, x, y, p, description)
        outcome: dict[str, Any] = self.apply(change)
        return outcome

    def check_problem(self, ip_address: str) -> None:
        """Find out if one more report of a board would be kept.

        :raises ValueError: if its job has reported it often enough
        """
        with self._log.lock:
            self._parts.reports.check_report(ip_address)

    def list_problems(self, machine_name: str | None = None) -> list[dict[str, Any]]:
        """Describe the boards out of service, and those that were reported.

        :param machine_name: only of this machine
        :return: a dictionary for each: ``machine``, ``board`` (x, y, z),
            ``physical`` (cabinet, frame, board), ``ip_address``,
            ``out_of_service``, the ``reason`` and since when (``since``, seconds
            since 1970), ``next_test`` in seconds from now (None if it is not
            scheduled), and the ``reports``, a list of dictionaries with the fields
            of `spalloc_server.model.board_health.Report`
        """
        return self.describe_problems(self.boards_with_problems(machine_name))

    def boards_with_problems(self, machine_name: str | None = None) -> list[BoardKey]:
        """The boards that `list_problems` describes, some of which may be gone."""
        with self._log.lock:
            return self._state.health.boards(machine_name)

    def describe_problems(self, boards: Iterable[BoardKey]) -> list[dict[str, Any]]:
        """Describe the problems of some boards, as `list_problems` does.

        :param boards: those that are not there, or have no problem any more, are left
            out
        """
        with self._log.lock:
            return list(self._parts.reports.problems(boards))

    def clear_problem(self, machine_name: str, x: int, y: int, z: int) -> None:
        """Forget all problems of a board, and put it back into service.

        :raises ValueError: if there is no such board
        """
        self.apply(changes.ClearProblem(None, machine_name, x, y, z))

    # Places

    def _job_for_location(
        self, machine: Machine, x: int, y: int, z: int
    ) -> _Job | None:
        """The job that has a board, None if no job has it."""
        return self._parts.finder.job_at(machine, x, y, z)

    def _where_is_by_logical_triple(
        self, machine_name: str, x: int, y: int, z: int
    ) -> dict[str, Any] | None:
        """`where_is` by board coordinates."""
        return self._parts.finder.by_board(machine_name, x, y, z)

    def _where_is_by_physical_triple(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> dict[str, Any] | None:
        """`where_is` by physical coordinates."""
        return self._parts.finder.by_place(machine_name, cabinet, frame, board)

    def _where_is_by_chip_coordinate(
        self, machine_name: str, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """`where_is` by chip of a machine."""
        return self._parts.finder.by_chip(machine_name, chip_x, chip_y)

    def _where_is_by_job_chip_coordinate(
        self, job_id: int, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """`where_is` by chip of a job."""
        return self._parts.finder.by_job_chip(job_id, chip_x, chip_y)

    def where_is(self, **kwargs: Any) -> dict[str, Any] | None:
        """Find a board or chip.

        The forms are::

            where_is(machine=..., x=..., y=..., z=...)
            where_is(machine=..., cabinet=..., frame=..., board=...)
            where_is(machine=..., chip_x=..., chip_y=...)
            where_is(job_id=..., chip_x=..., chip_y=...)
            where_is(ip_address=...)

        :return: see `spalloc_server.model.where_is.describe_chip`; None if there is no
            such board or chip
        :raises TypeError: if the arguments are not one of these sets
        """
        with self._log.lock:
            return self._parts.finder.find(**kwargs)

    # What the manual names, of the parts

    def _bmp_on_request_complete(
        self, job: _Job, success: bool, reason: object = None
    ) -> None:
        """Note that one of a job's requests to frames has ended; from any thread.

        :param reason: why it failed; all boards of the job are at fault unless it says
            which, in an attribute ``boards``
        """
        result = FrameResult(job)
        if not success:
            at_fault = frozenset(getattr(reason, "boards", job.boards or ()))
            result = FrameResult(job, str(reason), lambda: at_fault)
        if job.outstanding:
            self._parts.jobs.frame_done(min(job.outstanding), result)

    def _set_job_power_and_links(
        self, job: _Job, power: bool, link_enable: bool | None = None
    ) -> None:
        """See `JobLifecycle.set_power`. With the lock held, as all below."""
        self._parts.jobs.set_power(job, power, link_enable)

    def _job_queue_on_allocate(
        self,
        job_id: int,
        machine_name: str,
        boards: set[Board],
        periphery: set[BoardLink],
        torus: WrapAround,
    ) -> None:
        """See `JobLifecycle.allocated`."""
        self._parts.jobs.allocated(job_id, machine_name, boards, periphery, torus)

    def _job_queue_on_free(self, job_id: int, reason: str | None) -> None:
        """See `JobLifecycle.end`."""
        self._parts.jobs.end(job_id, reason)

    def _job_queue_on_cancel(self, job_id: int, reason: str | None) -> None:
        """See `JobLifecycle.cancelled`."""
        self._parts.jobs.cancelled(job_id, reason)

    def _teardown_job(self, job_id: int, reason: str | None) -> None:
        """See `JobLifecycle.end`."""
        self._parts.jobs.end(job_id, reason)
