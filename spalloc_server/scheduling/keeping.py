"""When a part of a machine is kept for the head of its line, and which."""

from __future__ import annotations

from spalloc_server.placement.region import Region
from spalloc_server.scheduling.machine import _Job, _Machine
from spalloc_server.scheduling.parts import best_part

#: A part is kept as soon as it is expected to be free within so many seconds, and as
#: many more as the head of the line has been overtaken for.
SOON = 3600.0

#: Parts are looked for at most once in so many seconds.
LOOK_INTERVAL = 60.0


def part_for(
    machine: _Machine, job: _Job, now: float, patience: float
) -> tuple[Region, frozenset[int]] | None:
    """The part that is expected to be free first, if it is time to keep it.

    :return: the part, and the allocations that lie in it
    """
    allocator = machine.allocator

    def ages(allocations: list[int]) -> list[float]:
        return [
            now - machine.holders[allocation_id].started_at
            for allocation_id in allocations
            if allocation_id in machine.holders
        ]

    parts = allocator.parts_for(*job.args, **job.kwargs)
    best = best_part(((region, inside), ages(inside)) for region, inside in parts)
    if best is None:
        return None
    (region, inside), expected = best
    assert machine.head is not None
    overtaken = now - machine.head[1]
    if is_late(machine, now, patience) or expected <= SOON + overtaken:
        return region, frozenset(inside)
    return None


def check_kept(machine: _Machine) -> None:
    """After boards have failed or come back: will the kept part still do?"""
    if machine.kept is None:
        return
    job = machine.waiting(machine.kept.job_id)
    region = machine.allocator.kept
    if (
        job is None
        or region is None
        or not machine.allocator.would_do(region, *job.args, **job.kwargs)
    ):
        machine.let_go()
        machine.keep_at_once = job is not None


def is_due(machine: _Machine, now: float, patience: float) -> bool:
    """Would a part be kept now, only because time has passed?"""
    if now < machine.none_before or not is_time_to_look(machine, now, patience):
        return False
    assert machine.head is not None
    head = machine.jobs[machine.head[0]]
    if part_for(machine, head, now, patience) is not None:
        return True
    machine.none_before = now + LOOK_INTERVAL
    return False


def is_time_to_look(machine: _Machine, now: float, patience: float) -> bool:
    """Is a part to be looked for that could be kept for the head?"""
    if machine.kept is not None or machine.head is None:
        return False
    return now - machine.looked >= LOOK_INTERVAL or is_late(machine, now, patience)


def is_late(machine: _Machine, now: float, patience: float) -> bool:
    """Is a part to be kept for the head now, whenever it may be free?"""
    if machine.head is None:
        return False
    return machine.keep_at_once or now - machine.head[1] >= patience
