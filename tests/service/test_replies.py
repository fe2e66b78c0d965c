import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.model.job_tuples import JobState, JobStateTuple, JobTuple
from spalloc_server.scheduling.waiting import KeptPart, Place, Waiting
from spalloc_server.service.replies import (
    ITEMS_AT_ONCE,
    PIECE_BYTES,
    _living_state_reply,
    job_reply,
    job_state_reply,
    jobs_reply,
    waiting_job_state,
    waiting_job_state_reply,
)
from spalloc_server.wire.messages import encode_message

TEXTS = st.text(max_size=20) | st.sampled_from(["%s", '"', "}}\n", "me", "me"])
NUMBERS = st.integers(0, 999) | st.floats() | st.none()
FEW_BOARDS = st.sets(st.tuples(*[st.integers(0, 9)] * 3), min_size=1, max_size=4)
SOMETHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3)
    ),
    max_leaves=5,
)
WORDS = st.tuples(
    st.lists(st.integers(0, 99) | st.booleans() | st.floats(), max_size=3).map(tuple),
    st.dictionaries(
        TEXTS | st.sampled_from(["owner", "keepalive", "waiting", "boards"]),
        SOMETHING,
        max_size=3,
    )
    | st.fixed_dictionaries({"tags": st.none() | st.frozensets(TEXTS, max_size=3)}),
)
KEPT = st.builds(
    KeptPart,
    *[st.integers(0, 99)] * 3,
    st.floats(),
    st.tuples(*[st.integers(0, 9)] * 4),
)
PLACES = st.builds(
    Place, TEXTS, st.integers(1, 99), st.tuples(*[st.integers()] * 3), st.none() | KEPT
)
WAITING = st.builds(
    Waiting,
    st.sampled_from(["limit", "kept", "first", "turn", "withheld"]),
    st.lists(PLACES, max_size=3).map(tuple),
    st.none() | st.tuples(st.integers(), st.integers()),
    st.none() | TEXTS,
)


@st.composite
def some_jobs(draw: st.DrawFn) -> list[JobTuple]:
    """Jobs that have much in common, and some that have not."""
    words = draw(st.lists(WORDS, min_size=1, max_size=3))
    owners = draw(st.lists(TEXTS, min_size=1, max_size=2))
    jobs = []
    for job_id in range(draw(st.integers(0, 2 * ITEMS_AT_ONCE + 1))):
        with_boards = draw(st.booleans())
        args, kwargs = draw(st.sampled_from(words))
        jobs.append(
            JobTuple(
                job_id,
                draw(st.sampled_from(owners)),
                draw(st.floats()),
                draw(st.sampled_from([None, 60.0, 60, float("inf")])),
                draw(st.sampled_from(list(JobState)[2:4]))
                if with_boards
                else JobState.queued,
                draw(st.booleans()) if with_boards else None,
                args,
                kwargs if draw(st.booleans()) else dict(kwargs),
                draw(TEXTS) if with_boards else None,
                draw(FEW_BOARDS) if with_boards else None,
                draw(st.sampled_from(["", "127.0.0.1", '"'])),
            )
        )
    return jobs


@given(some_jobs(), st.dictionaries(st.integers(0, ITEMS_AT_ONCE), WAITING))
def test_a_listing_is_what_the_encoder_makes_of_all_replies(
    jobs: list[JobTuple], waiting: dict[int, Waiting]
) -> None:
    # To the byte; of those that are queued, it is known of some why they wait.
    line = b"".join(
        jobs_reply(
            jobs, lambda ids: {i: waiting[i] for i in ids if i in waiting}
        ).pieces
    )
    replies = [job_reply(job, waiting.get) for job in jobs]
    assert line == encode_message({"return": replies})


@given(TEXTS, WAITING)
def test_the_reply_about_a_job_that_waits_is_what_the_encoder_makes_of_it(
    host: str, waiting: Waiting
) -> None:
    state = JobStateTuple(JobState.queued, None, 60.0, None, 1.5, host)
    expected = encode_message({"return": waiting_job_state(state, waiting)})
    assert waiting_job_state_reply(state, waiting) == expected


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


def test_what_is_kept_of_a_listing_has_a_bound() -> None:
    jobs = [a_job(i, machine=f"{i:10000}") for i in range(400)]
    pieces = iter(jobs_reply(jobs).pieces)
    tracemalloc.start()
    try:
        size = sum(map(len, pieces))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 400 * 10_000
    assert most < size / 2


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
