"""Who has used how many boards for how long, as told by job logs."""

from __future__ import annotations

import gzip
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import IO, Any, Final, NamedTuple

KEYS: Final = ("owner", "machine", "day")
"""By what use can be grouped. Days are those of the local time zone."""


class Use(NamedTuple):
    """A job that has, or waits for, boards, for some time."""

    job: tuple[int, float]
    """ID and time of creation: IDs begin again after a cold start."""
    owner: str
    machine: str
    """Where the boards are, "" for a job that never had any."""
    boards: int
    start: float
    """Seconds since 1970 (UTC), as the end is."""
    end: float


class Row(NamedTuple):
    """A line of a report."""

    group: tuple[str, ...]
    jobs: int
    board_hours: float


class LogEntries:
    """The entries of job logs; counts the lines that make no sense."""

    def __init__(self) -> None:
        self.bad_lines = 0

    def read(self, filenames: Iterable[str]) -> list[dict[str, Any]]:
        """Read files, also ``.gz``, in any order. Raises :py:exc:`OSError`."""
        entries: list[dict[str, Any]] = []
        for filename in filenames:
            with _open(filename) as file:
                entries += self._parse(file)
        entries.sort(key=lambda entry: entry["time"])
        return entries

    def _parse(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        for line in lines:
            try:
                entry = json.loads(line)
                entry["job"], entry["event"], float(entry["time"]), entry["created"]
            except (ValueError, KeyError, TypeError):
                self.bad_lines += bool(line.strip())
            else:
                yield entry


def _open(filename: str) -> IO[str]:
    if filename.endswith(".gz"):
        return gzip.open(filename, "rt", encoding="utf-8")
    return open(filename, encoding="utf-8", errors="replace")


def uses(entries: Iterable[dict[str, Any]]) -> Iterator[Use]:
    """Find out from log entries, in order of time, which jobs had boards and when.

    What has not ended counts up to the last entry.
    """
    having: dict[tuple[int, float], dict[str, Any]] = {}
    waiting: dict[tuple[int, float], dict[str, Any]] = {}
    now = 0.0
    for entry in entries:
        now = entry["time"]
        job = entry["job"], entry["created"]
        kind = entry["event"]
        if kind == "created":
            waiting[job] = entry
        elif kind == "allocated":
            waiting.pop(job, None)
            having[job] = entry
        elif kind in ("requeued", "destroyed"):
            if job in having:
                yield _use(job, having.pop(job), now)
            elif kind == "destroyed" and job in waiting:
                yield _use(job, waiting.pop(job), now)
    for job, entry in [*having.items(), *waiting.items()]:
        yield _use(job, entry, now)


def _use(job: tuple[int, float], entry: dict[str, Any], end: float) -> Use:
    return Use(
        job,
        entry["owner"],
        entry["machine"] or "",
        len(entry["boards"] or ()),
        entry["time"],
        end,
    )


def report(found: Iterable[Use], keys: Sequence[str]) -> list[Row]:
    """Sum use up by owner, machine, day, or several of them."""
    jobs: defaultdict[tuple[str, ...], set[tuple[int, float]]] = defaultdict(set)
    seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for use in found:
        for day, length in _days(use) if "day" in keys else [("", use.end - use.start)]:
            names = {"owner": use.owner, "machine": use.machine, "day": day}
            group = tuple(names[key] for key in keys)
            jobs[group].add(use.job)
            seconds[group] += use.boards * length
    return [
        Row(group, len(jobs[group]), seconds[group] / 3600.0) for group in sorted(jobs)
    ]


def _days(use: Use) -> Iterator[tuple[str, float]]:
    """The days that a use reaches into, and how many seconds of each."""
    start = use.start
    while True:
        day = datetime.fromtimestamp(start).date()
        midnight = datetime.combine(day + timedelta(days=1), datetime.min.time())
        end = min(use.end, midnight.timestamp())
        # A job that waited is told of on the day it came.
        if use.boards or start == use.start:
            yield day.isoformat(), end - start
        if end >= use.end or end <= start:
            return
        start = end


def within(found: Iterable[Use], since: float, until: float) -> Iterator[Use]:
    """The part of use that lies between two times."""
    for use in found:
        if use.start < until and use.end >= since:
            yield use._replace(start=max(use.start, since), end=min(use.end, until))
