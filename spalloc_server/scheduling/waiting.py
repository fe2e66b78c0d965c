"""What is told of a job that waits: where it stands, why, and for how long perhaps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, NamedTuple

from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.order import Key
from spalloc_server.scheduling.recent import RecentTimes

#: Why a job waits: its owner holds as many boards as an owner may; a part of a machine
#: is kept for it; it is the first in a queue; others are before it; it needs boards
#: that are given to nobody for now.
Reason = Literal["limit", "kept", "first", "turn", "withheld"]


class KeptPart(NamedTuple):
    """A part of a machine that is kept for a job."""

    boards: int
    """How many working boards it has."""
    held: int
    """How many boards of it are held, or cool down."""
    jobs: int
    """How many jobs they belong to, or belonged to."""
    since: float
    """Since when it is kept, in seconds since 1970 (UTC)."""
    area: tuple[int, int, int, int]
    """Where it is: x and y of its first triad, its width and its height in triads."""


class Place(NamedTuple):
    """Where a job stands in the queue of a machine."""

    machine: str
    place: int
    """1 is the first."""
    order: Key
    """Of two jobs, the one with the lower one is before the other; it does not change
    while the job waits."""
    kept: KeptPart | None
    """What is kept for it."""


class Waiting(NamedTuple):
    """What is known of a job that waits."""

    reason: Reason
    places: tuple[Place, ...]
    """In each queue that it stands in, in order of priority of the machines."""
    about: tuple[int, int] | None
    """Between when it may be expected to start, in seconds since 1970 (UTC); None where
    too few jobs like it are known."""
    text: str | None = None
    """Which boards are given to nobody for now and why, where it waits for these."""

    def to_reply(self) -> dict[str, Any]:
        """What clients are told."""
        return {
            "reason": self.reason,
            "text": self.text,
            "queues": [
                {
                    "machine": place.machine,
                    "place": place.place,
                    "kept": None if place.kept is None else place.kept._asdict(),
                }
                for place in self.places
            ],
            "about": self.about,
        }


# Makes a named tuple, in half the time; thousands may be asked for together.
_new = tuple.__new__


def describe(
    job: _Job, is_limited: bool, now: float, waits: RecentTimes, runs: RecentTimes
) -> Waiting:
    """Tell of a job that waits.

    :param is_limited: would its owner hold too many boards with it?
    :param now: in seconds since 1970 (UTC), as all times
    :param waits: how long jobs have waited
    :param runs: how long jobs have had boards
    """
    job_id, machines = job.id, job.queues
    reason: Reason = "turn"
    about = None
    places = []
    held_back = bool(machines)
    for machine in machines:
        line, head, kept = machine.line, machine.head, None
        if head is not None and head[0] == job_id:
            reason = "first"
            kept = _kept_part(machine, job)
        before, order = line.place_of(job_id)
        places.append(_new(Place, (machine.name, before + 1, order, kept)))
        held_back = held_back and line.is_held_back(job_id)
    if held_back:
        reason = "withheld"
    elif is_limited:
        reason = "limit"
    else:
        if reason == "first":
            kept_on = [
                m for m, place in zip(machines, places, strict=True) if place.kept
            ]
            if kept_on:
                reason = "kept"
                about = _free_first(kept_on, now, runs)
        about = about or _usual_start(job, now, waits)
    return _new(Waiting, (reason, tuple(places), about, None))


def _free_first(
    machines: Iterable[_Machine], now: float, runs: RecentTimes
) -> tuple[int, int] | None:
    """Between when the first of the parts is expected to be free that are kept."""
    # The first machine that has room gets the job.
    known = [_free_about(machine, now, runs) for machine in machines]
    about = min((ends for ends in known if ends is not None), default=None)
    return None if about is None else _rounded(*about)


def _usual_start(job: _Job, now: float, waits: RecentTimes) -> tuple[int, int] | None:
    """Between when a job starts if it waits for as long as others like it do."""
    since = job.queued_at
    seconds = waits.range(job.demand.boards, now - since)
    return seconds and _rounded(since + seconds[0], since + seconds[1])


def _rounded(first: float, last: float) -> tuple[int, int]:
    return int(first + 0.5), int(last + 0.5)


def _kept_part(machine: _Machine, job: _Job) -> KeptPart | None:
    kept, region = machine.kept, machine.allocator.kept
    if kept is None or kept.job_id != job.id or region is None:
        return None
    held = machine.allocator.boards_held_by(kept.holders)
    return KeptPart(
        machine.allocator.working_boards(region),
        sum(held),
        len(held),
        kept.since,
        (region.x, region.y, region.width, region.height),
    )


def _free_about(
    machine: _Machine, now: float, runs: RecentTimes
) -> tuple[float, float] | None:
    """Between when a kept part is expected to be free, None if that is not known."""
    assert machine.kept is not None
    earliest = latest = now
    for allocation_id in machine.kept.holders:
        holder = machine.holders.get(allocation_id)
        if holder is None or holder.ending:
            continue
        seconds = runs.range(holder.boards, now - holder.started_at)
        if seconds is None:
            return None
        cooled = holder.started_at + machine.allocator.seconds_before_free
        earliest = max(earliest, cooled + seconds[0])
        latest = max(latest, cooled + seconds[1])
    return earliest, latest
