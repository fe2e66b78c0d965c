"""Turn a number of triads into the sides of a rectangle.

Users ask for a number of boards; machines are cut into rectangles of triads.
The functions here choose a rectangle that is as square as asked for and wastes
little.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, isqrt, sqrt


def squarest_rectangle(area: int) -> tuple[int, int]:
    """The most nearly square rectangle of exactly ``area`` unit squares.

    :return: ``(width, height)`` with ``width >= height``. A prime area gives a
        row one unit high.
    """
    if area == 0:
        return 0, 0
    for height in range(isqrt(area), 0, -1):
        if area % height == 0:
            return area // height, height
    raise ValueError(f"there is no rectangle of area {area}")


def rectangle_with_aspect_ratio(area: int, ratio: float) -> tuple[int, int]:
    """A rectangle of at least ``area`` that is at least as square as ``ratio``.

    Where no rectangle of exactly the area is square enough (primes, say), this
    one is a little larger instead.

    :param ratio: smallest height / width, ``0.0 < ratio <= 1.0``
    :return: ``(width, height)`` with ``width >= height``
    """
    if area == 0:
        return 0, 0
    height = ceil(area / sqrt(area / ratio))
    width = max(height, ceil(area / height))
    return width, height


@lru_cache(maxsize=4096)
def area_to_rect(
    area: int, bound_width: int, bound_height: int, min_ratio: float = 0.0
) -> tuple[int, int] | None:
    """Choose a rectangle of at least ``area`` that fits into the bounds.

    The longer side is laid along the shorter side of the bounds where that can
    be done, so that what is left of the bounds stays in one large piece.

    :param area: how many unit squares are needed, at least 1
    :param bound_width: the widest rectangle that can be used, at least 1
    :param bound_height: the highest rectangle that can be used, at least 1
    :param min_ratio: shorter side / longer side must be at least this; a value
        above 1.0 is taken as longer / shorter
    :return: ``(width, height)``, or None where no such rectangle fits
    :raises ValueError: if the area or a bound is not positive, or the ratio is
        negative
    """
    if area <= 0 or bound_width <= 0 or bound_height <= 0:
        raise ValueError(
            f"area and bounds must be positive, not area {area} "
            f"in {bound_width} x {bound_height}"
        )
    if not min_ratio >= 0.0:
        raise ValueError(f"the aspect ratio cannot be negative: {min_ratio}")
    if min_ratio > 1.0:
        min_ratio = 1.0 / min_ratio
    if area > bound_width * bound_height:
        return None

    width, height = squarest_rectangle(area)
    if height / width < min_ratio:
        width, height = rectangle_with_aspect_ratio(area, min_ratio)
    if bound_width > bound_height:
        width, height = height, width

    # As in earlier releases, only a rectangle that had to be reshaped to fit is
    # held to the ratio once more: sites rely on (3, 2) for 5 triads at 0.75.
    if width > bound_width:
        width = bound_width
        height = ceil(area / width)
    elif height > bound_height:
        height = bound_height
        width = ceil(area / height)
    else:
        return width, height
    if width > bound_width or height > bound_height:
        return None
    if min(width, height) / max(width, height) < min_ratio:
        return None
    return width, height
