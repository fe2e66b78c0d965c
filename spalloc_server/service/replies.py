"""What the controller answers, in the form in which clients are told it."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

from spalloc_server.controller import (
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
    MachineTuple,
)
from spalloc_server.scheduling.waiting import Waiting
from spalloc_server.wire.messages import encode_message

JOBS_IN_A_PIECE: Final = 250
"""How many jobs are listed before other clients have their turn: for about 1 ms."""

# Arguments of create_job that list_jobs gives as keys of their own.
_OWN_KEYS = frozenset({"owner", "keepalive", "job_id"})


def _nothing_known(_job_id: int) -> None:
    return None


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


def waiting_job_state(state: JobStateTuple, waiting: Waiting) -> dict[str, Any]:
    """What ``get_job_state`` returns for a job that waits for boards."""
    return {**job_state(state), "waiting": waiting.to_reply()}


def jobs_reply(
    jobs: Sequence[JobTuple], waiting: Callable[[int], Waiting | None] = _nothing_known
) -> Iterator[bytes]:
    """The reply to ``list_jobs``, encoded, in pieces that are made fast.

    :param waiting: what is known of a job that waits, by ID
    """
    before = b'{"return":['
    for start in range(0, len(jobs), JOBS_IN_A_PIECE):
        part = jobs[start : start + JOBS_IN_A_PIECE]
        encoded = encode_message([job_reply(job, waiting) for job in part])
        yield before + encoded.removeprefix(b"[").removesuffix(b"]\n")
        before = b","
    yield (b"" if jobs else before) + b"]}\n"


def job_reply(
    job: JobTuple, waiting: Callable[[int], Waiting | None] = _nothing_known
) -> dict[str, Any]:
    """One item of the reply to ``list_jobs``, see `jobs_reply`."""
    kwargs = {key: arg for key, arg in job.kwargs.items() if key not in _OWN_KEYS}
    if kwargs.get("tags") is not None:
        kwargs["tags"] = _sorted(kwargs["tags"])
    reply = {
        **job._asdict(),
        "state": int(job.state),
        "args": list(job.args),
        "kwargs": kwargs,
        "boards": _sorted(job.boards),
        "keepalivehost": job.keepalivehost or "",
    }
    known = waiting(job.job_id) if job.state is JobState.queued else None
    if known is not None:
        reply["waiting"] = known.to_reply()
    return reply


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
