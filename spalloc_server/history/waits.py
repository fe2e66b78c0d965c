"""How long jobs waited for boards, as told by job logs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from statistics import median
from typing import Any, Final, NamedTuple

from spalloc_server.history.usage import JobKey, ordered
from spalloc_server.history.waiting_times import size_class

SHARE: Final = 0.95
"""The part of all jobs that waited no longer than a report says."""


class Wait(NamedTuple):
    """A job, and how long it waited for boards."""

    owner: str
    size: str
    """Of the classes of `waiting_times.SIZES`, by what it asked for."""
    machine: str
    """Where it was given boards, "" if it was not."""
    created: float
    """Seconds since 1970 (UTC)."""
    seconds: float | None
    """None for one that never had boards, or waits still."""


class WaitRow(NamedTuple):
    """A line of a report."""

    group: tuple[str, ...]
    jobs: int
    """How many were given boards."""
    median: float | None
    """Of their seconds; None where there are none."""
    most: float | None
    """What `SHARE` of them waited at most, in seconds."""
    without: int
    """How many ended without boards, or wait still."""


def waits(
    entries: Iterable[dict[str, Any]], incomplete: set[JobKey] | None = None
) -> Iterator[Wait]:
    """Find out from log entries, in order of time, how long jobs waited.

    From its creation until it was first given boards: what came after a failure of
    these is left out.

    :param incomplete: the jobs are added that were not seen to be given their boards;
        nothing is told of them
    """
    waiting: dict[JobKey, dict[str, Any]] = {}
    done: set[JobKey] = set()
    for entry in entries:
        job = entry["job"], entry["created"]
        if job in done:
            continue
        if entry["event"] == "allocated":
            yield _wait(entry, max(0.0, entry["time"] - entry["created"]))
        elif entry["boards"]:
            if incomplete is not None:
                incomplete.add(job)
        elif entry["event"] == "destroyed":
            yield _wait(entry, None)
        else:
            waiting[job] = entry
            continue
        done.add(job)
        waiting.pop(job, None)
    for entry in waiting.values():
        yield _wait(entry, None)


def _wait(entry: dict[str, Any], seconds: float | None) -> Wait:
    return Wait(
        entry["owner"],
        size_class(entry.get("args") or ()),
        entry["machine"] or "",
        entry["created"],
        seconds,
    )


def report_waits(found: Iterable[Wait], keys: Sequence[str]) -> list[WaitRow]:
    """Sum waits up by owner, size, machine, day of creation, or several of them."""
    times: defaultdict[tuple[str, ...], list[float]] = defaultdict(list)
    without: defaultdict[tuple[str, ...], int] = defaultdict(int)
    for wait in found:
        names = wait._asdict()
        if "day" in keys:
            names["day"] = datetime.fromtimestamp(wait.created).date().isoformat()
        group = tuple(names[key] for key in keys)
        if wait.seconds is None:
            without[group] += 1
        else:
            times[group].append(wait.seconds)
    return [
        _row(group, sorted(times[group]), without[group])
        for group in ordered(times.keys() | without.keys(), keys)
    ]


def _row(group: tuple[str, ...], times: Sequence[float], without: int) -> WaitRow:
    if not times:
        return WaitRow(group, 0, None, None, without)
    most = times[math.ceil(SHARE * len(times)) - 1]
    return WaitRow(group, len(times), median(times), most, without)


def created_within(found: Iterable[Wait], since: float, until: float) -> Iterator[Wait]:
    """The waits of jobs that came between two times."""
    return (wait for wait in found if since <= wait.created < until)
