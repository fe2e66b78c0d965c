"""Where a machine is faulty, so that intact regions are recognised at once."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import accumulate

from spalloc_server.coordinates import Board, BoardLink


class FaultMap:
    """Counts of dead boards and links, summed so that any rectangle costs the same.

    Immutable; any thread may use it.
    """

    __slots__ = ("_sums",)

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
        counts = [[0] * width for _ in range(height)]
        for x, y, *_ in (*dead_boards, *dead_links):
            if 0 <= x < width and 0 <= y < height:
                counts[y][x] += 1
        # _sums[y][x] counts the faults of all triads below row y, left of column x.
        self._sums = [[0] * (width + 1)]
        for row in counts:
            below = self._sums[-1]
            in_row = accumulate(row, initial=0)
            self._sums.append([a + b for a, b in zip(below, in_row, strict=True)])

    def is_intact(self, x: int, y: int, width: int, height: int) -> bool:
        """Has this rectangle of triads no dead board and no dead link?

        A dead link counts for the triad of the board that sends down it.
        """
        below, above = self._sums[y], self._sums[y + height]
        return above[x + width] - above[x] == below[x + width] - below[x]
