"""Run jobs on machines: the server without its network.

The controller is what the server's commands act on. It puts jobs into a `JobQueue`, and
when that gives a job boards, has the `AsyncBMPController` of each frame power them on
and cut them off from their surroundings. What jobs go through then is in
`spalloc_server.control.job_lifecycle`, and what becomes of boards that fail in
`spalloc_server.control.sick_boards`.
"""

from __future__ import annotations

import contextlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.configuration import Machine
from spalloc_server.control.job_lifecycle import JobRunner
from spalloc_server.coordinates import Board, Physical
from spalloc_server.model import where_is
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job import (
    JobDetails,
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
    MachineTuple,
    _Job,
)

__all__ = [
    "Controller",
    "JobMachineInfoTuple",
    "JobState",
    "JobStateTuple",
    "JobTuple",
    "MachineTuple",
    "_Job",
]

_UNKNOWN_JOB = JobStateTuple(JobState.unknown, None, None, None, None, None)
_NO_BOARDS = JobMachineInfoTuple(None, None, None, None, None)


class Controller(JobRunner):
    """Jobs, machines, and the hardware of the machines.

    All methods may be called from any thread unless they say otherwise. After
    `stop` and `join` an instance can be pickled; the unpickled one runs at once,
    unless it was unpickled within
    `spalloc_server.control.replayable.unpickled_dormant`.
    """

    # Life cycle

    def stop(self) -> None:
        """Ask all threads to end once they have done what they were asked to do.

        Only `join` may be called afterwards.
        """
        with self.lock:
            for controller in self._bmps.all():
                controller.stop()

    def join(self) -> None:
        """Wait for all threads to end. Blocks."""
        with self.lock:
            controllers = self._bmps.all()
        # Without the lock: the threads need it to report their last results.
        for controller in controllers:
            controller.join()

    # Settings

    @property
    def seconds_before_free(self) -> float:
        """How long boards powered off from now on stay unused."""
        return self._job_queue.seconds_before_free

    @seconds_before_free.setter
    def seconds_before_free(self, seconds: float) -> None:
        with self.lock:
            self._job_queue.seconds_before_free = seconds

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
            changes = self._machine_set.change(machines)
            self._changed_machines.update(*changes)

    def _create_machine_bmp_controllers(
        self, machine: Machine, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        """Start a controller for the BMP of each frame of a machine.

        A BMP that those of removed machines are still busy with is left to them until
        they have finished; no other waits for that.

        :param on_thread_start: called first by the thread of each of them
        """
        self._bmps.start(
            machine, AsyncBMPController, self._sick_boards.bmp_heard, on_thread_start
        )

    def list_machines(self) -> list[MachineTuple]:
        """Describe all machines, highest priority first.

        Boards out of service are among the dead ones.
        """
        with self.lock:
            return self._machine_set.tuples()

    def board_states(self, machine_name: str) -> dict[Board, BoardState]:
        """The state of every board of a machine.

        :raises KeyError: if there is no such machine
        """
        with self.lock:
            return self._machine_set.board_states(machine_name)

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
            return self._places.board_at(machine_name, (cabinet, frame, board))

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
                start_time=self.wall_time(),
                keepalive=keepalive,
                lasthost=ownerhost,
                args=args,
                kwargs=kwargs,
            )
            self._job_queue.check_job(*args, **kwargs, job_id=job_id)
            self._jobs[job_id] = job
            self._tell("created", job)
            self._job_queue.create_job(*args, **kwargs, job_id=job_id)
            self._next_id += 1
            self._keepalives.watch(job)
            self._changed_jobs.add(job_id)
            return job_id

    def job_keepalive(self, clienthost: str | None, job_id: int) -> None:
        """Note that somebody still wants a job; all other job methods do so too.

        :param clienthost: IP address of the host that asks
        """
        with self.lock:
            job = self._jobs.get(job_id)
            if job is not None:
                job.update_keepalive(clienthost)

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
            return job.machine_info_tuple()

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

    def job_details(self) -> dict[int, JobDetails]:
        """What `list_jobs` does not tell, by job ID; for those who only look on."""
        with self.lock:
            return {
                job.id: job.details(
                    self._job_queue.queues_of(job.id)
                    if job.state is JobState.queued
                    else ()
                )
                for job in self._jobs.values()
            }

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
                self.do_event("timed out", [job.id for job in timed_out])

    def check_free(self) -> None:
        """Give out boards that have cooled down, and try those out of service again."""
        with self.lock:
            # Noted before jobs get the boards, and so before what comes of that.
            with self._job_queue:
                freed = self._job_queue.check_free()
                if freed:
                    self.note_event("cooled", self.wall_time(), freed)
            self._sick_boards.test_boards()

    def _make_changers(self) -> dict[str, Callable[..., object]]:
        return {
            **super()._make_changers(),
            "create_job": self._replay_create_job,
            "destroy_job": self.destroy_job,
            "power_on_job_boards": self.power_on_job_boards,
            "power_off_job_boards": self.power_off_job_boards,
            "report_problem": partial(self._replay_problem, self.report_problem),
            "clear_problem": partial(self._replay_problem, self.clear_problem),
        }

    def _replay_create_job(
        self, ownerhost: str | None, args: list[Any], kwargs: dict[str, Any]
    ) -> None:
        # What was refused then is refused now.
        with contextlib.suppress(TypeError, ValueError):
            self.create_job(ownerhost, *args, **kwargs)

    @staticmethod
    def _replay_problem(
        command: Callable[..., object], _host: str | None, *arguments: Any
    ) -> None:
        with contextlib.suppress(ValueError):
            command(*arguments)

    # Problems of boards

    def set_board_retries(self, first: float, longest: float) -> None:
        """Set after how many seconds boards out of service are tried again.

        :param first: the first time; twice as long each time after that
        :param longest: but never longer than this
        """
        with self.lock:
            self._sick_boards.set_retries(first, longest)

    def report_problem(
        self,
        ip_address: str,
        x: int | None = None,
        y: int | None = None,
        p: int | None = None,
        description: str | None = None,
    ) -> None:
        """Store that something is wrong with a board.

        Enough reports by different jobs take it out of service.

        :param ip_address: of the board's Ethernet chip, as told to the job
        :param x: chip on the board
        :param y: chip on the board
        :param p: core of the chip
        :raises ValueError: if no board has this address
        """
        with self.lock:
            self._sick_boards.report(ip_address, x, y, p, description)

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
        with self.lock:
            return list(self._sick_boards.problems(machine_name))

    def clear_problem(self, machine_name: str, x: int, y: int, z: int) -> None:
        """Forget all problems of a board, and put it back into service.

        :raises ValueError: if there is no such board
        """
        with self.lock:
            self._sick_boards.clear(machine_name, (x, y, z))

    # Places

    def _job_for_location(
        self, machine: Machine, x: int, y: int, z: int
    ) -> _Job | None:
        """The job that has a board, None if no job has it."""
        return self._places.job_at(machine.name, (x, y, z))

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

        :return: see `spalloc_server.model.where_is.describe_chip`; None if there is no
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
