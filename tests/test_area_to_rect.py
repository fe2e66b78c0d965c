"""The choice of rectangles, by properties and by known cases."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.area_to_rect import (
    area_to_rect,
    rectangle_with_aspect_ratio,
    squarest_rectangle,
)

sides = st.integers(1, 70)
ratios = st.floats(0.0, 1.0)


@given(st.integers(1, 5000))
def test_squarest_rectangle_has_the_area_and_no_squarer_one_does(area: int) -> None:
    width, height = squarest_rectangle(area)
    assert width * height == area
    assert width >= height
    assert not [
        h for h in range(height + 1, area + 1) if area % h == 0 and area // h >= h
    ]


def test_squarest_rectangle_of_nothing() -> None:
    assert squarest_rectangle(0) == (0, 0)
    assert rectangle_with_aspect_ratio(0, 0.5) == (0, 0)


@given(st.integers(1, 5000), st.floats(0.01, 1.0))
def test_rectangle_with_aspect_ratio_is_large_enough_and_landscape(
    area: int, ratio: float
) -> None:
    width, height = rectangle_with_aspect_ratio(area, ratio)
    assert width * height >= area
    assert width >= height >= 1


@given(st.data(), sides, sides, ratios)
def test_the_rectangle_fits_and_is_large_enough(
    data: st.DataObject, bound_width: int, bound_height: int, ratio: float
) -> None:
    area = data.draw(st.integers(1, bound_width * bound_height))
    rectangle = area_to_rect(area, bound_width, bound_height, ratio)
    if rectangle is not None:
        width, height = rectangle
        assert width * height >= area
        assert width <= bound_width
        assert height <= bound_height


@given(st.data(), sides, sides)
def test_without_a_ratio_whatever_fits_by_area_fits(
    data: st.DataObject, bound_width: int, bound_height: int
) -> None:
    area = data.draw(st.integers(1, bound_width * bound_height))
    assert area_to_rect(area, bound_width, bound_height) is not None
    too_much = bound_width * bound_height + 1
    assert area_to_rect(too_much, bound_width, bound_height) is None


@given(st.integers(1, 400), st.floats(0.01, 1.0))
def test_a_ratio_above_one_is_the_same_ratio_turned(area: int, ratio: float) -> None:
    same = 1.0 / (1.0 / ratio)
    assert area_to_rect(area, 40, 30, 1.0 / ratio) == area_to_rect(area, 40, 30, same)


@pytest.mark.parametrize(
    ("arguments", "rectangle"),
    [
        ((1, 1, 1), (1, 1)),
        ((5, 3, 3), (3, 2)),  # too long for the bounds as 5 x 1
        ((7, 3, 3, 1), (3, 3)),
        ((7, 20, 20, 0.5), (4, 2)),
        ((7, 20, 20, 2.0), (4, 2)),
        ((6, 20, 10), (2, 3)),  # turned in bounds wider than high
        ((6, 10, 20), (3, 2)),
        ((7, 10, 2, 1.0), None),  # cannot be square in two rows
        ((11, 4, 3, 0.9), None),
        ((5, 3, 3, 0.75), (3, 2)),  # not reshaped, so not held to the ratio
        ((400, 20, 20), (20, 20)),
    ],
)
def test_known_cases(
    arguments: tuple[int, int, int, float], rectangle: tuple[int, int] | None
) -> None:
    assert area_to_rect(*arguments) == rectangle


@pytest.mark.parametrize("arguments", [(0, 1, 1), (-1, 1, 1), (1, 0, 1), (1, 1, -2)])
def test_senseless_sizes_are_refused(arguments: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be positive"):
        area_to_rect(*arguments)


@pytest.mark.parametrize("ratio", [-0.1, float("nan")])
def test_a_senseless_ratio_is_refused(ratio: float) -> None:
    with pytest.raises(ValueError, match="aspect ratio"):
        area_to_rect(1, 1, 1, ratio)
