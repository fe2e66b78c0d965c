"""Who has used how many boards for how long, as told by job logs."""

from __future__ import annotations

import gzip
import json
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import IO, Any, Final, NamedTuple, TypeAlias

from spalloc_server.history.waiting_times import SIZES, size_class

KEYS: Final = ("owner", "machine", "day", "size")
"""By what use can be grouped. Days are those of the local time zone; a size is what a
job asked for, see `waiting_times.SIZES`."""

#: A job: its ID, and when it was created, as IDs begin again after a cold start.
JobKey: TypeAlias = tuple[int, float]


class Use(NamedTuple):
    """A job that has, or waits for, boards, for some time."""

    job: JobKey
    owner: str
    machine: str
    """Where the boards are, "" for a job that never had any."""
    boards: int
    start: float
    """Seconds since 1970 (UTC), as the end is."""
    end: float
    size: str = SIZES[0]


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
        """Read files, also ``.gz``, in any order.

        :raises OSError: if one of them cannot be opened
        :raises ValueError: if one of them is no job log, or is damaged
        """
        entries: list[dict[str, Any]] = []
        for filename in filenames:
            bad_before = self.bad_lines
            with _open(filename) as file:
                try:
                    found = list(self._parse(file))
                except (OSError, EOFError, zlib.error) as e:
                    raise ValueError(f"{filename}: {e}") from e
            if self.bad_lines > bad_before and not found:
                raise ValueError(f"{filename} is no job log")
            entries += found
        entries.sort(key=lambda entry: entry["time"])
        return entries

    def _parse(self, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
        for line in lines:
            try:
                entry = json.loads(line)
                _check(entry)
            except (ValueError, KeyError, TypeError):
                self.bad_lines += bool(line.strip())
            else:
                yield entry


def _check(entry: Any) -> None:
    """Find out if this is an entry of a job log.

    :raises KeyError, TypeError: if not
    """
    entry["job"] + 0, entry["time"] + 0.0, entry["created"] + 0.0
    entry["event"] + entry["owner"] + (entry["machine"] or "")
    [(x, y, z) for x, y, z in entry["boards"] or ()]
    size_class(entry.get("args") or ())


def _open(filename: str) -> IO[str]:
    if filename.endswith(".gz"):
        return gzip.open(filename, "rt", encoding="utf-8", errors="replace")
    return open(filename, encoding="utf-8", errors="replace")


def uses(
    entries: Iterable[dict[str, Any]], incomplete: set[JobKey] | None = None
) -> Iterator[Use]:
    """Find out from log entries, in order of time, which jobs had boards and when.

    What has not ended counts up to the last entry. A server that is killed does not
    write the last events, so a job may be seen to have boards that it was not seen to
    be given: they count from its creation, or from when it last lost others. And
    boards may be seen with another job while they are not known to be free: they count
    up to then.

    :param incomplete: the jobs (see `Use.job`) of which events are missing are added
    """
    missing = set[JobKey]() if incomplete is None else incomplete
    having: dict[JobKey, dict[str, Any]] = {}
    waiting: dict[JobKey, dict[str, Any]] = {}
    holders: dict[tuple[Any, ...], JobKey] = {}
    lost_boards: dict[JobKey, float] = {}
    ended: set[JobKey] = set()
    now = 0.0
    for entry in entries:
        now = entry["time"]
        job = entry["job"], entry["created"]
        kind = entry["event"]
        if kind == "created":
            waiting[job] = entry
            continue
        boards = [(entry["machine"], *board) for board in entry["boards"] or ()]
        if boards and job not in having and job not in ended:
            waiting.pop(job, None)
            having[job] = entry
            if kind != "allocated":
                missing.add(job)
                since = lost_boards.get(job, entry["created"])
                having[job] = {**entry, "time": min(since, now)}
            for other in {holders[board] for board in boards if board in holders}:
                if other != job and other in having:
                    missing.add(other)
                    yield _use(other, having.pop(other), now)
            holders.update(dict.fromkeys(boards, job))
        if kind in ("requeued", "destroyed"):
            if job in having:
                yield _use(job, having.pop(job), now)
            elif kind == "destroyed" and job in waiting:
                yield _use(job, waiting.pop(job), now)
            for board in boards:
                if holders.get(board) == job:
                    del holders[board]
        if kind == "requeued":
            lost_boards[job] = now
        elif kind == "destroyed":
            lost_boards.pop(job, None)
            ended.add(job)
    for job, entry in [*having.items(), *waiting.items()]:
        yield _use(job, entry, now)


def _use(job: JobKey, entry: dict[str, Any], end: float) -> Use:
    return Use(
        job,
        entry["owner"],
        entry["machine"] or "",
        len(entry["boards"] or ()),
        entry["time"],
        end,
        size_class(entry.get("args") or ()),
    )


def report(found: Iterable[Use], keys: Sequence[str]) -> list[Row]:
    """Sum use up by owner, machine, day, size, or several of them."""
    jobs: defaultdict[tuple[str, ...], set[JobKey]] = defaultdict(set)
    seconds: defaultdict[tuple[str, ...], float] = defaultdict(float)
    for use in found:
        for day, length in _days(use) if "day" in keys else [("", use.end - use.start)]:
            names = {**use._asdict(), "day": day}
            group = tuple(names[key] for key in keys)
            jobs[group].add(use.job)
            seconds[group] += use.boards * length
    return [
        Row(group, len(jobs[group]), seconds[group] / 3600.0)
        for group in ordered(jobs, keys)
    ]


def ordered(
    groups: Iterable[tuple[str, ...]], keys: Sequence[str]
) -> list[tuple[str, ...]]:
    """Groups of a report in their order: by name, and sizes by size."""

    def places(group: tuple[str, ...]) -> list[tuple[int, str]]:
        return [
            (SIZES.index(name) if key == "size" else 0, name)
            for key, name in zip(keys, group, strict=True)
        ]

    return sorted(groups, key=places)


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
