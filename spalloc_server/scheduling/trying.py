"""Who of those in the line of a machine is tried, and in which order."""

from __future__ import annotations

from collections.abc import Callable

from spalloc_server.scheduling import keeping
from spalloc_server.scheduling.machine import Kept, _Job, _Machine


def start_one(
    machine: _Machine,
    now: float,
    patience: float | None,
    may_start: Callable[[_Job], bool],
    try_job: Callable[[_Job, _Machine], bool],
) -> bool:
    """Start the first in line that fits, if anybody does.

    :param patience: how many seconds the head may be overtaken before a part is
        kept for it; None for no overtaking
    :param may_start: is it within what its owner may hold?
    :param try_job: starts a job if there is room
    :return: was a job started?
    """
    head = _see_allowed_head(machine, now, may_start)
    if head is None:
        return False
    # What was kept for another head is available now.
    machine.line.unblock(machine.allocator.take_room())
    if not machine.is_blocked(head):
        if not _cannot_fit(machine, head) and try_job(head, machine):
            return True
        machine.note_blocked(head)
    if patience is None:
        return False
    if keeping.is_time_to_look(machine, now, patience):
        part = keeping.part_for(machine, head, now, patience)
        machine.looked = now
        if part is not None:
            region, holders = part
            machine.allocator.keep(region)
            machine.kept = Kept(head.id, now, holders)
    while (job_id := machine.line.next_to_try()) is not None:
        job = machine.jobs[job_id]
        if not may_start(job):
            machine.line.set_aside(job_id, job.owner)
        elif try_job(job, machine):
            return True
        else:
            machine.line.block(job_id)
    return False


def head_to_try(
    machine: _Machine, now: float, may_start: Callable[[_Job], bool]
) -> _Job | None:
    """Who is first in line and not known not to fit; see `start_one`."""
    head = _see_allowed_head(machine, now, may_start)
    if head is None or machine.is_blocked(head):
        return None
    if _cannot_fit(machine, head):
        machine.note_blocked(head)
        return None
    return head


def _see_allowed_head(
    machine: _Machine, now: float, may_start: Callable[[_Job], bool]
) -> _Job | None:
    """Who is first in line of those whose owners may hold more boards."""
    machine.line.unblock(machine.allocator.take_room())
    head = _see_head(machine, now)
    while head is not None and not may_start(head):
        machine.line.set_aside(head.id, head.owner)
        head = _see_head(machine, now)
    return head


def _see_head(machine: _Machine, now: float) -> _Job | None:
    """Who is first in line; what was kept for somebody else is let go."""
    job_id = machine.line.head()
    kept = machine.kept
    if kept is not None and kept.job_id in machine.line:
        # Who was passed over at that time, and is not any more, does not take its
        # place: that would give away what it was promised.
        line = machine.line
        if not (line.is_set_aside(kept.job_id) or line.is_held_back(kept.job_id)):
            job_id = kept.job_id
    if (None if machine.head is None else machine.head[0]) != job_id:
        machine.head = None if job_id is None else (job_id, now)
        machine.looked = now
        machine.keep_at_once = False
        machine.none_before = 0.0
    if machine.kept is not None and machine.kept.job_id != job_id:
        machine.let_go()
    return None if job_id is None else machine.jobs[job_id]


def _cannot_fit(machine: _Machine, head: _Job) -> bool:
    """Is it known of another that asks for the same that it does not fit?

    What lies in a part that is kept for the head is for nobody else to try.
    """
    return machine.kept is None and machine.line.is_blocked(head.id)
