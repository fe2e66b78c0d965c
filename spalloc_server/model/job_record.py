"""Jobs as plain data, which is what outlives the process, and back again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import WrapAround
from spalloc_server.links import Links
from spalloc_server.model.job import _Job
from spalloc_server.model.job_tuples import JobState
from spalloc_server.plain.shapes import (
    BOOL,
    INT,
    NUMBER,
    OPTIONAL_BOOL,
    OPTIONAL_INT,
    OPTIONAL_NUMBER,
    OPTIONAL_STR,
    STR,
    PlainDataError,
    anything_plain,
    dict_of,
    fields,
    ints,
    of_type,
    one_of,
    optional,
    plain,
    set_of,
    tuple_of,
)

_STATE = fields(
    "job",
    {
        "allocated_at": OPTIONAL_NUMBER,
        "id": INT,
        "owner": STR,
        "start_time": NUMBER,
        "keepalive": OPTIONAL_NUMBER,
        "lasthost": OPTIONAL_STR,
        "state": one_of(*(int(s) for s in JobState if s is not JobState.unknown)),
        "power": OPTIONAL_BOOL,
        "args": of_type(tuple),
        "kwargs": dict_of(STR, anything_plain),
        "machine": OPTIONAL_INT,
        "boards": optional(set_of(ints(3))),
        "periphery": optional(
            set_of(tuple_of(INT, INT, INT, one_of(*map(int, Links))))
        ),
        "torus": optional(one_of(*map(int, WrapAround))),
        "unfinished": BOOL,
        "was_ready": BOOL,
        "failed_places": INT,
        "failure": OPTIONAL_STR,
        "machine_removed": BOOL,
        "rank": INT,
    },
)
"""What is kept of a job over a restart."""


def job_to_plain(
    job: _Job, machine: int | None, plain: Callable[[Any], Any] = plain
) -> dict[str, Any]:
    """Give a job as plain data, for `job_from_plain`.

    Of keepalives nothing is kept, since they start afresh with the process; of
    requests to the hardware, whether any are unfinished; of an ended job, nothing
    of how these have gone so far, since the boards are powered off once more.

    :param machine: what stands for the machine of the boards
    :param plain: copies what the job may have in common with others
    """
    ended = job.state is JobState.destroyed
    return {
        "id": job.id,
        "owner": plain(job.owner),
        "start_time": job.start_time,
        "keepalive": job.keepalive,
        "lasthost": job.lasthost,
        "state": int(job.state),
        "power": job.power,
        "args": plain(job.args),
        "kwargs": plain(job.kwargs),
        "machine": machine,
        "boards": None if job.boards is None else set(job.boards),
        "periphery": None
        if job.periphery is None
        else {(x, y, z, int(link)) for x, y, z, link in job.periphery},
        "torus": None if job.torus is None else int(job.torus),
        "unfinished": job.bmp_requests_until_ready != 0,
        "allocated_at": job.allocated_at,
        "was_ready": job.was_ready,
        "failed_places": job.failed_places,
        "failure": None if ended else job.failure,
        "machine_removed": job.machine_removed,
        "rank": job.rank,
    }


def job_from_plain(data: dict[str, Any], machine: Machine | None) -> _Job:
    """Make a job of what `job_to_plain` gave; it counts as heard from just now.

    :param machine: that of the boards
    :raises PlainDataError: if it is nothing like that
    """
    _STATE(data, "job")
    job = _Job(
        data["id"],
        data["owner"],
        data["start_time"],
        data["keepalive"],
        data["lasthost"],
        JobState(data["state"]),
        data["power"],
        data["args"],
        data["kwargs"],
        bmp_requests_until_ready=int(data["unfinished"]),
    )
    job.allocated_at = data["allocated_at"]
    job.was_ready = data["was_ready"]
    job.failed_places = data["failed_places"]
    job.failure = data["failure"]
    job.machine_removed = data["machine_removed"]
    job.rank = data["rank"]
    boards = data["boards"]
    waits = job.state is JobState.queued
    if waits != (machine is None) or waits == bool(boards):
        raise PlainDataError(f"{job}: has boards {boards} of machine {machine}")
    if machine is not None:
        for board in boards:
            place = machine.board_locations.get(board)
            if (
                place is None
                or board not in machine.spinnaker_ips
                or place[:2] not in machine.bmp_ips
            ):
                raise PlainDataError(f"{job}: {machine.name} has no board {board}")
        if data["periphery"] is None or data["torus"] is None:
            raise PlainDataError(f"{job}: its links are not known")
        periphery = {(x, y, z, Links(n)) for x, y, z, n in data["periphery"]}
        if not {link[:3] for link in periphery} <= boards:
            raise PlainDataError(f"{job}: has links of other boards")
        job.give_boards(machine, set(boards), periphery, WrapAround(data["torus"]))
    return job
