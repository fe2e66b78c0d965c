"""Places in order, as a sorted list has them, however many have left."""

from __future__ import annotations

from unittest import mock

from hypothesis import given, settings
from hypothesis import strategies as st

from spalloc_server.scheduling import order
from spalloc_server.scheduling.order import Order, Place

STEPS = st.lists(
    st.tuples(
        st.sampled_from(["last", "somewhere", "leave", "first", "before", "ask"]),
        st.integers(0, 10**6),
    ),
    max_size=60,
)


def check(found: Order, model: list[Place], number: int) -> None:
    """Compare with a sorted list, in one of the ways in which it is asked."""
    if number % 4 == 0:
        assert list(found) == model
    elif number % 4 == 1:
        assert len(found) == len(model)
    elif number % 4 == 2:
        assert found.first() == (model[0] if model else None)
    elif model:
        place = model[number % len(model)]
        assert list(found.after(place)) == model[model.index(place) + 1 :]


@settings(max_examples=300)
@given(
    steps=STEPS,
    many=st.sampled_from([0, 2, 64]),
    few=st.sampled_from([1, 3, 32]),
    begun_with=st.integers(0, 40),
)
def test_it_is_as_a_sorted_list(
    steps: list[tuple[str, int]], many: int, few: int, begun_with: int
) -> None:
    found, next_id = Order(), 1
    model: list[Place] = []
    left: list[int] = []
    with mock.patch.object(order, "_MANY", many), mock.patch.object(order, "_FEW", few):
        for what, number in [("last", 0)] * begun_with + steps:
            if what in ("last", "somewhere"):
                # Who had left may come again.
                again = what == "somewhere" and left and number % 3 == 0
                job_id = left.pop(number % len(left)) if again else next_id
                next_id += not again
                rounds = 10**6 if what == "last" else number
                place = rounds, job_id, 0, job_id
                found.add(place)
                model.append(place)
                model.sort()
            elif what == "leave" and model:
                place = model.pop(number % len(model))
                left.append(place[3])
                found.discard(place)
            elif what == "first" and model:
                place = model.pop(0)
                left.append(place[3])
                found.discard(place)
            elif what == "before" and model:
                # Asked for many, one after the other, as for a list of all jobs.
                for index in range(number % len(model), len(model)):
                    assert found.before(model[index]) == index
            else:
                check(found, model, number)
        for number in range(4):
            check(found, model, number)
