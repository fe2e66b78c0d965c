"""The state of machines and jobs at one moment, and how it is told to web pages."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeAlias

from spalloc_server.configuration import Machine
from spalloc_server.controller import Controller
from spalloc_server.coordinates import Board
from spalloc_server.model.board_states import BoardState
from spalloc_server.model.job_tuples import JobDetails, JobState, JobTuple
from spalloc_server.model.report_limits import BoardKey
from spalloc_server.model.withheld import Order
from spalloc_server.scheduling.waiting import Waiting

Document: TypeAlias = dict[str, Any]
"""Something fit for JSON."""

BOARD_FIELDS: Final = (
    *("x", "y", "z", "cabinet", "frame", "board", "ip", "problem", "state", "job"),
)
"""What is told of each board, as a list in this order. ``cabinet``, ``frame``,
``board`` and ``ip`` are null for boards that are dead without having them; ``problem``
is a text or null, ``job`` an ID or null."""


SLICE: Final = 500
"""Of so many jobs that wait all is told at once; that takes some 5 ms."""


class Snapshot(NamedTuple):
    """What the loop's thread hands over. Nobody changes it."""

    time: float
    """When it was taken, in seconds since 1970 (UTC)."""
    machines: list[Machine]
    """Highest priority first."""
    boards: dict[str, dict[Board, BoardState]]
    """The states of the boards of each machine."""
    jobs: list[JobTuple]
    """Those that have not ended, oldest first."""
    details: Mapping[int, JobDetails] = MappingProxyType({})
    """More of these jobs."""
    problems: Sequence[Mapping[str, Any]] = ()
    """What is wrong with boards."""
    clock: float = 0.0
    """When it was taken, by the monotonic clock."""
    kept: Mapping[str, int] = MappingProxyType({})
    """How many boards of each machine are kept for somebody who waits."""
    drained: Mapping[BoardKey, Order] = MappingProxyType({})
    """Boards that operators have taken away from the jobs."""
    closed: Mapping[str, Order] = MappingProxyType({})
    """Machines on which no job starts."""


def snapshot_in_parts(
    controller: Controller, slice_size: int = SLICE
) -> Iterator[Snapshot | None]:
    """Note the state of everything, bit by bit, with something else done in between.

    In the loop's thread, which is held up by what is told of a long queue. What is told
    of jobs that wait may be as old as the first part; all the rest is of one moment.

    :param slice_size: of how many jobs that wait one part is
    :return: the snapshot, after some times None
    """
    waiting = [
        job.job_id for job in controller.list_jobs() if job.state is JobState.queued
    ]
    known: dict[int, JobDetails] = {}
    if len(waiting) > slice_size:
        for start in range(0, len(waiting), slice_size):
            known |= controller.job_details(waiting[start : start + slice_size])
            yield None
    with controller.lock:
        snapshot = _finished(controller, known)
    yield snapshot


def _finished(controller: Controller, known: Mapping[int, JobDetails]) -> Snapshot:
    """A snapshot, for which some is known of some jobs that waited.

    Called with the controller's lock.
    """
    machines, withheld = controller.machines, controller.withheld
    jobs = controller.list_jobs()
    queued = {job.job_id for job in jobs if job.state is JobState.queued}
    told = {i: details for i, details in known.items() if i in queued}
    others = [job.job_id for job in jobs if job.job_id not in told]
    told |= controller.job_details(others)
    details = {job.job_id: told[job.job_id] for job in jobs}
    return Snapshot(
        time.time(),
        list(machines.values()),
        {name: controller.board_states(name) for name in machines},
        jobs,
        details,
        controller.list_problems(),
        time.monotonic(),
        controller.kept_boards(),
        dict(withheld.drained),
        {
            name: order
            for name in machines
            if (order := withheld.closing_of(name)) is not None
        },
    )


class State(NamedTuple):
    """A snapshot as documents, in which changes can be found."""

    time: float
    machines: dict[str, Document]
    """By name, without the boards."""
    boards: dict[str, dict[Board, list[Any]]]
    """For each machine what `BOARD_FIELDS` says of each board."""
    jobs: dict[int, Document]
    heard: dict[int, float]
    """When somebody last asked about each job, by the monotonic clock."""
    clock: float
    """The time, by the monotonic clock."""
    about: dict[int, tuple[int, int] | None]
    """Between when each job that waits may start, in seconds since 1970 (UTC); None
    where that is not known."""


def job_documents(state: State) -> list[Document]:
    """All there is to know of the jobs that have not ended, oldest first."""
    return [job_document(state, job_id) for job_id in state.jobs]


def job_document(state: State, job_id: int) -> Document:
    """All there is to know of a job.

    :raises KeyError: if there is none of that number
    """
    job = state.jobs[job_id]
    if job["waiting"] is None:
        return job
    return {**job, "waiting": {**job["waiting"], "about": state.about.get(job_id)}}


