"""The commands that operators may give, by the socket in the folder of the state.

They are called as the public ones are, and checked, stored, done and refused in the
same way. To import this module is to have them.
"""

from __future__ import annotations

from typing import Any

from spalloc_server.admin import report
from spalloc_server.admin.places import boards_of
from spalloc_server.controller import Controller
from spalloc_server.model.changes import (
    ClearBoards,
    Close,
    Drain,
    EndJobs,
    MoveJob,
    Open,
    Resume,
)
from spalloc_server.service import arguments
from spalloc_server.service.base_server import Server
from spalloc_server.service.registry import changes, operator_command, reads
from spalloc_server.wire.connection import Connection
from spalloc_server.wire.messages import LongReply


def _user(client: Connection) -> str:
    assert client.user is not None
    return client.user


# Looking


@operator_command
@reads
def status(server: Server, _client: Connection) -> dict[str, Any]:
    """Tell how the server and its machines are."""
    return report.status(server)


@operator_command
@reads
def jobs(
    server: Server,
    _client: Connection,
    owner: str | None = None,
    machine: str | None = None,
    state: str | None = None,
) -> LongReply:
    """Tell of the jobs that have not ended, oldest first."""
    _check_machine(server.controller, machine)
    return report.jobs(server.controller, owner, machine, state)


@operator_command
@reads
def boards(
    server: Server,
    _client: Connection,
    owner: str | None = None,
    machine: str | None = None,
    state: str | None = None,
) -> LongReply:
    """Tell of boards: where they are, what they are up to, and who has them."""
    _check_machine(server.controller, machine)
    return report.boards(server.controller, owner, machine, state)


def _check_machine(controller: Controller, name: object) -> None:
    if name is not None and arguments.check_machine_name(name) not in (
        controller.machines
    ):
        raise ValueError(f"there is no machine {name!r}")


# Boards: `boards_of` says how they are named


@operator_command
@changes
def drain(
    server: Server,
    client: Connection,
    /,
    machine: str,
    reason: str | None = None,
    now: bool = False,
    **place: list[int] | None,
) -> Drain:
    """Start nothing new on a board, a frame or a machine."""
    found = boards_of(server.controller, machine, **place)
    reason = arguments.check_reason(reason)
    if not isinstance(now, bool):
        raise TypeError(f"now must be true or false, not {now!r}")
    return Drain(_user(client), machine, found, reason, now)


@operator_command
@changes
def resume(
    server: Server,
    client: Connection,
    /,
    machine: str,
    reason: str | None = None,
    **place: list[int] | None,
) -> Resume:
    """Undo `drain`, for all or some of its boards."""
    found = boards_of(server.controller, machine, **place)
    return Resume(_user(client), machine, found, arguments.check_reason(reason))


@operator_command
@changes
def clear(
    server: Server,
    client: Connection,
    /,
    machine: str,
    reason: str | None = None,
    **place: list[int] | None,
) -> ClearBoards:
    """Put boards back into service, and forget what was reported of them."""
    found = boards_of(server.controller, machine, **place)
    return ClearBoards(_user(client), machine, found, arguments.check_reason(reason))


# Machines


@operator_command
@changes
def close(
    server: Server,
    client: Connection,
    machine: str | None = None,
    reason: str | None = None,
) -> Close:
    """Start no new jobs on a machine, or on any."""
    _check_machine(server.controller, machine)
    return Close(_user(client), machine, arguments.check_reason(reason))


@operator_command
@changes
def open_(
    server: Server,
    client: Connection,
    machine: str | None = None,
    reason: str | None = None,
) -> Open:
    """Undo `close`, of a machine or of all."""
    _check_machine(server.controller, machine)
    return Open(_user(client), machine, arguments.check_reason(reason))


# Jobs


@operator_command
@changes
def destroy(
    server: Server,
    client: Connection,
    job_ids: list[int] | None = None,
    owner: str | None = None,
    reason: str | None = None,
) -> EndJobs:
    """End jobs, by their numbers or of an owner."""
    reason = arguments.check_reason(reason)
    owners = {job.job_id: job.owner for job in server.controller.list_jobs()}
    if owner is not None:
        found = [job_id for job_id, has in owners.items() if has == owner]
        if not found:
            raise ValueError(f"{owner!r} has no job")
        return EndJobs(_user(client), found, reason)
    if not isinstance(job_ids, list) or not job_ids:
        raise TypeError("job_ids must be a list of numbers, or owner a name")
    wanted = [arguments.check_job_id(job_id) for job_id in job_ids]
    for job_id in wanted:
        if job_id not in owners:
            raise ValueError(f"there is no job {job_id}")
    return EndJobs(_user(client), wanted, reason)


@operator_command
@changes
def move(
    _server: Server, client: Connection, job_id: int, reason: str | None = None
) -> MoveJob:
    """Have a job wait before all others."""
    job_id = arguments.check_job_id(job_id)
    return MoveJob(_user(client), job_id, arguments.check_reason(reason))


# The server itself


@operator_command
@reads
def reload(server: Server, _client: Connection) -> int:
    """Have the config file read again; gives the number for `reload_outcome`."""
    source = server.config_source
    number = source.next_number
    source.request()
    return number


@operator_command
@reads
def reload_outcome(
    server: Server, _client: Connection, number: int
) -> dict[str, Any] | None:
    """Tell what has come of a reload; None while it is going on."""
    source = server.config_source
    if source.finished < arguments.check_integer("number", number):
        return None
    return source.outcome._asdict()


@operator_command
@reads
def snapshot(server: Server, _client: Connection) -> int:
    """Have all state written; gives the number for `snapshot_outcome`."""
    number = server.store.snapshots.request()
    server.wake()
    return number


@operator_command
@reads
def snapshot_outcome(
    server: Server, _client: Connection, number: int
) -> dict[str, Any] | None:
    """Tell what has come of a snapshot; None while it is going on."""
    store = server.store
    if store.snapshots.ended < arguments.check_integer("number", number):
        return None
    return {"file": store.filename, "problem": store.snapshots.problem}
