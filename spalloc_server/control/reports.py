"""What users report of boards, what comes of it, and what is told of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from spalloc_server.control.change_log import ChangeLog
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board
from spalloc_server.model.board_index import describe_boards
from spalloc_server.model.changes import RefusedError, ReportProblem
from spalloc_server.model.report_limits import BoardKey, Report

logger = logging.getLogger(__name__)

TELL_SECONDS: Final = 60.0
"""How often operators are told that reports are no longer believed."""


class Reports:
    """Takes what users report of boards. With the controller's lock held."""

    def __init__(self, state: State, log: ChangeLog, sick_boards: SickBoards) -> None:
        """Take reports.

        :param state: has the boards
        :param log: knows what time it is
        :param sick_boards: takes boards out of service
        """
        self._state = state
        self._log = log
        self._sick_boards = sick_boards
        # Why reports are not believed, and when that may be said again, by the
        # monotonic clock.
        self._tell_at: dict[str, float] = {}

    def check_report(self, ip_address: str) -> None:
        """Find out if one more report of a board is kept.

        :raises RefusedError: if there are too many
        """
        found = self._state.boards.board_of_ip(ip_address)
        if found is not None:
            job = self._state.boards.job_at(*found)
            by = (None, None) if job is None else (job.id, job.owner)
            reason = self._state.health.why_refused(*found, *by)
            if reason is not None:
                raise RefusedError(
                    f"no more reports of {ip_address!r} are kept: {reason}"
                )

    def report(self, change: ReportProblem) -> dict[str, Any]:
        """Store what a user says of a board; enough reports take it out of service.

        :return: what came of it, see `Controller.report_problem`
        :raises RefusedError: if no board has this address, or there are too many
            reports
        """
        found = self._state.boards.board_of_ip(change.ip_address)
        if found is None:
            raise RefusedError(f"ip_address {change.ip_address!r} belongs to no board")
        # Others may have come before it since it was checked.
        self.check_report(change.ip_address)
        machine_name, board = found
        job = self._state.boards.job_at(machine_name, board)
        report = Report(
            None if job is None else job.id,
            None if job is None else job.owner,
            self._log.wall_time(),
            change.x,
            change.y,
            change.p,
            change.description,
        )
        machine = self._state.machines[machine_name]
        health = self._state.health
        was_out = health.is_out(machine_name, board)
        reason, stays = health.report(
            machine_name, board, report, len(machine.board_locations)
        )
        if not self._log.is_dormant:
            logger.warning(
                "Problem with %s reported by %s: %s",
                describe_boards(machine, [board]),
                "nobody" if job is None else f"job {job.id} of {job.owner}",
                change.description,
            )
            if stays is not None:
                self._tell_operators(machine_name, board, stays)
        if reason is not None:
            self._sick_boards.take_out(machine_name, [board], reason)
        jobs = health.jobs_that_reported(machine_name, board)
        if was_out:
            text = "it is out of service already"
        elif reason is not None:
            text = "it is out of service from now"
        elif stays is not None:
            text = f"it stays in service: {stays}"
        else:
            text = "kept; a board goes out of service when two jobs report it"
        return {
            "machine": machine_name,
            "board": board,
            "physical": machine.board_locations[board],
            "jobs": jobs,
            "out_of_service": health.is_out(machine_name, board),
            "text": text,
        }

    def _tell_operators(self, machine_name: str, board: Board, stays: str) -> None:
        """Log, now and then, that reports are no longer believed."""
        now = time.monotonic()
        if now < self._tell_at.get(stays, now):
            return
        self._tell_at[stays] = now + TELL_SECONDS
        logger.error(
            "Board %s of %s, and perhaps more, stays in service though enough jobs "
            "have reported it: %s because of reports. list_problems shows which ones; "
            "clear_problem makes room for others",
            board,
            machine_name,
            stays,
            # Whoever makes the reports cannot have it left out as one line too many.
            extra={"for_operators": True},
        )

    def problems(self, keys: Iterable[BoardKey]) -> Iterator[dict[str, Any]]:
        """Describe what is wrong with boards, see `Controller.list_problems`."""
        now = time.monotonic()
        for name, board in keys:
            out, reports = self._state.health.problems_of((name, board))
            if out is None and not reports:
                continue
            machine = self._state.machines.get(name)
            if machine is None or board not in machine.board_locations:
                continue
            test_at = None if out is None else out.test_at
            yield {
                "machine": name,
                "board": board,
                "physical": machine.board_locations[board],
                "ip_address": machine.spinnaker_ips.get(board),
                "out_of_service": out is not None,
                "waits_for_bmp": out is not None and out.waits_for_bmp,
                "reason": None if out is None else out.reason,
                "since": None if out is None else out.since,
                "next_test": None if test_at is None else max(0, test_at - now),
                "reports": [report._asdict() for report in reports],
            }
