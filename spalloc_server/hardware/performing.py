"""Do the steps of a frame's schedule, one command to the BMP after the other."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from typing import Final

from spalloc_server.hardware import directory
from spalloc_server.hardware.requests import Failure
from spalloc_server.hardware.schedule import TASK_TRIES, Stage, Step, Task
from spalloc_server.hardware.transceiver import BMPError, BMPTransceiver, boards_text
from spalloc_server.links import Links

logger = logging.getLogger(__name__)

FIRST_VERSION_WITH_FPGAS: Final = (2, 0, 0)
"""BMPs older than this give no access to the registers of the FPGAs."""

_SMALL_COMMANDS_SECONDS: Final = 0.02
"""How long the checks or links of one request go on before others have a turn."""


class Performer:
    """Powers, checks and cuts off boards of one frame. For the frame's thread."""

    def __init__(
        self,
        hostname: str,
        transceiver: BMPTransceiver,
        retry_seconds: Callable[[], float],
        gives_up: Callable[[], bool],
        is_watched: Callable[[], bool],
        on_silence: Callable[[str], object],
    ) -> None:
        """Do nothing yet.

        :param hostname: of the BMP
        :param retry_seconds: how long to wait before a failed task is tried again
        :param gives_up: is there no more time, so that nothing has failed?
        :param is_watched: will the schedule be told when a silent BMP answers again?
        :param on_silence: told what is wrong when a BMP does not answer any more
        """
        self._hostname = hostname
        self._transceiver = transceiver
        self._retry_seconds = retry_seconds
        self._gives_up = gives_up
        self._is_watched = is_watched
        self._on_silence = on_silence
        # Boards whose BMP was found to be new enough. A BMP that was not may since have
        # been updated, so it is asked again.
        self._boards_with_fpgas: set[int] = set()

    def perform(self, step: Step) -> None:
        """Do a step of a schedule, and note at its tasks what has come of it.

        :raises Exception: if there is an error in here
        """
        if step.stage is Stage.POWER_ON or step.stage is Stage.POWER_OFF:
            self._power(step.tasks, step.stage is Stage.POWER_ON)
            return
        # The small commands of a task follow each other for a while, because looking at
        # the schedule each time costs much when all frames of a machine are busy.
        until = time.monotonic() + _SMALL_COMMANDS_SECONDS
        task = step.tasks[0]
        failures = task.failures
        command = self._check if step.stage is Stage.CHECK else self._change_link
        command(task)
        while (
            task.stage is step.stage
            and task.failures == failures
            and task.result is None
            and time.monotonic() < until
        ):
            command(task)

    def _power(self, tasks: list[Task], on: bool) -> None:
        """Send the power command of one task or several merged ones."""
        boards = frozenset[int]().union(*(task.to_power() for task in tasks))
        # Whether the BMP answers at all is found out in much less time than with a
        # power-on.
        silence = self._silence()
        try:
            if silence is not None:
                raise silence
            self._transceiver.set_power(on, boards)
        except BMPError as error:
            if len(tasks) > 1 and silence is None:
                logger.warning("%s; trying each request separately", error)
                for task in tasks:
                    task.alone = True
                return
            last_try = [task for task in tasks if task.failures >= TASK_TRIES - 1]
            waits = silence is not None and not on and self._is_watched()
            for task in tasks:
                blamed = BMPError(
                    self._hostname,
                    f"power {'on' if on else 'off'} of {boards_text(task.to_power())}",
                    error.problem,
                    task.to_power(),
                )
                if waits and task in last_try:
                    logger.warning("%s; put off until the BMP answers", blamed)
                    task.put_off()
                else:
                    silent = silence is not None
                    self.fail(task, str(blamed), blamed.boards, silent)
            if silence is not None and last_try:
                self._on_silence(str(silence))
            return
        logger.info(
            "BMP %s: powered %s %s",
            self._hostname,
            "on" if on else "off",
            boards_text(boards),
        )
        settled = time.monotonic() + directory.lookup(self._hostname).settle_seconds
        for task in tasks:
            if on:
                task.powered_on(settled)
            else:
                task.powered_off()

    def _check(self, task: Task) -> None:
        """Check that the FPGAs of one board were loaded well."""
        board = task.to_check[0]
        try:
            wrong = (
                self._transceiver.wrong_fpgas(board) if self._has_fpgas(board) else {}
            )
        except BMPError as error:
            self.fail(task, str(error), [board])
            return
        problem = None
        if wrong:
            fpgas = ", ".join(f"FPGA {n} says {given}" for n, given in wrong.items())
            problem = (
                f"BMP {self._hostname}: wrong FPGA identity on board {board}: {fpgas}"
            )
            logger.warning("%s", problem)
        now = time.monotonic()
        task.checked(problem, now, now + self._retry_seconds())

    def _change_link(self, task: Task) -> None:
        """Change the next link of a task."""
        request = task.next_link
        if request is not None:
            try:
                self.set_link_state(request.link, request.enable, request.board)
            except BMPError as error:
                self.fail(task, str(error), [request.board])
                return
        task.link_done()

    def set_link_state(
        self, link: Links, enable: bool, board: int | Iterable[int]
    ) -> None:
        """Let the traffic of a link pass (True) or stop it, on a board or several.

        Nothing is done on boards whose BMP is too old for that.

        :raises BMPError: if that fails
        """
        for number in [board] if isinstance(board, int) else board:
            if self._has_fpgas(number):
                self._transceiver.set_link(number, link, enable)

    def _has_fpgas(self, board: int) -> bool:
        if board not in self._boards_with_fpgas:
            if self._transceiver.version(board) < FIRST_VERSION_WITH_FPGAS:
                return False
            self._boards_with_fpgas.add(board)
        return True

    def _silence(self) -> BMPError | None:
        """Find out whether the BMP is there; None if it is."""
        try:
            self._transceiver.version()
        except BMPError as error:
            return error
        return None

    def fail(
        self, task: Task, text: str, boards: Iterable[int], silent: bool = False
    ) -> None:
        """Note that a task failed, to be tried again if it was the first time.

        :param silent: see `Failure`
        """
        if self._gives_up():
            # There was no time for it: nobody knows whether it would have failed.
            return
        self._boards_with_fpgas.clear()
        logger.warning("%s (try %d of %d)", text, task.failures + 1, TASK_TRIES)
        task.failed(
            Failure(text, frozenset(boards), silent),
            time.monotonic() + self._retry_seconds(),
        )
