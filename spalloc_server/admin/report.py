"""What operators are told: documents fit for JSON."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from spalloc_server import __version__
from spalloc_server.configuration import Machine
from spalloc_server.controller import Controller, JobState, JobTuple
from spalloc_server.coordinates import Board
from spalloc_server.model.board_states import BoardState, count_states
from spalloc_server.model.job_tuples import JobDetails
from spalloc_server.model.withheld import Order
from spalloc_server.service import replies
from spalloc_server.service.arguments import check_text
from spalloc_server.service.base_server import Server
from spalloc_server.wire.messages import LongReply

Document: TypeAlias = dict[str, Any]

JOBS_AT_ONCE: Final = 16
"""Of how many jobs that are listed more is found out together."""

ITEM_BYTES: Final = 300
"""About how much is kept of a job or a board until it has been told."""


def status(server: Server) -> Document:
    """How the server and its machines are."""
    controller, store = server.controller, server.store
    with controller.lock:
        found = {job.job_id: job for job in controller.list_jobs()}
        problems = controller.list_problems()
        in_state = Counter(job.state for job in found.values())
        machines = [
            _machine(controller, machine, found, problems)
            for machine in controller.machines.values()
        ]
        all_closed = controller.withheld.all_closed
    return {
        "version": __version__,
        "process": os.getpid(),
        "config": os.path.abspath(server.config_source.filename),
        "address": list(server.address),
        "uptime": time.monotonic() - server.started_at,
        "clients": server.client_count,
        "simulated": server.simulator is not None,
        "state": {
            "file": store.filename,
            "problem": store.problem,
            "last_snapshot": store.snapshots.made_at,
        },
        "closed": _order(all_closed),
        "jobs": {
            state.name: in_state[state]
            for state in (JobState.queued, JobState.power, JobState.ready)
        },
        "machines": machines,
    }


def _machine(
    controller: Controller,
    machine: Machine,
    jobs: Mapping[int, JobTuple],
    problems: Sequence[Document],
) -> Document:
    name = machine.name
    counts = count_states(machine, controller.board_states(name))
    out = [
        problem
        for problem in problems
        if problem["machine"] == name and problem["out_of_service"]
    ]
    first, length = controller.first_and_length_of_queue(name)
    return {
        "name": name,
        "tags": sorted(machine.tags),
        "width": machine.width,
        "height": machine.height,
        "closed": _order(controller.withheld.closing_of(name)),
        "boards": {
            "all": sum(counts.values()),
            **{state.value: number for state, number in counts.items()},
        },
        "silent_frames": _silent_frames(machine, out),
        "out_of_service": [
            {key: problem[key] for key in ("board", "physical", "reason", "since")}
            for problem in out
            if not problem["waits_for_bmp"]
        ],
        "drained": _drains(controller, machine),
        "queue": {
            "length": length,
            "head": None
            if first is None
            else _job(jobs[first], controller.details_of(first)),
        },
    }


def _order(order: Order | None) -> Document | None:
    return None if order is None else order._asdict()


def _silent_frames(machine: Machine, out: Iterable[Document]) -> list[Document]:
    """The frames whose BMPs do not answer."""
    frames: dict[tuple[int, int], Document] = {}
    for problem in out:
        if problem["waits_for_bmp"]:
            cabinet, frame, _ = problem["physical"]
            found = frames.setdefault(
                (cabinet, frame),
                {
                    "cabinet": cabinet,
                    "frame": frame,
                    "bmp": machine.bmp_ips[cabinet, frame],
                    "reason": problem["reason"],
                    "since": problem["since"],
                },
            )
            found["since"] = min(found["since"], problem["since"])
    return [frames[frame] for frame in sorted(frames)]


def _drains(controller: Controller, machine: Machine) -> list[Document]:
    """The boards that are drained, those of one order together."""
    orders: dict[Order, list[Board]] = {}
    for (name, board), order in controller.withheld.drained.items():
        if name == machine.name and board in machine.board_locations:
            orders.setdefault(order, []).append(board)
    return [
        {
            **order._asdict(),
            "boards": sorted(boards),
            "frames": _whole_frames(machine, boards),
        }
        for order, boards in orders.items()
    ]


def _whole_frames(machine: Machine, boards: Iterable[Board]) -> list[tuple[int, int]]:
    """The frames, as (cabinet, frame), of which all boards are among these."""
    places = machine.board_locations
    some = {places[board][:2] for board in boards}
    others = {places[board][:2] for board in places.keys() - set(boards)}
    return sorted(some - others)


# Jobs


def jobs(
    controller: Controller,
    owner: str | None,
    machine: str | None,
    state: str | None,
) -> LongReply:
    """The jobs that have not ended, as the line of a reply.

    :param machine: only those that have boards of it, or wait for it
    :param state: the name of a state
    """
    _check_filters(owner, state, JobState.__members__)
    found = [
        job
        for job in controller.list_jobs()
        if owner in (None, job.owner) and state in (None, job.state.name)
    ]

    def described() -> Iterator[Document]:
        # What takes longer is found out a little in each turn.
        for start in range(0, len(found), JOBS_AT_ONCE):
            some = found[start : start + JOBS_AT_ONCE]
            known = controller.job_details(job.job_id for job in some).get
            for job in some:
                details = known(job.job_id)
                queues = () if details is None else details.queues
                if machine in (None, job.allocated_machine_name) or machine in queues:
                    yield _job(job, details)

    return replies.list_reply(described(), len(found) * ITEM_BYTES)


def _job(job: JobTuple, details: JobDetails | None) -> Document:
    """A job.

    :param details: None if it has ended meanwhile
    """
    waiting = None if details is None else details.waiting
    return {
        **replies.job_reply(job),
        "state": job.state.name,
        "allocated_at": None if details is None else details.allocated_at,
        "queues": () if details is None else details.queues,
        "waiting": None if waiting is None else waiting.to_reply(),
    }


# Boards


def boards(
    controller: Controller,
    owner: str | None,
    machine: str | None,
    state: str | None,
) -> LongReply:
    """Boards, as the line of a reply.

    :param owner: only those that a job of this owner has
    :param state: the name of a state, of `BoardState`
    """
    _check_filters(owner, state, {each.value: each for each in BoardState})
    with controller.lock:
        machines = controller.machines
        wanted = [each for each in machines.values() if machine in (None, each.name)]
        states = {each.name: controller.board_states(each.name) for each in wanted}
        found = [job for job in controller.list_jobs() if job.boards]
        details = controller.job_details(job.job_id for job in found)
        problems = {
            (problem["machine"], problem["board"]): problem
            for problem in controller.list_problems()
        }
        drained = dict(controller.withheld.drained)
    holders = {
        (job.allocated_machine_name, board): job
        for job in found
        for board in job.boards or ()
    }

    def described() -> Iterator[Document]:
        for each in wanted:
            for board, place in sorted(each.board_locations.items()):
                job = holders.get((each.name, board))
                if owner is not None and (job is None or job.owner != owner):
                    continue
                if state not in (None, states[each.name][board].value):
                    continue
                held = None if job is None else details[job.job_id]
                problem = problems.get((each.name, board))
                order = drained.get((each.name, board))
                yield {
                    "machine": each.name,
                    "board": board,
                    "physical": place,
                    "ip_address": each.spinnaker_ips.get(board),
                    "state": states[each.name][board].value,
                    "job": None if job is None else job.job_id,
                    "owner": None if job is None else job.owner,
                    "since": None if held is None else held.allocated_at,
                    "problem": None if problem is None else problem["reason"],
                    "drained": _order(order),
                }

    number = sum(map(len, states.values()))
    return replies.list_reply(described(), number * ITEM_BYTES)


def _check_filters(owner: object, state: object, states: Collection[object]) -> None:
    if owner is not None:
        check_text("owner", owner)
    if state is not None and state not in states:
        raise ValueError(
            f"state must be one of {', '.join(map(str, states))}, not {state!r}"
        )
