"""Whatever is asked for: something that the server can be asked, or a clear refusal."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from spalloc_server_gateway.wishes import (
    LEAST_KEEPALIVE,
    MOST_KEEPALIVE,
    WishError,
    read_wish,
)

FIELDS = (
    *("num-boards", "dimensions", "board", "machine-name", "tags", "owner", "group"),
    *("max-dead-boards", "keepalive-interval", "nmpi-collab", "nmpi-job-id"),
)
PARTS = ("width", "height", "x", "y", "z", "cabinet", "frame", "board", "address")

NUMBERS = st.integers(-1, 3) | st.integers() | st.floats() | st.booleans()
DURATIONS = st.from_regex(r"P?T?[0-9.]{0,6}[DHMS]?", fullmatch=True) | st.just("PT60S")
SIMPLE = NUMBERS | st.none() | st.text(max_size=5) | DURATIONS
ANYTHING = st.recursive(
    SIMPLE,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(PARTS), inner, max_size=4)
    ),
    max_leaves=6,
)
BODIES = st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=4) | ANYTHING


@given(BODIES)
def test_every_body_is_understood_or_refused(body: Any) -> None:
    refusal = None
    try:
        wish = read_wish(body)
    except WishError as e:
        refusal = str(e)
    if refusal is not None:
        assert "\n" not in refusal
        assert len(refusal) > 10
        return
    # What is sent to the server is of its kinds, and JSON.
    json.dumps([wish.size, wish.demands], allow_nan=False)
    assert len(wish.size) <= 3
    assert all(type(number) is int and number >= 0 for number in wish.size)
    assert LEAST_KEEPALIVE <= wish.demands["keepalive"] <= MOST_KEEPALIVE
    assert wish.owner is None or isinstance(wish.owner, str)
    assert not {"machine", "tags"} <= wish.demands.keys()
    assert not (wish.size and (wish.place or wish.address))
