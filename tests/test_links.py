"""Links: directions, opposites and steps."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.links import Links


def test_numbers_go_anticlockwise_from_east() -> None:
    assert [(link.name, int(link)) for link in Links] == [
        ("east", 0),
        ("north_east", 1),
        ("north", 2),
        ("west", 3),
        ("south_west", 4),
        ("south", 5),
    ]


@pytest.mark.parametrize("link", Links)
def test_opposite_is_halfway_round(link: Links) -> None:
    assert link.opposite == (link + 3) % 6
    assert link.opposite.opposite is link
    dx, dy = link.to_vector()
    assert link.opposite.to_vector() == (-dx, -dy)


def test_vectors() -> None:
    assert [link.to_vector() for link in Links] == [
        (1, 0),
        (1, 1),
        (0, 1),
        (-1, 0),
        (-1, -1),
        (0, -1),
    ]


@given(
    link=st.sampled_from(Links),
    x=st.integers(0, 29),
    y=st.integers(0, 29),
    width=st.integers(3, 30),
    height=st.integers(3, 30),
)
def test_link_is_found_from_neighbours_on_a_torus(
    link: Links, x: int, y: int, width: int, height: int
) -> None:
    dx, dy = link.to_vector()
    x, y = x % width, y % height

    step = ((x + dx) % width - x, (y + dy) % height - y)

    assert Links.from_vector(step) is link


@pytest.mark.parametrize(
    ("vector", "link"),
    [
        ((2, 0), Links.west),
        ((-2, 0), Links.east),
        ((0, -7), Links.north),
        ((-5, 1), Links.north_east),
        ((9, 9), Links.south_west),
        # Both of these happen only where the machine is two wide or high.
        ((1, -1), Links.south_west),
        ((-1, 1), Links.north_east),
    ],
)
def test_steps_around_the_edge(vector: tuple[int, int], link: Links) -> None:
    assert Links.from_vector(vector) is link


def test_no_link_leads_nowhere() -> None:
    with pytest.raises(KeyError, match=r"\(0, 0\)"):
        Links.from_vector((0, 0))


@pytest.mark.parametrize("link", Links)
def test_pickles_as_itself(link: Links) -> None:
    assert pickle.loads(pickle.dumps(link)) is link
