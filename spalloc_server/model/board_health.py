"""Which boards are out of service and why, and what users have reported of boards.

Boards that are dead by configuration are no concern of this module.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from spalloc_server.coordinates import Board
from spalloc_server.model.report_limits import (
    BOARDS_OUT_BY_OWNER,
    PART_OUT,
    REPORTS_KEPT,
    BoardKey,
    Report,
    ReportLimits,
)
from spalloc_server.plain.shapes import (
    BOOL,
    INT,
    NUMBER,
    OPTIONAL_INT,
    OPTIONAL_STR,
    STR,
    dict_of,
    fields,
    ints,
    list_of,
    optional,
    tuple_of,
)

REPORTS_UNTIL_OUT = 2
"""Reports by so many different jobs take a board out of service."""

_REPORTED = "reported by"


@dataclass
class OutOfService:
    """Why a board is not given out, and when it is tried again."""

    reason: str
    since: float
    """Seconds since 1970 (UTC)."""
    waits_for_bmp: bool = False
    """Does it only wait for its BMP to answer? It is not tried by itself then."""
    tests: int = 0
    """How often it has been tried again in vain."""
    test_at: float | None = None
    """When it is tried again, by the monotonic clock; None while that is going on."""


@dataclass
class _Problems:
    out: OutOfService | None = None
    reports: list[Report] = field(default_factory=list)


_REPORT = tuple_of(
    *(OPTIONAL_INT, OPTIONAL_STR, NUMBER),
    *(OPTIONAL_INT, OPTIONAL_INT, OPTIONAL_INT, OPTIONAL_STR),
)
_OUT = fields(
    "board out of service",
    {"reason": STR, "since": NUMBER, "waits_for_bmp": BOOL, "tests": INT},
)
_STATE = fields(
    "board health",
    {
        "first_interval": NUMBER,
        "longest_interval": NUMBER,
        "boards": dict_of(
            tuple_of(STR, ints(3)),
            fields("sick board", {"out": optional(_OUT), "reports": list_of(_REPORT)}),
        ),
    },
)


class BoardHealth:
    """The problems of boards. Knows no clock and no hardware; not thread safe.

    Boards are tried again first after `first_interval` seconds, then after twice as
    long each time, up to `longest_interval`.
    """

    def __init__(self) -> None:
        self.first_interval = 600.0
        self.longest_interval = 86_400.0
        self._problems: dict[BoardKey, _Problems] = {}
        self._limits = ReportLimits()

    def __getstate__(self) -> dict[str, Any]:
        """Plain data: all but when boards are tried again, since clocks end with the
        process.
        """
        return {
            "first_interval": self.first_interval,
            "longest_interval": self.longest_interval,
            "boards": {
                key: {
                    "out": None
                    if problems.out is None
                    else {
                        "reason": problems.out.reason,
                        "since": problems.out.since,
                        "waits_for_bmp": problems.out.waits_for_bmp,
                        "tests": problems.out.tests,
                    },
                    "reports": [tuple(report) for report in problems.reports],
                }
                for key, problems in self._problems.items()
            },
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again; see `schedule_tests`.

        :raises PlainDataError: if it is no such state
        """
        _STATE(state, "board health")
        self.first_interval = state["first_interval"]
        self.longest_interval = state["longest_interval"]
        self._problems = {
            key: _Problems(
                None if board["out"] is None else OutOfService(**board["out"]),
                [Report(*report) for report in board["reports"]],
            )
            for key, board in state["boards"].items()
        }
        self._limits = ReportLimits()
        for key, problems in self._problems.items():
            self._count_out(key)
            for report in problems.reports:
                self._limits.note_kept(report)

    def schedule_tests(self, now: float, machine: str | None = None) -> None:
        """Set anew when boards are tried again; tests under way count no more.

        :param now: by the monotonic clock
        :param machine: only of this machine
        """
        for (name, _), problems in self._problems.items():
            if problems.out is not None and machine in (None, name):
                self._schedule(problems.out, now)

    def boards_out(self, machine: str) -> frozenset[Board]:
        """The boards of a machine that are out of service."""
        return frozenset(
            board
            for (name, board), problems in self._problems.items()
            if name == machine and problems.out is not None
        )

    def is_out(self, machine: str, board: Board) -> bool:
        """Is a board out of service?"""
        problems = self._problems.get((machine, board))
        return problems is not None and problems.out is not None

    def take_out(
        self,
        machine: str,
        board: Board,
        reason: str,
        now: float,
        wall_time: float,
        waits_for_bmp: bool = False,
    ) -> None:
        """Take a board out of service.

        A board that is out already keeps its reason, except that a failure of its
        own counts for more than a BMP that does not answer.

        :param now: by the monotonic clock
        :param wall_time: seconds since 1970 (UTC)
        """
        problems = self._problems.setdefault((machine, board), _Problems())
        old = problems.out
        if old is None or (old.waits_for_bmp and not waits_for_bmp):
            problems.out = OutOfService(reason, wall_time, waits_for_bmp)
            self._count_out((machine, board))
            self._schedule(problems.out, now)

    def schedule_missing_test(self, machine: str, board: Board, now: float) -> None:
        """Set when a board is tried again if that is not set, and it is to be.

        :param now: by the monotonic clock
        """
        problems = self._problems.get((machine, board))
        out = None if problems is None else problems.out
        if out is not None and out.test_at is None:
            self._schedule(out, now)

    def _schedule(self, out: OutOfService, now: float) -> None:
        if not out.waits_for_bmp:
            interval = self.first_interval * 2.0 ** min(out.tests, 60)
            out.test_at = now + min(interval, self.longest_interval)

    def put_back(self, machine: str, board: Board) -> bool:
        """Forget all problems of a board.

        :return: whether it was out of service
        """
        problems = self._forget((machine, board))
        return problems is not None and problems.out is not None

    def bmp_answers(self, machine: str, board: Board) -> None:
        """Put a board back that only waited for its BMP; reports of it are kept."""
        problems = self._problems[machine, board]
        problems.out = None
        if not problems.reports:
            del self._problems[machine, board]

    def waiting_for_bmp(self, machine: str) -> Iterator[Board]:
        """The boards of a machine that only wait for their BMP to answer."""
        for (name, board), problems in self._problems.items():
            if name == machine and problems.out and problems.out.waits_for_bmp:
                yield board

    def due_tests(self, now: float) -> list[BoardKey]:
        """The boards to be tried again now."""
        return [
            key
            for key, problems in self._problems.items()
            if problems.out is not None
            and problems.out.test_at is not None
            and problems.out.test_at <= now
        ]

    def test_started(self, machine: str, board: Board) -> None:
        """Note that a board is being tried."""
        out = self._problems[machine, board].out
        if out is not None:
            out.test_at = None

    def test_failed(self, machine: str, board: Board, now: float) -> None:
        """Note that a board has been tried in vain; nothing if it is back anyway."""
        problems = self._problems.get((machine, board))
        if problems is not None and problems.out is not None:
            problems.out.tests += 1
            self._schedule(problems.out, now)

    def why_refused(
        self, machine: str, board: Board, job_id: int | None, owner: str | None
    ) -> str | None:
        """Say why nothing more can be reported of a board, None if it can.

        :param job_id: the job that has the board
        :param owner: the owner of that job
        """
        _, reports = self.problems_of((machine, board))
        return self._limits.why_refused(job_id, owner, reports)

    def report(
        self, machine: str, board: Board, report: Report, boards: int
    ) -> tuple[str | None, str | None]:
        """Store what a user has reported.

        :param boards: how many the machine has
        :return: why the board should be taken out of service, None if it need not; and
            why it stays although enough jobs have reported it, None if it does not
        """
        problems = self._problems.setdefault((machine, board), _Problems())
        problems.reports.append(report)
        self._limits.note_kept(report)
        same_job = [r for r in problems.reports if r.job_id == report.job_id]
        if len(same_job) > REPORTS_KEPT:
            problems.reports.remove(same_job[0])
            self._limits.note_kept(same_job[0], -1)
        jobs = self.jobs_that_reported(machine, board)
        if problems.out is not None or jobs < REPORTS_UNTIL_OUT:
            return None, None
        if len(self._limits.jobs_that_count(problems.reports)) < REPORTS_UNTIL_OUT:
            return None, f"their owners have {BOARDS_OUT_BY_OWNER} boards out already"
        if self._limits.is_machine_at_limit(machine, boards):
            return None, f"one board in {PART_OUT} of the machine is out already"
        said = "; ".join(r.description for r in problems.reports if r.description)
        return f"{_REPORTED} {jobs} jobs: {said or 'no description'}", None

    def jobs_that_reported(self, machine: str, board: Board) -> int:
        """By how many jobs there are reports of a board."""
        _, reports = self.problems_of((machine, board))
        return len({r.job_id for r in reports if r.job_id is not None})

    def _count_out(self, key: BoardKey) -> None:
        """Count a board that is out of service because of what users have reported."""
        problems = self._problems[key]
        out = problems.out
        if out is not None and out.reason.startswith(_REPORTED):
            self._limits.note_out(
                key, [report for report in problems.reports if report.time <= out.since]
            )

    def _forget(self, key: BoardKey) -> _Problems | None:
        """Forget all problems of a board, and give them."""
        problems = self._problems.pop(key, None)
        if problems is not None:
            self._limits.note_in(key)
            for report in problems.reports:
                self._limits.note_kept(report, -1)
        return problems

    def forget_machine(self, machine: str) -> None:
        """Forget the problems of a machine that is no longer there."""
        for key in [key for key in self._problems if key[0] == machine]:
            self._forget(key)

    def boards(self, machine: str | None) -> list[BoardKey]:
        """The boards of a machine, or of all (None), with problems, in order."""
        return sorted(key for key in self._problems if machine in (None, key[0]))

    def problems_of(self, key: BoardKey) -> tuple[OutOfService | None, list[Report]]:
        """The problems of a board, which may have none."""
        found = self._problems.get(key)
        return (None, []) if found is None else (found.out, found.reports)
