"""Where a machine is faulty, so that intact regions are recognised at once."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from itertools import accumulate

from spalloc_server.coordinates import Board, BoardLink


class FaultMap:
    """Counts of dead boards and links, summed so that any rectangle costs the same.

    Immutable; any thread may use it.
    """

    __slots__ = ("_dead_in_row", "_link_sums", "_sums")

    def __init__(
        self,
        width: int,
        height: int,
        dead_boards: Iterable[Board],
        dead_links: Iterable[BoardLink],
    ) -> None:
        """Sum up the faults of a machine.

        :param width: of the machine, in triads
        :param height: of the machine, in triads
        """
        dead = sorted(set(dead_boards))
        links = list(dead_links)
        self._sums = _summed(width, height, [(x, y) for x, y, *_ in (*dead, *links)])
        self._link_sums = self._sums
        if dead:
            self._link_sums = _summed(width, height, [(x, y) for x, y, *_ in links])
        # The dead boards of each row of triads that has some, from left to right.
        self._dead_in_row: dict[int, list[Board]] = {}
        for board in dead:
            self._dead_in_row.setdefault(board[1], []).append(board)

    def is_intact(self, x: int, y: int, width: int, height: int) -> bool:
        """Has this rectangle of triads no dead board and no dead link?

        A dead link counts for the triad of the board that sends down it.
        """
        below, above = self._sums[y], self._sums[y + height]
        return above[x + width] - above[x] == below[x + width] - below[x]

    def has_dead_links(self, x: int, y: int, width: int, height: int) -> bool:
        """Does a board of this rectangle of triads send down a dead link?"""
        below, above = self._link_sums[y], self._link_sums[y + height]
        return above[x + width] - above[x] != below[x + width] - below[x]

    def dead_boards(self, x: int, y: int, width: int, height: int) -> list[Board]:
        """The dead boards of a rectangle of triads."""
        found: list[Board] = []
        for row in range(y, y + height):
            dead = self._dead_in_row.get(row)
            if dead is not None:
                first = bisect_left(dead, (x, row, 0))
                found += dead[first : bisect_left(dead, (x + width, row, 0), first)]
        return found


def _summed(
    width: int, height: int, triads: Iterable[tuple[int, int]]
) -> list[list[int]]:
    """For each row and column, how many are below that row, left of that column."""
    counts = [[0] * width for _ in range(height)]
    for x, y in triads:
        if 0 <= x < width and 0 <= y < height:
            counts[y][x] += 1
    sums = [[0] * (width + 1)]
    for row in counts:
        in_row = accumulate(row, initial=0)
        sums.append([a + b for a, b in zip(sums[-1], in_row, strict=True)])
    return sums
