"""What jobs go through: they get boards, become ready, fail, and end.

A job's life is driven by commands, by the `JobQueue`, which decides on who gets which
boards, and by events: results from the hardware, and deadlines. All of them change it
by the methods here.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Callable

from spalloc_server.control.change_log import ChangeLog, EventFailedError
from spalloc_server.control.deadlines import Deadlines
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.job_power import FrameResult, JobPower, boards_still_there
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.model.board_index import describe_boards
from spalloc_server.model.changes import (
    CreateJob,
    DestroyJob,
    Failed,
    Freed,
    PowerOffJob,
    PowerOnJob,
    Ready,
    as_board,
)
from spalloc_server.model.job import NOTHING, _Job
from spalloc_server.model.job_events import JobEvent, Kind
from spalloc_server.model.job_tuples import JobState

logger = logging.getLogger(__name__)

INTERNAL_ERROR = "Internal error of the server."

MAX_FAILED_PLACES = 3
"""In how many places a job is tried before it is given up."""


class JobLifecycle:
    """Changes jobs, and has their boards powered.

    A job's boards stay its own until they have been powered off after its end. Methods
    that do not say otherwise are called with the controller's lock held.
    """

    def __init__(
        self,
        state: State,
        log: ChangeLog,
        frames: FrameControllers,
        sick_boards: SickBoards,
        deadlines: Deadlines,
    ) -> None:
        """Look after jobs.

        :param state: its job queue tells this object what it decides
        :param log: what happens goes through it
        :param frames: of all machines
        :param sick_boards: is told of boards that fail
        :param deadlines: watches the jobs
        """
        self._state = state
        self._log = log
        self._sick_boards = sick_boards
        self._power = JobPower(frames, self.frame_done)
        self._deadlines = deadlines
        self.failed_starts: Counter[int] = Counter()
        """How often jobs could not be given the boards that the queue had for them,
        because of internal errors."""
        self.on_job_event: Callable[[JobEvent], object] | None = None
        """Told, with the lock held and by any thread, what happens to jobs; must not
        block. Not told during a replay."""
        state.job_queue.on_allocate = self.allocated
        state.job_queue.on_free = self.end
        state.job_queue.on_cancel = self.cancelled

    def start(self) -> None:
        """Take up the work on the hardware, once frames are there.

        Every job counts as heard from just now, so that its client has time to come
        back, and what was not finished is asked for again.
        """
        for job in self._state.jobs.values():
            job.update_keepalive(job.lasthost)
        # Those that were created in a replay are watched from then on.
        self._deadlines.watch_all_anew()
        for job in list(self._state.jobs.values()):
            if job.outstanding:
                self.ask_again(job)
        for job in list(self._state.ending_jobs.values()):
            self.ask_again_off(job)

    def ask_again(self, job: _Job) -> None:
        """Ask again for the power of a job's boards, whatever was asked before."""
        job.outstanding = NOTHING
        on = job.power is not False
        self.set_power(job, on, False if on else None)

    def ask_again_off(self, job: _Job) -> None:
        """Do the same for a job that has ended."""
        job.outstanding = NOTHING
        if job.machine_removed:
            # There is nobody left to power the boards off.
            self._power_off_done(job)
        else:
            self.set_power(job, power=False)

    def _tell(self, kind: Kind, job: _Job, reason: str | None = None) -> None:
        """Tell `on_job_event` and the log of a change of a job."""
        if self._log.is_dormant:
            return
        machine, boards = job.allocated_machine, job.boards
        if kind == "created":
            logger.info("Job %d of %s asks for %s", job.id, job.owner, list(job.args))
        elif kind == "allocated" and machine is not None:
            logger.info(
                "Job %d of %s has %d boards of %s",
                job.id,
                job.owner,
                len(boards or ()),
                machine.name,
            )
        elif kind == "destroyed":
            # In the ordinary way nobody gives a reason.
            because = "" if reason is None else f": {reason}"
            logger.info("Job %d of %s ended%s", job.id, job.owner, because)
        if self.on_job_event is not None:
            event = job.job_event(kind, self._log.wall_time(), reason)
            try:
                self.on_job_event(event)
            except Exception:
                # Whoever only looks on must not spoil it.
                self._log.failures["job event"] += 1
                logger.exception("Internal error while a job's event was told")

    # Commands

    def create(self, change: CreateJob) -> int:
        """Create a job; it may be allocated, or even have ended, on return.

        :return: its ID
        :raises TypeError: if an argument is unknown; nothing has changed then, either
        :raises ValueError: if the arguments contradict each other; likewise
        """
        state = self._state
        job_id = state.next_id
        demands = dict(change.options)
        owner, keepalive = demands.pop("owner"), demands.pop("keepalive", 60.0)
        queued = state.job_queue.make_job(
            *change.size, **demands, job_id=job_id, owner=owner
        )
        args, kwargs = queued.demand.in_words(tuple(change.size), demands)
        job = _Job(
            job_id,
            owner,
            start_time=self._log.wall_time(),
            keepalive=keepalive,
            lasthost=change.host,
            args=args,
            kwargs=kwargs,
        )
        # From here on the number is taken, whatever happens.
        state.next_id += 1
        try:
            state.jobs[job_id] = job
            state.changed_jobs.add(job_id)
            self._deadlines.watch(job)
            self._tell("created", job)
            state.job_queue.add_job(queued)
        except Exception:
            # Nobody is going to know its number: `mend` does the rest.
            if job_id in state.jobs:
                self._take_from_living(job, INTERNAL_ERROR)
                with contextlib.suppress(Exception):  # it may be what has failed
                    self._tell("destroyed", job, INTERNAL_ERROR)
            raise
        return job_id

    def touch(self, host: str | None, job_id: int) -> _Job | None:
        """Find a job that has not ended, and keep it alive.

        :param host: IP address of the host that asks
        """
        job = self._state.jobs.get(job_id)
        if job is not None:
            job.update_keepalive(host)
        return job

    def power_on(self, change: PowerOnJob) -> None:
        """Power the boards of a job on, or reset them if they are on."""
        job = self.touch(change.host, change.job_id)
        if job is not None and job.boards is not None:
            self.set_power(job, power=True, link_enable=False)

    def power_off(self, change: PowerOffJob) -> None:
        """Power the boards of a job off."""
        job = self.touch(change.host, change.job_id)
        if job is not None and job.boards is not None:
            self.set_power(job, power=False)

    def destroy(self, change: DestroyJob) -> None:
        """End a job, and give its boards to others once they are powered off."""
        if self.touch(change.host, change.job_id) is not None:
            self._state.job_queue.destroy_job(change.job_id, change.reason)

    # Hardware

    def set_power(
        self, job: _Job, power: bool, link_enable: bool | None = None
    ) -> None:
        """Power the boards of a job on or off and change their peripheral links.

        :param link_enable: open the links (True), close them (False), or leave
            them as they are (None)
        """
        before, job.outstanding = job.outstanding, NOTHING
        # Until all is asked for, an error in here is one that `mend` has to see.
        job.power = power
        if job.id in self._state.jobs:
            job.state = JobState.power
            self._state.changed_jobs.add(job.id)
            self._tell("power", job)
        if self._log.is_dormant:
            # `start` sees that it is not finished.
            job.outstanding = {0}
            return
        try:
            self._power.request(job, power, link_enable)
        except Exception:
            job.outstanding = NOTHING
            raise
        job.outstanding |= before

    def frame_done(self, number: int, result: FrameResult) -> None:
        """Take the result of a request to a frame. From any thread, without the lock.

        :param number: the number of the request; one that is not outstanding was
            answered before, or belongs to an earlier life of the job
        """
        try:
            with self._log.in_order("result of a frame"):
                try:
                    changed = self._take_result(number, result)
                except EventFailedError:
                    raise
                except Exception:
                    # It is lost, so nobody must wait for it.
                    result.job.outstanding = NOTHING
                    raise
        except EventFailedError:
            changed = True
        if changed:
            self._log.wake()

    def _take_result(self, number: int, result: FrameResult) -> bool:
        """Do `frame_done`; has anything changed for others?"""
        job = result.job
        if number not in job.outstanding:
            return False
        at_fault = result.at_fault()
        if result.silent:
            # They are out of service until it answers, and no longer.
            at_fault -= set(self._state.health.waiting_for_bmp(job.machine.name))
            is_ending = job.id in self._state.ending_jobs
            if is_ending and not at_fault and not job.machine_removed:
                # The server is being stopped: the next one powers them off.
                return False
        others = job.outstanding - {number}
        all_done = not others
        # After an error in what a failure brings about, nobody is waited for: all is
        # asked for again.
        job.outstanding = NOTHING if result.problem is not None else others
        if job.id in self._state.jobs:
            if result.problem is not None:
                self._log.happen(Failed(job.id, sorted(at_fault), result.problem))
                job.outstanding |= others
                return True
            if all_done:
                self._log.happen(Ready(job.id))
            return all_done
        if job.id not in self._state.ending_jobs:
            return False
        if result.problem is not None:
            job.failure = result.problem
            job.faulty_boards |= at_fault
            job.outstanding = others
        if all_done:
            self._power_off_done(job)
        return all_done

    def ready(self, change: Ready) -> None:
        """Have a job's boards at its disposal."""
        job = self._state.jobs[change.job_id]
        job.outstanding = NOTHING
        job.state = JobState.ready
        job.was_ready = True
        self._state.changed_jobs.add(job.id)
        self._tell("ready", job)

    def fail(self, change: Failed) -> None:
        """Take a job's faulty boards out of service, and find it others, or end it."""
        job = self._state.jobs[change.job_id]
        machine = job.machine
        boards = [as_board(board) for board in change.boards]
        where = (
            describe_boards(machine, boards) if boards else f"machine {machine.name}"
        )
        job.failure = f"{change.reason} ({where})"
        job.failed_places += 1
        if not self._log.is_dormant:
            logger.warning("Job %d of %s: %s", job.id, job.owner, job.failure)
        with self._state.job_queue:
            self._sick_boards.take_out(machine.name, boards, change.reason)
            if job.was_ready or job.failed_places >= MAX_FAILED_PLACES:
                self._state.job_queue.destroy_job(job.id, _failure_reason(job))
            else:
                self._requeue(job)

    def _requeue(self, job: _Job) -> None:
        """Have a job wait for other boards; the old ones are powered off."""
        state = self._state
        job_id, holder_id = job.id, state.next_holder_id
        state.next_holder_id -= 1
        state.boards.leave(job)
        state.jobs[job_id] = job.queued_again(holder_id)
        state.changed_jobs.add(job_id)
        state.changed_machines.add(job.machine.name)
        self._tell("requeued", job, job.failure)
        job.id = holder_id
        job.state = JobState.destroyed
        state.ending_jobs[holder_id] = job
        state.job_queue.requeue(job_id, holder_id)
        self.set_power(job, power=False)

    def _power_off_done(self, job: _Job) -> None:
        """Free the boards of an ended job, as far as they could be powered off."""
        faulty = boards_still_there(job, self._state.machines)
        if faulty:
            logger.error(
                "Boards could not be powered off after their job had ended: %s (%s)",
                job.failure,
                describe_boards(job.machine, faulty),
            )
        self._log.happen(Freed(job.id, faulty, job.failure))

    def free(self, change: Freed) -> None:
        """Free the boards of an ended job, but not those that are at fault."""
        job = self._state.ending_jobs[change.job_id]
        with self._state.job_queue:
            if change.faulty:
                machine = job.machine.name
                self._sick_boards.take_out(machine, change.faulty, str(change.reason))
            # Last: until then the boards are not forgotten, whatever goes wrong.
            del self._state.ending_jobs[change.job_id]
            self._state.job_queue.free(change.job_id)

    # What the job queue has decided

    def allocated(
        self,
        job_id: int,
        machine_name: str,
        boards: set[Board],
        periphery: set[BoardLink],
        torus: WrapAround,
    ) -> None:
        """Give a job its boards, and power them on."""
        job = self._state.jobs[job_id]
        try:
            machine = self._state.machines[machine_name]
            job.give_boards(machine, boards, periphery, torus)
            job.allocated_at = self._log.wall_time()
            self._state.boards.occupy(job)
            self._state.changed_machines.add(machine_name)
            self._tell("allocated", job)
            self.set_power(job, power=True, link_enable=False)
        except Exception:
            # It must not be in the way of all others for ever: see `JobMender`.
            self.failed_starts[job_id] += 1
            raise

    def cancelled(self, job_id: int, reason: str | None) -> None:
        """End a job that has no boards."""
        job = self._state.jobs[job_id]
        if job.failure is not None:
            # It only was in the queue because of that.
            reason = f"{_failure_reason(job)}; then cancelled: {reason or ''}"
        else:
            reason = f"Cancelled: {reason or ''}"
        self._take_from_living(job, reason)
        self._tell("destroyed", job, reason)

    def end(self, job_id: int, reason: str | None) -> None:
        """End a job, and power its boards off if it has any."""
        job = self._state.jobs[job_id]
        self._take_from_living(job, reason)
        self._tell("destroyed", job, reason)
        if job.allocated_machine is not None:
            self._state.changed_machines.add(job.allocated_machine.name)
            self._state.boards.leave(job)
            self.set_power(job, power=False)

    def give_up(self, job: _Job) -> None:
        """End a job without boards that the queue knows nothing of."""
        self._take_from_living(job, INTERNAL_ERROR)
        self._tell("destroyed", job, INTERNAL_ERROR)

    def _take_from_living(self, job: _Job, reason: str | None) -> None:
        """Have a job be one of those that have ended, and nothing else."""
        state = self._state
        del state.jobs[job.id]
        job.state = JobState.destroyed
        state.retired_jobs[job.id] = reason
        if len(state.retired_jobs) > state.max_retired_jobs:
            state.forget_old_jobs()
        state.changed_jobs.add(job.id)
        if job.allocated_machine is not None:
            state.ending_jobs[job.id] = job


def _failure_reason(job: _Job) -> str:
    return f"Machine configuration failed. Error: {job.failure}"
