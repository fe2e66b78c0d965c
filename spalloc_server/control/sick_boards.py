"""Boards out of service: taken out when they fail, tried again, and put back.

Which boards these are, and why, is in `spalloc_server.model.board_health`.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from spalloc_server.control.availability import Availability
from spalloc_server.control.change_log import ChangeLog, EventFailedError
from spalloc_server.control.frames import Frame, FrameControllers, Frames
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board, Physical
from spalloc_server.hardware.requests import AtomicRequests
from spalloc_server.model.changes import (
    BMPIn,
    BMPOut,
    BoardIn,
    BoardStillOut,
    ClearBoards,
    ClearProblem,
    RefusedError,
    as_board,
)
from spalloc_server.model.report_limits import BoardKey

logger = logging.getLogger(__name__)


class SickBoards:
    """Keeps boards that fail from the jobs, and tries them again by and by.

    Methods that do not say otherwise are called with the controller's lock held.
    """

    def __init__(
        self,
        state: State,
        log: ChangeLog,
        frames: FrameControllers,
        availability: Availability,
    ) -> None:
        """Look after the boards of machines.

        :param state: its `health` is only changed in here
        :param log: what happens goes through it
        :param frames: where boards are tried again
        :param availability: is told of what jobs may have from now on
        """
        self._availability = availability
        self._state = state
        self._log = log
        self._frames = frames
        # Boards that have passed their test, and when they have rested from it.
        self._recovering: dict[BoardKey, float] = {}

    def schedule_tests(self) -> None:
        """Set when boards are tried again, after a restart."""
        self._state.health.schedule_tests(time.monotonic())

    def mend(self) -> None:
        """Put in order what an error in the midst of a change has left.

        Every board that is out of service is then either tried again or waits for its
        BMP, and jobs may have all others.
        """
        now = time.monotonic()
        for key in self._state.health.boards(None):
            if key not in self._recovering:
                self._state.health.schedule_missing_test(*key, now)
        with self._state.job_queue:
            for name in self._state.machines:
                self._availability.update(name)

    def machine_removed(self, machine_name: str, comes_back: bool) -> None:
        """Forget what is under way with the boards of a machine.

        :param comes_back: is there another machine of that name from now on? Its
            boards are out of service for the same reasons, and are tried again.
        """
        for key in [key for key in self._recovering if key[0] == machine_name]:
            del self._recovering[key]
        if comes_back:
            self._state.health.schedule_tests(time.monotonic(), machine_name)
        else:
            self._state.health.forget_machine(machine_name)

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
        for board in map(as_board, boards):
            self._recovering.pop((machine_name, board), None)
            self._state.health.take_out(
                machine_name,
                board,
                reason,
                time.monotonic(),
                self._log.wall_time(),
                waits_for_bmp,
            )
        self._availability.update(machine_name)

    def put_back(self, change: BoardIn | ClearProblem) -> None:
        """Forget all problems of a board, and put it back into service.

        :raises RefusedError: if an operator names a board that does not exist
        """
        name = change.machine_name
        if isinstance(change, ClearProblem):
            board = change.x, change.y, change.z
            machine = self._state.machines.get(name)
            if machine is None or board not in machine.board_locations:
                raise RefusedError(f"machine {name!r} has no board {board}")
        else:
            board = as_board(change.board)
        self._recovering.pop((name, board), None)
        if self._state.health.put_back(name, board):
            if not self._log.is_dormant:
                logger.info("Board %s of %s is back in service", board, name)
            self._availability.update(name)

    def clear(self, change: ClearBoards) -> int:
        """Put boards back into service, and forget what was reported of them.

        :return: of how many something was known
        :raises RefusedError: if there is no such machine
        """
        name, health = change.machine_name, self._state.health
        if name not in self._state.machines:
            raise RefusedError(f"there is no machine {name!r}")
        known = {board for _, board in health.boards(name)}
        cleared = [board for board in map(as_board, change.boards) if board in known]
        for board in cleared:
            self._recovering.pop((name, board), None)
            health.put_back(name, board)
        if cleared:
            self._availability.update(name)
            if not self._log.is_dormant:
                logger.warning(
                    "Operator %s clears %d boards of machine %s",
                    change.user,
                    len(cleared),
                    name,
                )
        return len(cleared)

    # Silent BMPs

    def bmp_heard(
        self, machine_name: str, frame: Frame, frames: Frames, problem: str | None
    ) -> None:
        """Take or keep the boards of a frame out of service until its BMP answers.

        Called by the frame's thread, without the lock.

        :param frames: those that the machine had at that time
        :param problem: what is wrong; None if it answers
        :raises EventFailedError: after an internal error; it has to be told again
        """
        with self._log.in_order("answer of a BMP"):
            if self._frames.of_machine(machine_name) is not frames:
                return
            if problem is not None:
                logger.error(
                    "Boards of machine %s, cabinet %d, frame %d are out of service "
                    "until their BMP answers: %s",
                    machine_name,
                    *frame,
                    problem,
                )
                self._log.happen(BMPOut(machine_name, frame, problem))
            else:
                waiting = set(self._state.health.waiting_for_bmp(machine_name))
                if waiting.isdisjoint(self._boards_of_frame(machine_name, frame)):
                    return
                logger.warning(
                    "The BMP of machine %s, cabinet %d, frame %d answers again",
                    machine_name,
                    *frame,
                )
                self._log.happen(BMPIn(machine_name, frame))
        self._log.wake()

    def take_frame_out(self, change: BMPOut) -> None:
        """Take all boards of a frame out of service: its BMP does not answer."""
        boards = self._boards_of_frame(change.machine_name, change.frame)
        self.take_out(change.machine_name, boards, change.reason, waits_for_bmp=True)

    def put_frame_back(self, change: BMPIn) -> None:
        """Put boards back that only waited for their BMP, which answers now."""
        name, health = change.machine_name, self._state.health
        boards = set(self._boards_of_frame(name, change.frame))
        waiting = boards.intersection(health.waiting_for_bmp(name))
        for board in waiting:
            health.bmp_answers(name, board)
        if waiting:
            self._availability.update(name)

    def _boards_of_frame(
        self, machine_name: str, frame: Sequence[int]
    ) -> Iterator[Board]:
        machine = self._state.machines.get(machine_name)
        if machine is not None:
            for board, (cabinet, number, _) in machine.board_locations.items():
                if [cabinet, number] == list(frame):
                    yield board

    # Tests

    def put_rested_back(self) -> None:
        """Put boards back into service that have passed their test and rested."""
        now = time.monotonic()
        rested = [key for key, at in self._recovering.items() if at <= now]
        for machine_name, board in rested:
            with contextlib.suppress(EventFailedError):
                self._log.happen(BoardIn(machine_name, board))

    def test_boards(self) -> None:
        """Try boards again that are out of service, where it is time for that."""
        held: dict[str, set[Board]] = {}
        for name, board in self._state.health.due_tests(time.monotonic()):
            frames = self._frames.of_machine(name)
            if frames is None:
                continue
            if name not in held:
                holdings = self._state.job_queue.holdings(name)
                held[name] = {board for board, _ in holdings}
            machine = self._state.machines[name]
            location = machine.board_locations.get(board)
            if location is None or board in machine.dead_boards:
                continue
            if board in held[name] or (name, board) in self._state.withheld.drained:
                # Somebody may have their hands in it.
                continue
            with (
                contextlib.suppress(EventFailedError),
                self._log.in_order("test of a board"),
            ):
                self._begin_test(frames, name, board, location)

    def _begin_test(
        self, frames: Frames, name: str, board: Board, location: Physical
    ) -> None:
        cabinet, frame, number = location
        requests = AtomicRequests(partial(self._board_tested, frames, name, board))
        requests.power(number, True)
        requests.power(number, False)
        self._state.health.test_started(name, board)
        self._frames.add_requests(name, (cabinet, frame), requests)

    def _board_tested(
        self,
        frames: Frames,
        machine_name: str,
        board: Board,
        success: bool,
        reason: object = None,
    ) -> None:
        """Take the result of a board's test. Called by its frame's thread.

        :param frames: those that the machine had when the test began
        :param reason: why it failed
        """
        with (
            contextlib.suppress(EventFailedError),
            self._log.in_order("result of a test"),
        ):
            if self._frames.of_machine(machine_name) is not frames:
                # It was of another machine's board: this one's is tested anew.
                return
            if not success:
                logger.info("Board %s of %s: %s", board, machine_name, reason)
                self._log.happen(BoardStillOut(machine_name, board))
            elif self._state.health.is_out(machine_name, board):
                # It has just been powered off, like a job's.
                rested = time.monotonic() + self._state.job_queue.seconds_before_free
                self._recovering[machine_name, board] = rested
        self._log.wake()

    def leave_out(self, change: BoardStillOut) -> None:
        """Put off the next test of a board, which has failed this one."""
        board = as_board(change.board)
        self._state.health.test_failed(change.machine_name, board, time.monotonic())
