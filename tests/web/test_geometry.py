"""Boards are drawn where the package says that they are."""

from __future__ import annotations

import math

import pytest

from spalloc_server.coordinates import board_down_link
from spalloc_server.links import Links
from spalloc_server.web.geometry import geometry_document

GEOMETRY = geometry_document()


def place(x: int, y: int, z: int) -> tuple[float, float]:
    """Where a page draws a board, as docs of the document say."""
    ways = (GEOMETRY["x"], GEOMETRY["y"])
    return (
        x * ways[0][0] + y * ways[1][0] + GEOMETRY["z"][z][0],
        x * ways[0][1] + y * ways[1][1] + GEOMETRY["z"][z][1],
    )


def test_the_outline_is_a_regular_hexagon() -> None:
    corners = GEOMETRY["outline"]
    assert len(corners) == 6
    radii = [math.hypot(*corner) for corner in corners]
    assert radii == pytest.approx([radii[0]] * 6, abs=0.002)


@pytest.mark.parametrize("z", range(3))
@pytest.mark.parametrize("link", Links)
def test_neighbours_share_the_side_that_the_link_crosses(z: int, link: Links) -> None:
    assert GEOMETRY["links"][link] == link.name
    x2, y2, z2, _ = board_down_link(2, 2, z, link, 5, 5)
    dx, dy, dz = GEOMETRY["steps"][z][link]
    assert (2 + dx, 2 + dy, z + dz) == (x2, y2, z2)
    here, there = place(2, 2, z), place(x2, y2, z2)
    corners = GEOMETRY["outline"]
    side = {_near(here, corners[link]), _near(here, corners[(link + 1) % 6])}
    assert side <= {_near(there, corner) for corner in corners}


def _near(middle: tuple[float, float], corner: list[float]) -> tuple[int, int]:
    """A corner of a board, so that those that are drawn in one place are equal."""
    return round((middle[0] + corner[0]) * 10), round((middle[1] + corner[1]) * 10)


def test_up_is_up() -> None:
    # y counts downwards in a page, upwards in a machine.
    assert place(0, 1, 0)[1] < place(0, 0, 0)[1]
    assert place(1, 0, 0)[0] > place(0, 0, 0)[0]
