"""Coordinate systems of boards and chips, and conversions between them.

Machines are rectangles of *triads* of hexagonal boards, joined into a (subset of
a) hexagonal torus. Three coordinate systems are in use:

* board coordinates (x, y, z): triad (x, y) of the machine, and the board's index z
  in that triad;
* physical coordinates (cabinet, frame, board): where the board is plugged in,
  counted from the top right;
* chip coordinates (x, y) in the network of the whole machine. The chip at the
  bottom-left corner of a board is its Ethernet chip, whose coordinates also stand
  for the board.

The shape of boards and triads is that of SpiNN-5 boards, as SpiNNMachine has it. It is
repeated here, and compared by the tests, since reading that library takes longer than
all else that is done to read a config file. The functions are pure, so any thread may
call them.
"""

from __future__ import annotations

from collections import Counter
from enum import IntEnum
from typing import TypeAlias

from spalloc_server.links import Links

Board: TypeAlias = tuple[int, int, int]
"""Board coordinates (x, y, z)."""

Physical: TypeAlias = tuple[int, int, int]
"""Physical coordinates (cabinet, frame, board)."""

Chip: TypeAlias = tuple[int, int]
"""Chip coordinates (x, y)."""

BoardLink: TypeAlias = tuple[int, int, int, Links]
"""A link (x, y, z, link), named from the board which sends down it."""


class WrapAround(IntEnum):
    """Around which axes of a torus something wraps.

    A set of axes kept as bits: it is false when nothing wraps, and ``&`` tells
    whether two of them have an axis in common.
    """

    none = 0
    """Around neither axis."""

    x = 1
    """Around the X axis."""

    y = 2
    """Around the Y axis."""

    both = 3
    """Around the X and the Y axis."""


# The period with which triads repeat, in chips along each axis.
_TRIAD_SIZE = 12

# Chip offset of each board from the start of its triad, by z. Boards are numbered
# from the bottom upwards.
_BOARD_OFFSETS: tuple[Chip, ...] = ((0, 0), (8, 4), (4, 8))

# The size of the rectangle that just holds one board, in chips.
_BOARD_SIZE: Chip = (8, 8)

# The 48 chips of a board, from its Ethernet chip: a hexagon, that is a square without
# the chips at two corners that are too far from its diagonal.
_CHIPS_OF_BOARD: tuple[Chip, ...] = tuple(
    (x, y)
    for x in range(_BOARD_SIZE[0])
    for y in range(_BOARD_SIZE[1])
    if -4 <= y - x <= 3
)

