"""What happens to jobs and boards once it has been decided: the controller's inside.

Everything that changes jobs goes through the methods here, by a command or by an
event: a result from the hardware, a deadline, a test of a board.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from spalloc_server.bmp_requests import AtomicRequests
from spalloc_server.board_health import BoardHealth, BoardKey, Report
from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.history import HistoryEvent, Kind
from spalloc_server.job import JobState, _Job
from spalloc_server.job_power import JobPower, boards_still_there
from spalloc_server.job_queue import JobQueue
from spalloc_server.keepalives import Keepalives
from spalloc_server.kept_state import KeptState
from spalloc_server.machine_bmps import MachineBMPs
from spalloc_server.places import Places, describe_boards

logger = logging.getLogger(__name__)

MAX_FAILED_PLACES = 3
"""In how many places a job is tried before it is given up."""


class JobRunner(KeptState):
    """The state of jobs and boards, and its changes.

    A job's boards stay its own until they have been powered off after its end.
    Methods that do not say otherwise are called with the `lock` held.
    """

    _KEPT = (
        "_next_id",
        "_next_holder_id",
        "_max_retired_jobs",
        "_machines",
        "_job_queue",
        "_jobs",
        "_ending_jobs",
        "_retired_jobs",
        "_changed_jobs",
        "_changed_machines",
        "_health",
        "generation",
    )

    def __init__(
        self,
        next_id: int,
        max_retired_jobs: int,
        on_background_state_change: Callable[[], object] | None,
        seconds_before_free: float,
    ) -> None:
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
        self.on_history: Callable[[HistoryEvent], object] | None = None
        """Told, with the lock held and by any thread, what happens to jobs; must not
        block. Not told during `replay`. Not pickled."""
        self._keepalives = Keepalives()
        # Boards that have passed their test, and when they have rested from it.
        self._recovering: dict[BoardKey, float] = {}
        self._places = Places(self._machines.values(), self._jobs.values())
        self._bmps = MachineBMPs()
        self._job_power = JobPower(self._bmps, self._bmp_on_request_complete)
        self._changers = self._make_changers()

    def start(self) -> None:
        """Take up the work on the hardware. Called only on a dormant controller.

        Every job counts as heard from just now, so that its client has time to
        come back, and power changes that were interrupted are done again.
        """
        super().start()
        self._health.schedule_tests(time.monotonic())
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

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from where the pickled controller was stopped."""
        job_queue: JobQueue = state["_job_queue"]
        job_queue.on_allocate = self._job_queue_on_allocate
        job_queue.on_free = self._job_queue_on_free
        job_queue.on_cancel = self._job_queue_on_cancel
        super().__setstate__(state)

    # Events

    def _make_changers(self) -> dict[str, Callable[..., object]]:
        """What does each kind of event, see `KeptState.do_event`."""
        return {
            "timed out": self._do_time_out,
            "ready": self._do_ready,
            "failed": self._do_fail,
            "freed": self._do_free,
            "cooled": self._job_queue.free_cooling,
            "board in": self._do_put_back,
            "bmp out": self._do_bmp_out,
            "bmp in": self._do_bmp_in,
        }

    def _tell(self, kind: Kind, job: _Job, reason: str | None = None) -> None:
        """Tell `on_history` and the log of a change of a job."""
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
        if self.on_history is not None:
            self.on_history(job.history_event(kind, self.wall_time(), reason))

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
        machine = job.allocated_machine
        assert machine is not None
        boards = [(x, y, z) for x, y, z in boards]
        job.failure = f"{reason} ({describe_boards(machine, boards)})"
        job.failed_places += 1
        logger.warning("Job %d of %s: %s", job_id, job.owner, job.failure)
        with self._job_queue:
            self._take_out(machine.name, boards, reason)
            if job.was_ready or job.failed_places >= MAX_FAILED_PLACES:
                self._job_queue.destroy_job(job_id, _failure_reason(job))
            else:
                self._requeue(job)

    def _requeue(self, job: _Job) -> None:
        """Have a job wait for other boards; the old ones are powered off."""
        assert job.allocated_machine is not None
        job_id, holder_id = job.id, self._next_holder_id
        self._next_holder_id -= 1
        self._places.leave(job)
        self._jobs[job_id] = job.queued_again(holder_id)
        self._changed_jobs.add(job_id)
        self._changed_machines.add(job.allocated_machine.name)
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
            if faulty and job.allocated_machine is not None:
                boards = [(x, y, z) for x, y, z in faulty]
                self._take_out(job.allocated_machine.name, boards, str(reason))
            self._job_queue.free(job_id)

    # Boards out of service

    def _take_out(
        self,
        machine_name: str,
        boards: Iterable[Board],
        reason: str,
        waits_for_bmp: bool = False,
    ) -> None:
        for board in boards:
            self._recovering.pop((machine_name, board), None)
            self._health.take_out(
                machine_name,
                board,
                reason,
                time.monotonic(),
                self.wall_time(),
                waits_for_bmp,
            )
        self._update_dead_boards(machine_name)

    def _do_put_back(self, machine_name: str, board: Sequence[int]) -> None:
        x, y, z = board
        self._recovering.pop((machine_name, (x, y, z)), None)
        if self._health.put_back(machine_name, (x, y, z)):
            logger.info("Board %s of %s is back in service", (x, y, z), machine_name)
            self._update_dead_boards(machine_name)

    def _do_bmp_out(self, machine_name: str, frame: Sequence[int], reason: str) -> None:
        self._take_out(
            machine_name,
            self._boards_of_frame(machine_name, frame),
            reason,
            waits_for_bmp=True,
        )

    def _do_bmp_in(self, machine_name: str, frame: Sequence[int]) -> None:
        boards = set(self._boards_of_frame(machine_name, frame))
        waiting = boards.intersection(self._health.waiting_for_bmp(machine_name))
        for board in waiting:
            self._health.bmp_answers(machine_name, board)
        if waiting:
            self._update_dead_boards(machine_name)

    def _boards_of_frame(
        self, machine_name: str, frame: Sequence[int]
    ) -> Iterator[Board]:
        machine = self._machines.get(machine_name)
        if machine is not None:
            for board, (cabinet, number, _) in machine.board_locations.items():
                if [cabinet, number] == list(frame):
                    yield board

    def dead_boards(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are not given out, for whatever reason."""
        return machine.dead_boards | self._boards_out(machine)

    def _boards_out(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are out of service."""
        # Not those that it had before it was wired anew.
        return self._health.boards_out(machine.name) & machine.board_locations.keys()

    def _update_dead_boards(self, machine_name: str) -> None:
        machine = self._machines.get(machine_name)
        if machine is not None:
            self._changed_machines.add(machine_name)
            self._job_queue.modify_machine(
                machine_name, dead_boards=self.dead_boards(machine)
            )

    def report_problem(
        self,
        ip_address: str,
        x: int | None = None,
        y: int | None = None,
        p: int | None = None,
        description: str | None = None,
    ) -> None:
        """Store that something is wrong with a board; from any thread.

        Enough reports by different jobs take it out of service.

        :param ip_address: of the board's Ethernet chip, as told to the job
        :param x: chip on the board
        :param y: chip on the board
        :param p: core of the chip
        :raises ValueError: if no board has this address
        """
        with self.lock:
            found = self._places.board_of_ip(ip_address)
            if found is None:
                raise ValueError(f"ip_address {ip_address!r} belongs to no board")
            machine_name, board = found
            job = self._places.job_at(machine_name, board)
            reason = self._health.report(
                machine_name,
                board,
                Report(
                    None if job is None else job.id,
                    None if job is None else job.owner,
                    self.wall_time(),
                    x,
                    y,
                    p,
                    description,
                ),
            )
            logger.warning(
                "Problem reported of %s by %s: %s",
                describe_boards(self._machines[machine_name], [board]),
                "nobody" if job is None else f"job {job.id} of {job.owner}",
                description,
            )
            if reason is not None:
                self._take_out(machine_name, [board], reason)

    def test_boards(self) -> None:
        """Try boards again that are out of service, where it is time for that."""
        now = time.monotonic()
        rested = [key for key, at in self._recovering.items() if at <= now]
        for machine_name, board in rested:
            self.do_event("board in", machine_name, board)
        due = self._health.due_tests(now)
        held: dict[str, set[Board]] = {}
        for machine_name, board in due:
            if self._bmps.of_machine(machine_name) is None:
                continue
            if machine_name not in held:
                holdings = self._job_queue.holdings(machine_name)
                held[machine_name] = {board for board, _ in holdings}
            machine = self._machines[machine_name]
            location = machine.board_locations.get(board)
            if location is None or board in machine.dead_boards:
                continue
            if board in held[machine_name]:
                continue
            cabinet, frame, number = location
            requests = AtomicRequests(partial(self._board_tested, machine_name, board))
            requests.power(number, True)
            requests.power(number, False)
            self._health.test_started(machine_name, board)
            self._bmps.add_requests(machine_name, (cabinet, frame), requests)

    def _board_tested(
        self, machine_name: str, board: Board, success: bool, reason: str | None = None
    ) -> None:
        """Take the result of a board's test. Called by its frame's thread."""
        with self.lock:
            now = time.monotonic()
            if not success:
                logger.info("Board %s of %s: %s", board, machine_name, reason)
                self._health.test_failed(machine_name, board, now)
            elif self._health.is_out(machine_name, board):
                # It has just been powered off, like a job's.
                rested = now + self._job_queue.seconds_before_free
                self._recovering[machine_name, board] = rested
        self.wake()

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
