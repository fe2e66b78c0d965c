"""What the controller answers, in the form in which clients are told it."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from spalloc_server.controller import (
    JobMachineInfoTuple,
    JobStateTuple,
    JobTuple,
    MachineTuple,
)
from spalloc_server.wire.messages import encode_message

JOBS_IN_A_PIECE: Final = 250
"""How many jobs are listed before other clients have their turn: for about 1 ms."""

# Arguments of create_job that list_jobs gives as keys of their own.
_OWN_KEYS = frozenset({"owner", "keepalive", "job_id"})


def job_state(state: JobStateTuple) -> dict[str, Any]:
    """What ``get_job_state`` returns."""
    return {**state._asdict(), "state": int(state.state)}


@lru_cache(4096)
def job_state_reply(state: JobStateTuple) -> bytes:
    """The reply to ``get_job_state``, encoded.

    Remembered: clients ask over and over, and mostly nothing has changed.
    """
    return encode_message({"return": job_state(state)})


def job_machine_info_reply(info: JobMachineInfoTuple) -> dict[str, Any]:
    """The reply to ``get_job_machine_info``; all None for a job with no boards."""
    connections = None
    if info.connections is not None:
        connections = [[chip, host] for chip, host in sorted(info.connections.items())]
    return {
        **info._asdict(),
        "connections": connections,
        "boards": _sorted(info.boards),
    }


def job_description(
    state: JobStateTuple, job: JobTuple | None, boards: JobMachineInfoTuple
) -> dict[str, Any]:
    """What ``describe_job`` returns; the same keys for any job."""
    about = dict.fromkeys(JobTuple._fields) if job is None else job_reply(job)
    machine_info = job_machine_info_reply(boards)
    del machine_info["machine_name"]
    return {**about, "state": int(state.state), "reason": state.reason, **machine_info}


def jobs_reply(jobs: Sequence[JobTuple]) -> Iterator[bytes]:
    """The reply to ``list_jobs``, encoded, in pieces that are made fast."""
    before = b'{"return":['
    for start in range(0, len(jobs), JOBS_IN_A_PIECE):
        part = jobs[start : start + JOBS_IN_A_PIECE]
        encoded = encode_message([job_reply(job) for job in part])
        yield before + encoded.removeprefix(b"[").removesuffix(b"]\n")
        before = b","
    yield (b"" if jobs else before) + b"]}\n"


def job_reply(job: JobTuple) -> dict[str, Any]:
    """One item of the reply to ``list_jobs``."""
    kwargs = {key: arg for key, arg in job.kwargs.items() if key not in _OWN_KEYS}
    if kwargs.get("tags") is not None:
        kwargs["tags"] = _sorted(kwargs["tags"])
    return {
        **job._asdict(),
        "state": int(job.state),
        "args": list(job.args),
        "kwargs": kwargs,
        "boards": _sorted(job.boards),
        "keepalivehost": job.keepalivehost or "",
    }


def machine_reply(machine: MachineTuple) -> dict[str, Any]:
    """One item of the reply to ``list_machines``."""
    return {
        **machine._asdict(),
        "tags": _sorted(machine.tags),
        "dead_boards": _sorted(machine.dead_boards),
        "dead_links": sorted((x, y, z, int(k)) for x, y, z, k in machine.dead_links),
    }


def _sorted(items: Iterable[Any] | None) -> list[Any] | None:
    """Sets have no order; sorted, the same state always gives the same reply."""
    return None if items is None else sorted(items)
