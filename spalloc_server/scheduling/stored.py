"""What scheduling needs to know after a restart, as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spalloc_server.scheduling.machine import Kept, _Job, _Machine


def job_state(job: _Job) -> list[Any]:
    """What is not known of a job otherwise."""
    return [job.owner, job.boards, job.number, job.queued_at, job.started_at]


def restore_job(job: _Job, state: list[Any]) -> None:
    """Set what `job_state` told."""
    job.owner, job.boards, job.number, job.queued_at, job.started_at = state


def machine_state(machine: _Machine) -> dict[str, Any]:
    """Who waits for a machine, and what is kept for whom."""
    line, kept = machine.line, machine.kept
    turn, rounds = line.rounds()
    return {
        "line": [[job_id, *line.key_of(job_id)] for job_id in line],
        "round": turn,
        "rounds": [[*taker, last] for taker, last in rounds.items()],
        "head": None if machine.head is None else list(machine.head),
        "looked": machine.looked,
        "keep_at_once": machine.keep_at_once,
        "kept": None
        if kept is None
        else [kept.job_id, kept.since, sorted(kept.holders)],
    }


def restore_machine(
    machine: _Machine, state: Mapping[str, Any], jobs: Mapping[int, _Job], fair: bool
) -> None:
    """Put those who wait for a machine back in line."""
    machine.empty_line(fair)
    for job_id, *key in state["line"]:
        machine.enqueue(jobs[job_id], tuple(key))
    rounds = {(owner, size_class): last for owner, size_class, last in state["rounds"]}
    machine.line.set_rounds(state["round"], rounds)
    if state["head"] is not None:
        job_id, since = state["head"]
        machine.head = job_id, since
    machine.looked = state["looked"]
    machine.keep_at_once = state["keep_at_once"]
    if state["kept"] is not None:
        job_id, since, holders = state["kept"]
        machine.kept = Kept(job_id, since, frozenset(holders))


def match_by_hand(machines: Iterable[_Machine], jobs: Iterable[_Job]) -> None:
    """Put those who wait back in line where all that is known is who waits for what."""
    for number, job in enumerate(jobs, 1):
        job.number = number
        if job.pending:
            waits_for, job.queues = job.queues, []
            for machine in machines:
                if machine in waits_for:
                    machine.enqueue(job)
