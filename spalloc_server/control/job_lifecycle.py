"""What jobs go through: they get boards, become ready, fail, and end.

A job's life is driven by commands, by the `JobQueue`, which decides on who gets which
boards, and by events: results from the hardware, and deadlines. All of them change it
by the methods here.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.job_power import JobPower, boards_still_there
from spalloc_server.control.machine_set import MachineSet
from spalloc_server.control.plain_state import from_plain, to_plain
from spalloc_server.control.replayable import KeptState
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_health import BoardHealth
from spalloc_server.model.board_index import BoardIndex, describe_boards
from spalloc_server.model.job import JobState, _Job
from spalloc_server.model.job_events import JobEvent, Kind
from spalloc_server.model.keepalives import Keepalives

logger = logging.getLogger(__name__)

MAX_FAILED_PLACES = 3
"""In how many places a job is tried before it is given up."""


class JobRunner(KeptState):
    """The state of jobs, and its changes.

    A job's boards stay its own until they have been powered off after its end.
    Methods that do not say otherwise are called with the `lock` held.
    """

    on_job_event: Callable[[JobEvent], object] | None
    """Told, with the lock held and by any thread, what happens to jobs; must not block.
    Not told during `replay`. Not pickled."""

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
        self._next_id = next_id
        # Boards that a living job had to give up are held by jobs of these IDs.
        self._next_holder_id = -1
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
        self._health = BoardHealth()
        self._init_dynamic_state()
        self.on_background_state_change = on_background_state_change

    def _init_dormant(self) -> None:
        super()._init_dormant()
        self.on_job_event = None
        self._keepalives = Keepalives()
        self._places = BoardIndex(self._machines.values(), self._jobs.values())
        self._bmps = FrameControllers()
        self._job_power = JobPower(self._bmps, self._bmp_on_request_complete)
        # What these are given is changed from now on, but never replaced.
        self._sick_boards = SickBoards(
            self._health,
            self._machines,
            self._places,
            self._job_queue,
            self._bmps,
            self._changed_machines,
            self,
        )
        self._machine_set = MachineSet(
            self._machines,
            self._ending_jobs,
            self._places,
            self._job_queue,
            self._sick_boards,
            self._bmps,
            self._create_machine_bmp_controllers,
        )
        self._changers = self._make_changers()

    def start(self) -> None:
        """Take up the work on the hardware. Called only on a dormant controller.

        Every job counts as heard from just now, so that its client has time to
        come back, and power changes that were interrupted are done again.
        """
        super().start()
        self._sick_boards.schedule_tests()
        for machine in self._machines.values():
            self._create_machine_bmp_controllers(machine)
        # Jobs that were created in a replay are in the old one.
        self._keepalives = Keepalives()
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

    def _create_machine_bmp_controllers(
        self, machine: Machine, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        """Start a controller for the BMP of each frame of a machine."""
        raise NotImplementedError

    def _kept_state(self) -> dict[str, Any]:
        return to_plain(
            State(
                job_queue=self._job_queue,
                next_id=self._next_id,
                next_holder_id=self._next_holder_id,
                max_retired_jobs=self._max_retired_jobs,
                machines=self._machines,
                jobs=self._jobs,
                ending_jobs=self._ending_jobs,
                retired_jobs=self._retired_jobs,
                health=self._health,
            )
        )

    def _take_state(self, data: dict[str, Any]) -> None:
        state = from_plain(data)
        self._next_id = state.next_id
        self._next_holder_id = state.next_holder_id
        self._max_retired_jobs = state.max_retired_jobs
        self._machines = state.machines
        self._job_queue = state.job_queue
        self._job_queue.on_allocate = self._job_queue_on_allocate
        self._job_queue.on_free = self._job_queue_on_free
        self._job_queue.on_cancel = self._job_queue_on_cancel
        self._jobs = state.jobs
        self._ending_jobs = state.ending_jobs
        self._retired_jobs = state.retired_jobs
        self._changed_jobs = state.changed_jobs
        self._changed_machines = state.changed_machines
        self._health = state.health

    # What is told and kept of jobs

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
    def changed_jobs(self) -> set[int]:
        """IDs of the jobs that have changed since this was last read."""
        if not self._changed_jobs:
            return set()
        with self.lock:
            changed, self._changed_jobs = self._changed_jobs, set()
            return changed

    @property
    def changed_machines(self) -> set[str]:
        """Names of the machines that have changed since this was last read.

        A machine changes when it is added, removed or modified, and when a job is
        allocated on it or frees its boards.
        """
        if not self._changed_machines:
            return set()
        with self.lock:
            changed = self._changed_machines.copy()
            self._changed_machines.clear()
            return changed

    # Events

    def _make_changers(self) -> dict[str, Callable[..., object]]:
        """What does each kind of event, see `KeptState.do_event`."""
        return {
            "timed out": self._do_time_out,
            "ready": self._do_ready,
            "failed": self._do_fail,
            "freed": self._do_free,
            "cooled": self._job_queue.free_cooling,
            "board in": self._sick_boards.put_back,
            "bmp out": self._sick_boards.take_frame_out,
            "bmp in": self._sick_boards.put_frame_back,
        }

    def _tell(self, kind: Kind, job: _Job, reason: str | None = None) -> None:
        """Tell `on_job_event` and the log of a change of a job."""
        if self._dormant:
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
            logger.info("Job %d of %s ended: %s", job.id, job.owner, reason)
        if self.on_job_event is not None:
            self.on_job_event(job.job_event(kind, self.wall_time(), reason))

    def _do_time_out(self, job_ids: Iterable[int]) -> None:
        # As one change: the boards of one are not for the next of them.
        with self._job_queue:
            for job_id in job_ids:
                self._job_queue.destroy_job(self._jobs[job_id].id, "Job timed out.")

    def _do_ready(self, job_id: int) -> None:
        job = self._jobs[job_id]
        job.bmp_requests_until_ready = 0
        job.state = JobState.ready
        job.was_ready = True
        self._changed_jobs.add(job_id)
        self._tell("ready", job)

    def _do_fail(self, job_id: int, boards: Iterable[Board], reason: str) -> None:
        """Take a job's faulty boards out of service, and find it others, or end it."""
        job = self._jobs[job_id]
        machine = job.machine
        boards = [(x, y, z) for x, y, z in boards]
        job.failure = f"{reason} ({describe_boards(machine, boards)})"
        job.failed_places += 1
        logger.warning("Job %d of %s: %s", job_id, job.owner, job.failure)
        with self._job_queue:
            self._sick_boards.take_out(machine.name, boards, reason)
            if job.was_ready or job.failed_places >= MAX_FAILED_PLACES:
                self._job_queue.destroy_job(job_id, _failure_reason(job))
            else:
                self._requeue(job)

    def _requeue(self, job: _Job) -> None:
        """Have a job wait for other boards; the old ones are powered off."""
        job_id, holder_id = job.id, self._next_holder_id
        self._next_holder_id -= 1
        self._places.leave(job)
        self._jobs[job_id] = job.queued_again(holder_id)
        self._changed_jobs.add(job_id)
        self._changed_machines.add(job.machine.name)
        self._tell("requeued", job, job.failure)
        job.id = holder_id
        job.state = JobState.destroyed
        self._ending_jobs[holder_id] = job
        self._job_queue.requeue(job_id, holder_id)
        self._set_job_power_and_links(job, power=False)

    def _do_free(
        self, job_id: int, faulty: Sequence[Board], reason: str | None
    ) -> None:
        """Free the boards of an ended job, but not those that are faulty."""
        job = self._ending_jobs.pop(job_id)
        with self._job_queue:
            if faulty:
                self._sick_boards.take_out(job.machine.name, faulty, str(reason))
            self._job_queue.free(job_id)

    # Hardware

    def _set_job_power_and_links(
        self, job: _Job, power: bool, link_enable: bool | None = None
    ) -> None:
        """Power the boards of a job on or off and change their peripheral links.

        :param link_enable: open the links (True), close them (False), or leave
            them as they are (None)
        """
        job.power = power
        if job.id in self._jobs:
            job.state = JobState.power
            self._changed_jobs.add(job.id)
            self._tell("power", job)
        if self._dormant:
            # Known to be unfinished; `start` does it.
            job.bmp_requests_until_ready = 1
            return
        self._job_power.request(job, power, link_enable)

    def _bmp_on_request_complete(
        self, job: _Job, success: bool, reason: str | None = None
    ) -> None:
        """Note that a request to the hardware has ended; from any thread.

        :param job: whose boards the request was about
        :param success: was the request carried out?
        :param reason: why not; all boards of the job are at fault unless it says which
        """
        changed = False
        with self.lock:
            job.bmp_requests_until_ready -= 1
            all_done = job.bmp_requests_until_ready == 0
            at_fault = getattr(reason, "boards", job.boards or ())
            if job.id in self._jobs:
                if not success:
                    changed = True
                    self.do_event("failed", job.id, sorted(at_fault), str(reason))
                elif all_done:
                    changed = True
                    self.do_event("ready", job.id)
            elif job.id in self._ending_jobs:
                if not success:
                    job.failure = str(reason)
                    job.faulty_boards.update(at_fault)
                if all_done:
                    changed = True
                    self._power_off_done(job)
        if changed:
            self.wake()

    def _power_off_done(self, job: _Job) -> None:
        """Free the boards of an ended job, as far as they could be powered off."""
        faulty = boards_still_there(job, self._machines)
        if faulty:
            logger.error(
                "Boards of an ended job failed: %s (%s)",
                job.failure,
                describe_boards(job.machine, faulty),
            )
        self.do_event("freed", job.id, faulty, job.failure)

    # Callbacks of the job queue

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
        self._places.occupy(job)
        self._changed_machines.add(machine_name)
        self._tell("allocated", job)
        self._set_job_power_and_links(job, power=True, link_enable=False)

    def _job_queue_on_free(self, job_id: int, reason: str | None) -> None:
        """End a job that has boards."""
        self._teardown_job(job_id, reason)

    def _job_queue_on_cancel(self, job_id: int, reason: str | None) -> None:
        """End a job that has no boards."""
        job = self._jobs[job_id]
        if job.failure is not None:
            # It only was in the queue because of that.
            reason = f"{_failure_reason(job)}; then cancelled: {reason or ''}"
        else:
            reason = f"Cancelled: {reason or ''}"
        self._teardown_job(job_id, reason)

    def _teardown_job(self, job_id: int, reason: str | None) -> None:
        """End a job, and power its boards off if it has any."""
        job = self._jobs.pop(job_id)
        job.state = JobState.destroyed
        self._retired_jobs[job_id] = reason
        self._forget_old_jobs()
        self._changed_jobs.add(job_id)
        self._tell("destroyed", job, reason)
        if job.allocated_machine is not None:
            self._changed_machines.add(job.allocated_machine.name)
            self._places.leave(job)
            self._ending_jobs[job_id] = job
            self._set_job_power_and_links(job, power=False)

    def _forget_old_jobs(self) -> None:
        while len(self._retired_jobs) > self._max_retired_jobs:
            self._retired_jobs.popitem(last=False)


def _failure_reason(job: _Job) -> str:
    return f"Machine configuration failed. Error: {job.failure}"
