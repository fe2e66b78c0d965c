"""How much of what users report of boards is kept, and how far it is believed.

Anybody can report a board, and call themselves what they like. So reports take boards
out of service only up to a point, from which on an operator has to look.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, NamedTuple, TypeVar

from spalloc_server.coordinates import Board

#: A board of a machine.
BoardKey = tuple[str, Board]


class Report(NamedTuple):
    """What a user has reported of a board."""

    job_id: int | None
    """The job that had the board, None if none had."""
    owner: str | None
    """The owner of that job."""
    time: float
    """Seconds since 1970 (UTC)."""
    x: int | None
    """Chip on the board, as the user said."""
    y: int | None
    """Chip on the board, as the user said."""
    p: int | None
    """Core of the chip, as the user said."""
    description: str | None


REPORTS_KEPT: Final = 10
"""How many reports of a board by one job are kept."""

REPORTS_OF_OWNER: Final = 20
"""How many reports of a board by the jobs of one owner are kept."""

REPORTS_OF_BOARD: Final = 50
"""How many reports of a board are kept."""

OWNER_BYTES: Final = 1024 * 1024
"""How much memory the reports of one owner may take."""

ALL_BYTES: Final = 16 * 1024 * 1024
"""How much memory all reports may take."""

BOARDS_OUT_BY_OWNER: Final = 5
"""How many boards may be out of service because an owner, among others, said so."""

PART_OUT: Final = 10
"""The part of a machine that may be out because of reports: one board in so many."""

_Key = TypeVar("_Key")

_REPORT_BYTES: Final = 500
"""What a report takes beside its description."""


class ReportLimits:
    """Counts reports that are kept, and boards that are out of service for them."""

    def __init__(self) -> None:
        self._bytes: Counter[str | None] = Counter()
        self._all_bytes = 0
        # Boards that are out, with the owners of the jobs that have reported them.
        self._out: dict[BoardKey, set[str | None]] = {}
        self._out_by_owner: Counter[str | None] = Counter()
        self._out_of_machine: Counter[str] = Counter()

    def note_kept(self, report: Report, sign: int = 1) -> None:
        """Count a report that is kept, or with -1 one that no longer is."""
        size = sign * (_REPORT_BYTES + len((report.description or "").encode()))
        self._all_bytes += size
        _add(self._bytes, report.owner, size)

    def note_out(self, key: BoardKey, reports: Iterable[Report]) -> None:
        """Count a board that is out of service for its reports."""
        self._out[key] = {r.owner for r in reports if r.job_id is not None}
        self._count(key, 1)

    def note_in(self, key: BoardKey) -> None:
        """Count a board no more that was out for its reports, if it was."""
        if key in self._out:
            self._count(key, -1)
            del self._out[key]

    def _count(self, key: BoardKey, by: int) -> None:
        _add(self._out_of_machine, key[0], by)
        for owner in self._out[key]:
            _add(self._out_by_owner, owner, by)

    def why_refused(
        self, job_id: int | None, owner: str | None, kept: Collection[Report]
    ) -> str | None:
        """Say why no more can be reported of a board, None if it can.

        :param job_id: the job that has the board
        :param owner: the owner of that job
        :param kept: what is kept of reports of the board
        """
        by_job = sum(report.job_id == job_id for report in kept)
        by_owner = sum(report.owner == owner for report in kept)
        job = "no job" if job_id is None else f"job {job_id}"
        jobs = "no job" if owner is None else f"jobs of {owner}"
        for number, most, by in (
            (by_job, REPORTS_KEPT, f" by {job}"),
            (by_owner, REPORTS_OF_OWNER, f" by {jobs}"),
            (len(kept), REPORTS_OF_BOARD, ""),
        ):
            if number >= most:
                return f"it has been reported {number} times{by}"
        for size, most, which in (
            (self._bytes[owner], OWNER_BYTES, f"reports by {jobs}"),
            (self._all_bytes, ALL_BYTES, "all reports"),
        ):
            if size >= most:
                return f"{which} take more than {most} bytes"
        return None

    def jobs_that_count(self, reports: Iterable[Report]) -> set[int]:
        """The jobs whose reports of a board are believed."""
        return {
            report.job_id
            for report in reports
            if report.job_id is not None
            and self._out_by_owner[report.owner] < BOARDS_OUT_BY_OWNER
        }

    def is_machine_at_limit(self, machine: str, boards: int) -> bool:
        """Are as many boards of a machine out for reports as may be?

        :param boards: how many it has
        """
        return self._out_of_machine[machine] >= -(-boards // PART_OUT)


def _add(counts: Counter[_Key], key: _Key, by: int) -> None:
    """Add to one of many counts; those that are 0 are not kept."""
    counts[key] += by
    if not counts[key]:
        del counts[key]
