"""What the controller answers, in the form in which clients are told it."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

from spalloc_server.controller import (
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
    MachineTuple,
)
from spalloc_server.model.report_limits import BoardKey
from spalloc_server.scheduling.waiting import Waiting
from spalloc_server.service.job_texts import JobTexts, waiting_text
from spalloc_server.wire.messages import LongReply, encode_message, to_json

ITEMS_AT_ONCE: Final = 16
"""How many items of a list are made together, which costs less than one by one."""

PIECE_BYTES: Final = 64 * 1024
"""How much of a list is made before other clients have their turn: for about 1 ms."""

JOB_BYTES: Final = 200
"""About what a job takes that was put into a list, but not yet encoded."""

KEY_BYTES: Final = 100
"""The same for a board."""

# Arguments of create_job that list_jobs gives as keys of their own.
_OWN_KEYS = frozenset({"owner", "keepalive", "job_id"})


WaitingOf: TypeAlias = Callable[[Iterable[int]], Mapping[int, Waiting]]
"""Tells of those jobs of some that wait."""


def _none_waits(_job_ids: Iterable[int]) -> Mapping[int, Waiting]:
    return {}


def _nothing_known(_job_id: int) -> None:
    return None


def job_state(state: JobStateTuple) -> dict[str, Any]:
    """What ``get_job_state`` returns."""
    return {**state._asdict(), "state": int(state.state)}


def job_state_reply(state: JobStateTuple) -> bytes:
    """The reply to ``get_job_state``, encoded."""
    # With a reason it may be long, and is seldom asked for twice.
    return _living_state_reply(state) if state.reason is None else _state_reply(state)


def _state_reply(state: JobStateTuple) -> bytes:
    return encode_message({"return": job_state(state)})


# Clients ask over and over, and mostly nothing has changed.
_living_state_reply = lru_cache(4096)(_state_reply)


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
    state: JobStateTuple,
    job: JobTuple | None,
    boards: JobMachineInfoTuple,
    waiting: Callable[[int], Waiting | None] = _nothing_known,
) -> dict[str, Any]:
    """What ``describe_job`` returns."""
    about = dict.fromkeys(JobTuple._fields) if job is None else job_reply(job, waiting)
    machine_info = job_machine_info_reply(boards)
    del machine_info["machine_name"]
    return {**about, "state": int(state.state), "reason": state.reason, **machine_info}


def waiting_job_state_reply(state: JobStateTuple, waiting: Waiting) -> bytes:
    """The reply to ``get_job_state`` for a job that waits for boards, encoded."""
    why = f',"waiting":{waiting_text(waiting)}}}}}\n'
    return job_state_reply(state).removesuffix(b"}}\n") + why.encode()


def waiting_job_state(state: JobStateTuple, waiting: Waiting) -> dict[str, Any]:
    """What ``get_job_state`` returns for a job that waits for boards."""
    return {**job_state(state), "waiting": waiting.to_reply()}


def jobs_reply(
    jobs: Sequence[JobTuple], waiting_of: WaitingOf = _none_waits
) -> LongReply:
    """The reply to ``list_jobs``, encoded, in pieces.

    :param waiting_of: tells of those that wait, by their IDs, when it is their turn
    """
    return LongReply(_pieces(_job_texts(jobs, waiting_of)), len(jobs) * JOB_BYTES)


def _job_texts(jobs: Sequence[JobTuple], waiting_of: WaitingOf) -> Iterator[str]:
    texts = JobTexts(job_reply)
    for start in range(0, len(jobs), ITEMS_AT_ONCE):
        some = jobs[start : start + ITEMS_AT_ONCE]
        known = waiting_of([j.job_id for j in some if j.state is JobState.queued]).get
        yield ",".join([texts.text(job, known(job.job_id)) for job in some])


def problems_reply(
    keys: Sequence[BoardKey],
    describe: Callable[[Iterable[BoardKey]], Iterable[dict[str, Any]]],
) -> LongReply:
    """The reply to ``list_problems``, encoded, in pieces.

    :param keys: the boards
    :param describe: tells what is wrong with them, when it is their turn
    """
    problems = (problem for key in keys for problem in describe([key]))
    return LongReply(_pieces(_encoded(problems)), len(keys) * KEY_BYTES)


def list_reply(items: Iterable[Any], kept_bytes: int) -> LongReply:
    """A reply that lists items, encoded, in pieces.

    :param kept_bytes: about how much is kept until it is made
    """
    return LongReply(_pieces(_encoded(items)), kept_bytes)


def _encoded(items: Iterable[Any]) -> Iterator[str]:
    """The items of a list, encoded, some together."""
    remaining = iter(items)
    while some := list(itertools.islice(remaining, ITEMS_AT_ONCE)):
        yield to_json(some)[1:-1]


def _pieces(parts: Iterable[str]) -> Iterator[bytes]:
    """A list, encoded as a reply, in pieces that are made fast.

    :param parts: one or more of the items each, encoded
    """
    piece, size, between = ['{"return":['], 0, ""
    for part in parts:
        piece.append(between + part)
        size += len(part)
        between = ","
        if size >= PIECE_BYTES:
            yield "".join(piece).encode()
            piece, size = [], 0
    yield "".join([*piece, "]}\n"]).encode()


def job_reply(
    job: JobTuple, waiting: Callable[[int], Waiting | None] = _nothing_known
) -> dict[str, Any]:
    """One item of the reply to ``list_jobs``, as a dictionary.

    :param waiting: tells of a job that waits, by its ID
    """
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
