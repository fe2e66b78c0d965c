"""Boards out of service: taken out when they fail, tried again, and put back.

Which boards these are, and why, is in `spalloc_server.model.board_health`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.control.frames import Frame, FrameControllers, Frames
from spalloc_server.control.replayable import KeptState
from spalloc_server.coordinates import Board
from spalloc_server.hardware.requests import AtomicRequests
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_health import BoardHealth, BoardKey, Report
from spalloc_server.model.board_index import BoardIndex, describe_boards

logger = logging.getLogger(__name__)


class SickBoards:
    """Keeps boards that fail from the jobs, and tries them again by and by.

    Methods that do not say otherwise are called with the lock of the state held.
    """

    def __init__(
        self,
        health: BoardHealth,
        machines: Mapping[str, Machine],
        places: BoardIndex,
        job_queue: JobQueue,
        bmps: FrameControllers,
        changed_machines: set[str],
        state: KeptState,
    ) -> None:
        """Look after the boards of machines.

        :param health: what is known of the boards; only changed in here
        :param machines: those there are, by name
        :param places: of these machines
        :param job_queue: is told which boards it must not give out
        :param bmps: where boards are tried again
        :param changed_machines: gets the names of those whose boards go or come
        :param state: what all of these belong to: its lock, its events
        """
        self._health = health
        self._machines = machines
        self._places = places
        self._job_queue = job_queue
        self._bmps = bmps
        self._changed_machines = changed_machines
        self._state = state
        # Boards that have passed their test, and when they have rested from it.
        self._recovering: dict[BoardKey, float] = {}

    def set_retries(self, first: float, longest: float) -> None:
        """Set after how many seconds boards are tried again, see `BoardHealth`."""
        self._health.first_interval = first
        self._health.longest_interval = longest

    def schedule_tests(self) -> None:
        """Set when boards are tried again, after a restart."""
        self._health.schedule_tests(time.monotonic())

    def forget_machine(self, machine_name: str) -> None:
        """Forget the problems of a machine that is no longer there."""
        self._health.forget_machine(machine_name)

    def boards_out(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are out of service."""
        # Not those that it had before it was wired anew.
        return self._health.boards_out(machine.name) & machine.board_locations.keys()

    def dead_boards(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are not given out, for whatever reason."""
        return machine.dead_boards | self.boards_out(machine)

    # Out of service

    def take_out(
        self,
        machine_name: str,
        boards: Iterable[Sequence[int]],
        reason: str,
        waits_for_bmp: bool = False,
    ) -> None:
        """Take boards out of service.

        :param waits_for_bmp: do they only wait for their BMP to answer?
        """
        for x, y, z in boards:
            self._recovering.pop((machine_name, (x, y, z)), None)
            self._health.take_out(
                machine_name,
                (x, y, z),
                reason,
                time.monotonic(),
                self._state.wall_time(),
                waits_for_bmp,
            )
        self._update_dead_boards(machine_name)

    def put_back(self, machine_name: str, board: Sequence[int]) -> None:
        """Forget all problems of a board, and put it back into service."""
        x, y, z = board
        self._recovering.pop((machine_name, (x, y, z)), None)
        if self._health.put_back(machine_name, (x, y, z)):
            logger.info("Board %s of %s is back in service", (x, y, z), machine_name)
            self._update_dead_boards(machine_name)

    def clear(self, machine_name: str, board: Board) -> None:
        """Put a board back because an operator says so.

        :raises ValueError: if there is no such board
        """
        machine = self._machines.get(machine_name)
        if machine is None or board not in machine.board_locations:
            raise ValueError(f"machine {machine_name!r} has no board {board}")
        self.put_back(machine_name, board)

    def _update_dead_boards(self, machine_name: str) -> None:
        machine = self._machines.get(machine_name)
        if machine is not None:
            self._changed_machines.add(machine_name)
            self._job_queue.modify_machine(
                machine_name, dead_boards=self.dead_boards(machine)
            )

    # Silent BMPs

    def bmp_heard(
        self, machine_name: str, frame: Frame, frames: Frames, problem: str | None
    ) -> None:
        """Take or keep the boards of a frame out of service until its BMP answers.

        Called by the frame's thread, without the lock.

        :param frames: those that the machine had at that time
        :param problem: what is wrong; None if it answers
        """
        with self._state.lock:
            if self._bmps.of_machine(machine_name) is not frames:
                return
            if problem is not None:
                logger.error(
                    "Boards of machine %s, cabinet %d, frame %d are out of service "
                    "until their BMP answers: %s",
                    machine_name,
                    *frame,
                    problem,
                )
                self._state.do_event("bmp out", machine_name, frame, problem)
            else:
                waiting = set(self._health.waiting_for_bmp(machine_name))
                if waiting.isdisjoint(self._boards_of_frame(machine_name, frame)):
                    return
                logger.warning(
                    "The BMP of machine %s, cabinet %d, frame %d answers now",
                    machine_name,
                    *frame,
                )
                self._state.do_event("bmp in", machine_name, frame)
        self._state.wake()

    def take_frame_out(
        self, machine_name: str, frame: Sequence[int], reason: str
    ) -> None:
        """Take all boards of a frame out of service: its BMP does not answer."""
        self.take_out(
            machine_name,
            self._boards_of_frame(machine_name, frame),
            reason,
            waits_for_bmp=True,
        )

    def put_frame_back(self, machine_name: str, frame: Sequence[int]) -> None:
        """Put boards back that only waited for their BMP, which answers now."""
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

    # Tests

    def test_boards(self) -> None:
        """Try boards again that are out of service, where it is time for that."""
        now = time.monotonic()
        rested = [key for key, at in self._recovering.items() if at <= now]
        for machine_name, board in rested:
            self._state.do_event("board in", machine_name, board)
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
        with self._state.lock:
            now = time.monotonic()
            if not success:
                logger.info("Board %s of %s: %s", board, machine_name, reason)
                self._health.test_failed(machine_name, board, now)
            elif self._health.is_out(machine_name, board):
                # It has just been powered off, like a job's.
                rested = now + self._job_queue.seconds_before_free
                self._recovering[machine_name, board] = rested
        self._state.wake()

    # What users and operators say and are told

    def report(
        self,
        ip_address: str,
        x: int | None,
        y: int | None,
        p: int | None,
        description: str | None,
    ) -> None:
        """Store what a user says of a board, see `Controller.report_problem`.

        :raises ValueError: if no board has this address
        """
        found = self._places.board_of_ip(ip_address)
        if found is None:
            raise ValueError(f"ip_address {ip_address!r} belongs to no board")
        machine_name, board = found
        job = self._places.job_at(machine_name, board)
        report = Report(
            None if job is None else job.id,
            None if job is None else job.owner,
            self._state.wall_time(),
            x,
            y,
            p,
            description,
        )
        reason = self._health.report(machine_name, board, report)
        logger.warning(
            "Problem reported of %s by %s: %s",
            describe_boards(self._machines[machine_name], [board]),
            "nobody" if job is None else f"job {job.id} of {job.owner}",
            description,
        )
        if reason is not None:
            self.take_out(machine_name, [board], reason)

    def problems(self, machine_name: str | None) -> Iterator[dict[str, Any]]:
        """Describe what is wrong with boards, see `Controller.list_problems`."""
        now = time.monotonic()
        for (name, board), out, reports in self._health.problems(machine_name):
            machine = self._machines.get(name)
            if machine is None or board not in machine.board_locations:
                continue
            test_at = None if out is None else out.test_at
            yield {
                "machine": name,
                "board": board,
                "physical": machine.board_locations[board],
                "ip_address": machine.spinnaker_ips.get(board),
                "out_of_service": out is not None,
                "reason": None if out is None else out.reason,
                "since": None if out is None else out.since,
                "next_test": None if test_at is None else max(0, test_at - now),
                "reports": [report._asdict() for report in reports],
            }
