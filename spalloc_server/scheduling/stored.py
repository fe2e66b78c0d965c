"""Jobs and machines as plain data, with all that scheduling needs to know of them.

Machines that have been removed, but whose boards jobs still have, come after those
there are. Jobs refer to machines by their number in the list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from spalloc_server.allocator import Allocator
from spalloc_server.plain.shapes import (
    BOOL,
    INT,
    NUMBER,
    OPTIONAL_INT,
    OPTIONAL_STR,
    STR,
    PlainDataError,
    anything_plain,
    dict_of,
    fields,
    ints,
    list_of,
    one_of,
    optional,
    plain,
    set_of,
    tuple_of,
    tuple_of_each,
)
from spalloc_server.scheduling.demands import Demands
from spalloc_server.scheduling.machine import Kept, _Job, _Machine
from spalloc_server.scheduling.state import SCHEDULING

_KEPT = fields(
    "kept part",
    {"job": INT, "since": NUMBER, "holders": list_of(INT), "region": ints(4)},
)

_MACHINE = fields(
    "machine of the queue",
    {
        "name": STR,
        "tags": set_of(STR),
        "removed": BOOL,
        "allocator": anything_plain,
        # The jobs in line, each with its place.
        "queue": list_of(ints(4)),
        "round": INT,
        "rounds": list_of(tuple_of(OPTIONAL_STR, INT, INT)),
        "head": optional(tuple_of(INT, NUMBER)),
        "looked": NUMBER,
        "keep_at_once": BOOL,
        "kept": optional(_KEPT),
    },
)

_JOB = fields(
    "job of the queue",
    {
        "id": INT,
        "pending": BOOL,
        "ending": BOOL,
        "machine_name": OPTIONAL_STR,
        "tags": optional(set_of(STR)),
        "args": tuple_of_each(anything_plain),
        "kwargs": dict_of(STR, anything_plain),
        "machine": OPTIONAL_INT,
        "allocation_id": OPTIONAL_INT,
        "owner": OPTIONAL_STR,
        "number": INT,
        "queued_at": NUMBER,
        "started_at": NUMBER,
    },
)

QUEUE = fields(
    "job queue",
    {
        "seconds_before_free": NUMBER,
        "scheduling": one_of(*SCHEDULING),
        "longest_overtaking": NUMBER,
        "boards_per_owner": OPTIONAL_INT,
        "jobs_per_owner": OPTIONAL_INT,
        "time": tuple_of(NUMBER, NUMBER),
        "arrivals": INT,
        "requeued": INT,
        "machines": list_of(_MACHINE),
        "jobs": list_of(_JOB),
    },
)


def to_plain(machines: Iterable[_Machine], jobs: Iterable[_Job]) -> dict[str, Any]:
    """Give jobs and machines as plain data.

    :param machines: all that are there, highest priority first
    :param jobs: all of them, in any order
    :return: lists of machines and jobs, by these names
    """
    present = list(machines)
    known = list(present)
    number_of = {id(machine): n for n, machine in enumerate(known)}
    job_list = []
    for job in jobs:
        machine = job.machine
        if machine is not None and id(machine) not in number_of:
            number_of[id(machine)] = len(known)
            known.append(machine)
        number = None if machine is None else number_of[id(machine)]
        job_list.append(_job_to_plain(job, number))
    return {
        "machines": [
            _machine_to_plain(machine, number >= len(present))
            for number, machine in enumerate(known)
        ],
        "jobs": job_list,
    }


def _job_to_plain(job: _Job, machine: int | None) -> dict[str, Any]:
    return {
        "id": job.id,
        "pending": job.pending,
        "ending": job.ending,
        "machine_name": job.machine_name,
        "tags": None if job.tags is None else set(job.tags),
        "args": plain(job.args),
        "kwargs": plain(job.kwargs),
        "machine": machine,
        "allocation_id": job.allocation_id,
        "owner": job.owner,
        "number": job.number,
        "queued_at": job.queued_at,
        "started_at": job.started_at,
    }


def _machine_to_plain(machine: _Machine, removed: bool) -> dict[str, Any]:
    line = machine.line
    turn, rounds = line.rounds()
    state: dict[str, Any] = {
        "name": machine.name,
        "tags": set(machine.tags),
        "removed": removed,
        "allocator": machine.allocator.__getstate__(),
    }
    if removed:
        # Nobody waits for it any more.
        return state | {
            "queue": [],
            "round": 0,
            "rounds": [],
            "head": None,
            "looked": 0.0,
            "keep_at_once": False,
            "kept": None,
        }
    kept, region = machine.kept, machine.allocator.kept
    kept_state = None
    if kept is not None:
        assert region is not None
        kept_state = {
            "job": kept.job_id,
            "since": kept.since,
            "holders": sorted(kept.holders),
            "region": (region.x, region.y, region.width, region.height),
        }
    return state | {
        "queue": [(job_id, *line.key_of(job_id)) for job_id in line],
        "round": turn,
        "rounds": [(*taker, last) for taker, last in rounds.items()],
        "head": machine.head,
        "looked": machine.looked,
        "keep_at_once": machine.keep_at_once,
        "kept": kept_state,
    }


def from_plain(
    state: Mapping[str, Any], fair: bool, demands: Demands
) -> tuple[list[_Machine], dict[int, _Job]]:
    """Make jobs and machines of plain data, of which the types have been checked.

    :param fair: do owners take turns?
    :param demands: where it is noted who waits for what
    :return: the machines that have not been removed, and all jobs by ID
    :raises PlainDataError: if something refers to what is not there
    """
    machines = []
    for kept in state["machines"]:
        allocator = Allocator.__new__(Allocator)
        allocator.__setstate__(kept["allocator"])
        machine = _Machine(kept["name"], kept["tags"], allocator)
        machine.empty_line(fair)
        machines.append(machine)
    jobs: dict[int, _Job] = {}
    for kept in state["jobs"]:
        jobs[kept["id"]] = _job_from_plain(kept, machines, demands)
    for machine, kept in zip(machines, state["machines"], strict=True):
        _restore_line(machine, kept, jobs)
    present = [
        machine
        for machine, kept in zip(machines, state["machines"], strict=True)
        if not kept["removed"]
    ]
    return present, jobs


def _job_from_plain(
    data: Mapping[str, Any], machines: list[_Machine], demands: Demands
) -> _Job:
    demand = demands.find(
        data["machine_name"], data["tags"], data["args"], data["kwargs"]
    )
    job = _Job.of(demand, data["id"], data["owner"])
    job.pending, job.ending = data["pending"], data["ending"]
    job.allocation_id, job.number = data["allocation_id"], data["number"]
    job.queued_at, job.started_at = data["queued_at"], data["started_at"]
    number = data["machine"]
    if number is not None:
        if not 0 <= number < len(machines):
            raise PlainDataError(f"job queue: {job} has machine {number}")
        job.machine = machines[number]
    if job.pending == (number is not None and job.allocation_id is not None):
        raise PlainDataError(f"job queue: {job} waits and has boards, or neither")
    if job.pending:
        demands.join(job)
    if job.machine is not None and job.allocation_id is not None:
        job.machine.holders[job.allocation_id] = job
    return job


def _restore_line(
    machine: _Machine, state: Mapping[str, Any], jobs: Mapping[int, _Job]
) -> None:
    """Put those who wait for a machine back in line."""

    def waiting(job_id: int) -> _Job:
        job = jobs.get(job_id)
        if job is None or not job.pending:
            raise PlainDataError(f"job queue: job {job_id} cannot be waiting")
        return job

    for job_id, *key in state["queue"]:
        if job_id in machine.line:
            raise PlainDataError(f"job queue: job {job_id} waits twice")
        job = waiting(job_id)
        machine.enqueue(job, tuple(key))
        job.queues += (machine,)
    rounds = {(owner, size_class): last for owner, size_class, last in state["rounds"]}
    machine.line.set_rounds(state["round"], rounds)
    machine.head = state["head"]
    machine.looked = state["looked"]
    machine.keep_at_once = state["keep_at_once"]
    kept = state["kept"]
    if kept is not None:
        waiting(kept["job"])
        try:
            region = machine.allocator.pack_tree.region_of(*kept["region"])
        except ValueError as e:
            raise PlainDataError(f"job queue: {e}") from None
        machine.allocator.keep(region)
        machine.kept = Kept(kept["job"], kept["since"], frozenset(kept["holders"]))