# The board of every chip in one triad's square of chips. A chip near its left or
# bottom edge is on a board of a triad beyond that edge.
_BOARDS_OF_CHIPS: dict[Chip, Board] = {
    (x % _TRIAD_SIZE, y % _TRIAD_SIZE): (-(x // _TRIAD_SIZE), -(y // _TRIAD_SIZE), z)
    for z, (board_x, board_y) in enumerate(_BOARD_OFFSETS)
    for x, y in ((board_x + dx, board_y + dy) for dx, dy in _CHIPS_OF_BOARD)
}


def _board_of_chip(x: int, y: int) -> Board:
    """Find the board of a chip in an endless plane of triads."""
    dx, dy, z = _BOARDS_OF_CHIPS[x % _TRIAD_SIZE, y % _TRIAD_SIZE]
    return x // _TRIAD_SIZE + dx, y // _TRIAD_SIZE + dy, z


# How far the boards of a triad reach beyond its square of chips, in each axis.
_OVERHANG: Chip = (
    max(x for x, _ in _BOARD_OFFSETS) + _BOARD_SIZE[0] - _TRIAD_SIZE,
    max(y for _, y in _BOARD_OFFSETS) + _BOARD_SIZE[1] - _TRIAD_SIZE,
)


def _neighbouring_boards() -> dict[tuple[int, Links], Board]:
    """Work out which board is across each edge of each board.

    The chips along the edge of a hexagon have two links each across it: the edge
    called after a link is crossed by that link and the one clockwise of it.
    """
    # How many chip links named `link` lead from board z to each other board.
    crossings: dict[tuple[int, Links], Counter[Board]] = {
        (z, link): Counter() for z in range(len(_BOARD_OFFSETS)) for link in Links
    }
    for (x, y), (triad_x, triad_y, z) in _BOARDS_OF_CHIPS.items():
        for link in Links:
            dx, dy = link.to_vector()
            to_x, to_y, to_z = _board_of_chip(x + dx, y + dy)
            vector = (to_x - triad_x, to_y - triad_y, to_z - z)
            if any(vector):
                crossings[z, link][vector] += 1

    neighbours = {}
    for z, link in crossings:
        clockwise = Links((link - 1) % len(Links))
        (neighbours[z, link],) = crossings[z, link].keys() & crossings[z, clockwise]
    return neighbours


link_to_vector: dict[tuple[int, Links], tuple[int, int, int]] = _neighbouring_boards()
"""For (z, link), the step (dx, dy, dz) in board coordinates down that link."""


def board_down_link(
    x1: int, y1: int, z1: int, link: Links, width: int, height: int
) -> tuple[int, int, int, WrapAround]:
    """Find the board at the other end of a link of a board.

    :param x1: coordinates of the board whose link is followed
    :param y1: see ``x1``
    :param z1: see ``x1``
    :param link: the link to follow
    :param width: size of the machine, in triads
    :param height: see ``width``
    :return: ``(x, y, z, wrapped)``: coordinates of the board which is reached, and the
        edges of the machine that the link wrapped around on its way there
    :raises KeyError: if there is no such z or link
    """
    dx, dy, dz = link_to_vector[z1, link]
    x2 = x1 + dx
    y2 = y1 + dy
    z2 = z1 + dz
    if 0 <= x2 < width:
        if 0 <= y2 < height:
            return x2, y2, z2, WrapAround.none
        return x2, y2 % height, z2, WrapAround.y
    if 0 <= y2 < height:
        return x2 % width, y2, z2, WrapAround.x
    return x2 % width, y2 % height, z2, WrapAround.both


def board_to_chip(x: int, y: int, z: int) -> Chip:
    """Give the coordinates of the Ethernet chip of a board.

    :param x: coordinates of the board, of which z must be 0, 1 or 2
    :param y: see ``x``
    :param z: see ``x``
    :return: ``(x, y)``: coordinates of the chip at the board's bottom-left corner
    :raises ValueError: if there is no such z
    """
    if not 0 <= z < len(_BOARD_OFFSETS):
        raise ValueError(f"board ({x}, {y}, {z}): z must be 0, 1 or 2")
    offset_x, offset_y = _BOARD_OFFSETS[z]
    return _TRIAD_SIZE * x + offset_x, _TRIAD_SIZE * y + offset_y


def chip_to_board(x: int, y: int, w: int, h: int) -> Board:
    """Find the board that a chip is on.

    :param x: coordinates of any chip of the board
    :param y: see ``x``
    :param w: size of the network in chips, as `triad_dimensions_to_chips` gives it. An
        axis which is a whole number of triads long wraps around.
    :param h: see ``w``
    :return: ``(x, y, z)``: coordinates of the board
    :raises ValueError: if there is no board at that place, because it is outside the
        network or in a gap between the boards along an edge which does not wrap around
    """
    if w <= 0 or h <= 0:
        raise ValueError(f"a network of {w} x {h} chips has no boards")
    triad_x, triad_y, z = _board_of_chip(x, y)
    corner_x, corner_y = board_to_chip(triad_x, triad_y, z)
    if w % _TRIAD_SIZE == 0:
        triad_x %= w // _TRIAD_SIZE
    elif not 0 <= corner_x <= w - _BOARD_SIZE[0]:
        raise ValueError(f"chip ({x}, {y}) is on no board of {w} x {h} chips")
    if h % _TRIAD_SIZE == 0:
        triad_y %= h // _TRIAD_SIZE
    elif not 0 <= corner_y <= h - _BOARD_SIZE[1]:
        raise ValueError(f"chip ({x}, {y}) is on no board of {w} x {h} chips")
    return triad_x, triad_y, z


def triad_dimensions_to_chips(w: int, h: int, torus: WrapAround) -> tuple[int, int]:
    """Give the size of the network of chips that a rectangle of triads makes.

    :param w: size of the rectangle, in triads
    :param h: see ``w``
    :param torus: the axes around which the rectangle is joined up. In the others its
        boards stick out by some chips.
    :return: ``(w, h)``: size of the network in chips, for example to boot it with
    """
    return (
        _TRIAD_SIZE * w + (0 if torus & WrapAround.x else _OVERHANG[0]),
        _TRIAD_SIZE * h + (0 if torus & WrapAround.y else _OVERHANG[1]),
    )