def to_state(snapshot: Snapshot) -> State:
    """Describe a snapshot."""
    job_of: dict[tuple[str | None, Board], int] = {
        (job.allocated_machine_name, board): job.job_id
        for job in snapshot.jobs
        for board in job.boards or ()
    }
    problems = {
        (problem["machine"], problem["board"]): _problem(problem)
        for problem in snapshot.problems
    }
    for board, order in snapshot.drained.items():
        drained = f"drained by {order.user}"
        if order.reason:
            drained += f": {order.reason}"
        others = [problems[board]] if board in problems else []
        problems[board] = "; ".join([drained, *others])
    return State(
        snapshot.time,
        {
            machine.name: _machine_document(machine, snapshot.closed.get(machine.name))
            for machine in snapshot.machines
        },
        {
            machine.name: {
                board: [
                    *_fixed_fields(machine, board),
                    problems.get((machine.name, board)),
                    state.value,
                    job_of.get((machine.name, board)),
                ]
                for board, state in snapshot.boards[machine.name].items()
            }
            for machine in snapshot.machines
        },
        {
            job.job_id: _job_document(job, snapshot.details.get(job.job_id))
            for job in snapshot.jobs
        },
        {i: round(details.heard_at, 1) for i, details in snapshot.details.items()},
        round(snapshot.clock, 1),
        {
            job_id: details.waiting.about
            for job_id, details in snapshot.details.items()
            if details.waiting is not None
        },
    )


def _machine_document(machine: Machine, closed: Order | None = None) -> Document:
    return {
        "name": machine.name,
        "tags": sorted(machine.tags),
        "width": machine.width,
        "height": machine.height,
        "dead_links": sorted((x, y, z, int(k)) for x, y, z, k in machine.dead_links),
        "closed": None if closed is None else closed._asdict(),
    }


def _fixed_fields(machine: Machine, board: Board) -> tuple[Any, ...]:
    place = machine.board_locations.get(board, (None, None, None))
    return *board, *place, machine.spinnaker_ips.get(board)


def _problem(problem: Mapping[str, Any]) -> str:
    """What is wrong with a board, in a line."""
    if problem["out_of_service"]:
        return str(problem["reason"])
    last = problem["reports"][-1]
    return f"reported, but in service: {last['description'] or 'no description'}"


def _job_document(job: JobTuple, details: JobDetails | None) -> Document:
    kwargs = {
        key: sorted(value) if isinstance(value, (set, frozenset)) else value
        for key, value in job.kwargs.items()
    }
    return {
        "id": job.job_id,
        "owner": job.owner,
        "start_time": job.start_time,
        "keepalive": job.keepalive,
        "keepalivehost": job.keepalivehost,
        "state": job.state.name,
        "power": job.power,
        "args": list(job.args),
        "kwargs": kwargs,
        "machine": job.allocated_machine_name,
        "boards": None if job.boards is None else sorted(job.boards),
        "queues": [] if details is None else details.queues,
        "rank": job.job_id if details is None else details.rank,
        "failure": None if details is None else details.failure,
        "allocated_at": None if details is None else details.allocated_at,
        "waiting": None if details is None else _waiting(details.waiting),
    }


def _waiting(waiting: Waiting | None) -> Document | None:
    """Why a job waits. Not its places, which change all the time: their order; nor when
    it may start, which changes for all together.
    """
    if waiting is None:
        return None
    return {
        "reason": waiting.reason,
        "text": waiting.text,
        "queues": [
            {
                "machine": place.machine,
                "order": place.order,
                "kept": None if place.kept is None else place.kept._asdict(),
            }
            for place in waiting.places
        ],
    }


def machine_documents(state: State) -> list[Document]:
    """All there is to know of the machines, highest priority first."""
    return [
        {
            **document,
            "board_fields": BOARD_FIELDS,
            "boards": list(state.boards[name].values()),
        }
        for name, document in state.machines.items()
    ]


def changes_between(old: State | None, new: State) -> Document | None:
    """What has changed: all of it where there was nothing, None where nothing has.

    ``machines`` has the machines that are new or described differently, as
    `machine_documents` describes them, and null for those that are gone;
    ``order`` the names of all machines, if that has changed; ``boards`` the changed
    boards of other machines; ``jobs`` the jobs that are new or have changed, and null
    for those that have ended. A job's ``queues`` are the machines that it waits for; in
    its ``waiting`` is, for each of them, its ``order``: of the jobs that wait for one,
    that with the lowest is the first. ``heard`` has by job when somebody last asked
    about it, on the clock of ``clock``; ``about`` between when it may start, null for
    those of which that is no longer known.
    """
    full = old is None
    before = State(0.0, {}, {}, {}, {}, 0.0, {}) if old is None else old
    whole = {document["name"]: document for document in machine_documents(new)}
    machines = {
        name: whole.get(name)
        for name in {**before.machines, **new.machines}
        if before.machines.get(name) != new.machines.get(name)
        or before.boards[name].keys() != new.boards[name].keys()
    }
    boards = {}
    for name in new.machines.keys() - machines.keys():
        were = before.boards[name]
        changed = [b for at, b in new.boards[name].items() if were[at] != b]
        if changed:
            boards[name] = changed
    jobs = {
        job_id: new.jobs.get(job_id)
        for job_id in {**before.jobs, **new.jobs}
        if before.jobs.get(job_id) != new.jobs.get(job_id)
    }
    changes: Document = {}
    if full or list(before.machines) != list(new.machines):
        changes["order"] = list(new.machines)
    heard = {i: at for i, at in new.heard.items() if before.heard.get(i) != at}
    about = {
        i: new.about.get(i)
        for i in {**before.about, **new.about}
        if before.about.get(i) != new.about.get(i)
    }
    parts: Document = {"machines": machines, "boards": boards, "jobs": jobs}
    parts.update(heard=heard, about=about)
    changes.update((key, part) for key, part in parts.items() if part or full)
    return {"time": new.time, "clock": new.clock, **changes} if changes else None
