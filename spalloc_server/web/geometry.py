"""Where boards are drawn, worked out from where their chips are.

The six links of a chip leave at 60 degrees from one another, and so do those of a
board. A page gets the few vectors that place any board of any machine.
"""

from __future__ import annotations

from cmath import rect
from math import radians
from typing import Any

from spalloc_server.coordinates import board_to_chip, link_to_vector
from spalloc_server.links import Links


def _place(x: int, y: int, z: int) -> complex:
    """Where a board is drawn, upwards being positive, in distances between chips."""
    chip_x, chip_y = board_to_chip(x, y, z)
    return rect(chip_x, 0) + rect(chip_y, radians(120))


def geometry_document() -> dict[str, Any]:
    """How to draw boards, for JSON; points are [x, y], y downwards.

    ``x`` and ``y``: the step from a triad to the next one in each axis; ``z``: where
    the boards of a triad are; ``outline``: the corners of a board around its middle,
    of which corner *k* and the next one bound the side that link *k* crosses;
    ``steps``: for each z and each link the step (dx, dy, dz) to the board there;
    ``links``: their names.
    """
    origin = _place(0, 0, 0)
    # Which board is where is the same all over a machine.
    ways = [_place(*link_to_vector[0, link]) - origin for link in Links]
    corners = [(ways[k - 1] + ways[k]) / 3 for k in range(len(ways))]
    return {
        "x": _point(_place(1, 0, 0) - origin),
        "y": _point(_place(0, 1, 0) - origin),
        "z": [_point(_place(0, 0, z) - origin) for z in range(3)],
        "outline": [_point(corner) for corner in corners],
        "steps": [[list(link_to_vector[z, link]) for link in Links] for z in range(3)],
        "links": [link.name for link in Links],
    }


def _point(place: complex) -> list[float]:
    # No -0.0 for people to wonder about.
    return [round(place.real, 3) + 0.0, round(-place.imag, 3) + 0.0]
