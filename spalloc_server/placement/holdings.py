"""The standing allocations of a machine: what each holds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from spalloc_server.coordinates import Board
from spalloc_server.placement.candidate_filter import boards_of_triads


class Rectangle(NamedTuple):
    """A standing allocation of triads."""

    x: int
    y: int
    width: int
    height: int


class Holdings:
    """Who holds what, by the ID of the allocation. Knows nothing of what is free."""

    def __init__(self, next_id: int = 1) -> None:
        """Begin with nobody who holds anything.

        :param next_id: the ID of the next allocation
        """
        self.next_id = next_id
        # One board each, or a rectangle of triads.
        self._boards: dict[int, Board] = {}
        self._triads: dict[int, Rectangle] = {}

    def to_plain(self) -> dict[str, Any]:
        """Plain data, for `from_plain`."""
        return {
            "next_id": self.next_id,
            "boards": dict(self._boards),
            "triads": {i: tuple(held) for i, held in self._triads.items()},
        }

    @staticmethod
    def from_plain(data: dict[str, Any]) -> Holdings:
        """Take up again what `to_plain` gave, of which the types have been checked."""
        holdings = Holdings(data["next_id"])
        holdings._boards = dict(data["boards"])
        holdings._triads = {i: Rectangle(*t) for i, t in data["triads"].items()}
        return holdings

    def hold_board(self, board: Board) -> int:
        """Note a new allocation of one board; its ID."""
        allocation_id = self._take_id()
        self._boards[allocation_id] = board
        return allocation_id

    def hold_triads(self, x: int, y: int, width: int, height: int) -> int:
        """Note a new allocation of a rectangle; its ID."""
        allocation_id = self._take_id()
        self._triads[allocation_id] = Rectangle(x, y, width, height)
        return allocation_id

    def _take_id(self) -> int:
        allocation_id = self.next_id
        self.next_id += 1
        return allocation_id

    def __contains__(self, allocation_id: int) -> bool:
        return allocation_id in self._boards or allocation_id in self._triads

    def take_board(self, allocation_id: int) -> Board | None:
        """Forget an allocation of one board, if it is one."""
        return self._boards.pop(allocation_id, None)

    def take_triads(self, allocation_id: int) -> Rectangle:
        """Forget an allocation of a rectangle."""
        return self._triads.pop(allocation_id)

    def by_corner(self) -> dict[tuple[int, int], list[int]]:
        """All of them, by the corner of the rectangle that they are or lie in."""
        holders: dict[tuple[int, int], list[int]] = {}
        for allocation_id, (x, y, _) in self._boards.items():
            holders.setdefault((x, y), []).append(allocation_id)
        for allocation_id, rectangle in self._triads.items():
            holders[rectangle[0], rectangle[1]] = [allocation_id]
        return holders

    def sizes(self, allocations: Iterable[int]) -> list[int]:
        """How many boards allocations have, of those that are not free again.

        :param allocations: IDs, some of which may be free
        """
        boards = []
        for allocation_id in allocations:
            rectangle = self._triads.get(allocation_id)
            if rectangle is not None:
                boards.append(3 * rectangle.width * rectangle.height)
            elif allocation_id in self._boards:
                boards.append(1)
        return boards

    def boards(self) -> list[Board]:
        """Those that are held one by one."""
        return list(self._boards.values())

    def rectangles(self) -> list[Rectangle]:
        """Those of triads that are held."""
        return list(self._triads.values())

    def __iter__(self) -> Iterator[tuple[int, Iterable[Board]]]:
        """The ID and the boards of each.

        The boards of a rectangle are all there are in it, working or not.
        """
        for allocation_id, board in self._boards.items():
            yield allocation_id, (board,)
        for allocation_id, rectangle in self._triads.items():
            yield allocation_id, boards_of_triads(*rectangle)
