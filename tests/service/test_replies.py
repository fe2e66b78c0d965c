import json
from typing import Any

import pytest

from spalloc_server.model.job_tuples import JobState, JobStateTuple, JobTuple
from spalloc_server.service.replies import (
    ITEMS_AT_ONCE,
    PIECE_BYTES,
    _living_state_reply,
    job_reply,
    job_state_reply,
    jobs_reply,
)


def a_job(job_id: int, **kwargs: Any) -> JobTuple:
    return JobTuple(
        job_id,
        "me",
        1.5,
        60.0,
        JobState.queued,
        None,
        (3,),
        {"owner": "me", "tags": frozenset({"b", "a"}), **kwargs},
        None,
        None,
        "",
    )


@pytest.mark.parametrize(
    "count",
    [0, 1, ITEMS_AT_ONCE - 1, ITEMS_AT_ONCE, ITEMS_AT_ONCE + 1, 1234],
)
def test_a_listing_is_one_line_made_in_pieces(count: int) -> None:
    jobs = [a_job(i, machine="[]}\n") for i in range(count)]
    pieces = list(jobs_reply(jobs).pieces)
    line = b"".join(pieces)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == {"return": [job_reply(job) for job in jobs]}
    most = PIECE_BYTES + (ITEMS_AT_ONCE + 1) * len(json.dumps(job_reply(a_job(9999))))
    assert all(len(piece) <= most for piece in pieces)
    assert len(pieces) <= len(line) // PIECE_BYTES + 1


def test_pieces_of_a_listing_are_counted_by_their_bytes() -> None:
    jobs = [a_job(i, machine="m" * 10_000) for i in range(100)]
    pieces = list(jobs_reply(jobs).pieces)
    assert len(pieces) > 5
    assert max(map(len, pieces)) < PIECE_BYTES + ITEMS_AT_ONCE * 11_000


def test_states_with_reasons_are_not_kept() -> None:
    ended = JobStateTuple(JobState.destroyed, None, None, "r" * 1000, None, None)
    kept = _living_state_reply.cache_info().currsize
    assert json.loads(job_state_reply(ended))["return"]["reason"] == "r" * 1000
    assert _living_state_reply.cache_info().currsize == kept


def test_a_listed_job_has_plain_values_and_no_argument_twice() -> None:
    reply = job_reply(a_job(7, require_torus=False))
    assert reply["kwargs"] == {"tags": ["a", "b"], "require_torus": False}
    assert reply["state"] == 1
    assert reply["args"] == [3]


def test_the_reply_about_a_state_tells_that_state() -> None:
    state = JobStateTuple(JobState.ready, True, 60.0, None, 1.5, "127.0.0.1")
    told = {**state._asdict(), "state": 3}
    for _ in range(2):
        assert json.loads(job_state_reply(state)) == {"return": told}
    off = state._replace(power=False)
    assert json.loads(job_state_reply(off)) == {"return": {**told, "power": False}}
