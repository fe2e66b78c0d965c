"""The six directions in which chips, and boards of chips, are linked."""

from __future__ import annotations

from enum import IntEnum


class Links(IntEnum):
    """One of the six links of a chip or board, anticlockwise from east."""

    east = 0
    north_east = 1
    north = 2
    west = 3
    south_west = 4
    south = 5

    @property
    def opposite(self) -> Links:
        """The link by which the neighbour down this link is linked back."""
        return _OPPOSITES[self]

    def to_vector(self) -> tuple[int, int]:
        """Give the step (dx, dy), in chips, that this link takes."""
        return _VECTORS[self]

    @staticmethod
    def from_vector(vector: tuple[int, int]) -> Links:
        """Find the link that leads from a chip to its neighbour at (dx, dy).

        A difference of more than one in either axis is that of two chips joined
        around the edge of a torus, so its sign is the wrong way round and is
        inverted. A machine two chips wide or high also gives (1, -1), which is
        ``south_west``, and (-1, 1), which is ``north_east``.

        :raises KeyError: if no link leads that way, which is the case only for (0, 0)
        """
        dx, dy = vector
        return _LINKS_BY_VECTOR[_unwrapped(dx), _unwrapped(dy)]


_VECTORS = {
    Links.east: (1, 0),
    Links.north_east: (1, 1),
    Links.north: (0, 1),
    Links.west: (-1, 0),
    Links.south_west: (-1, -1),
    Links.south: (0, -1),
}

_OPPOSITES = {link: Links((link + 3) % 6) for link in Links}

_LINKS_BY_VECTOR = {vector: link for link, vector in _VECTORS.items()}
_LINKS_BY_VECTOR[1, -1] = Links.south_west
_LINKS_BY_VECTOR[-1, 1] = Links.north_east


def _unwrapped(step: int) -> int:
    """Undo the wrapping around of one axis of a step between neighbours."""
    if abs(step) <= 1:
        return step
    return -1 if step > 0 else 1
