"""How long jobs of like size have recently waited and run, for estimates."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque

#: Of how many jobs of each size the times are remembered.
_REMEMBERED = 64

#: Nothing is said where fewer have taken as long as the one that is asked about.
FEWEST = 5


class RecentTimes:
    """Seconds that something took, by size.

    Sizes are alike if they are between the same two powers of two. Nothing of it
    outlives the process: it takes part in no decision.
    """

    def __init__(self) -> None:
        self._latest: dict[int, deque[float]] = {}
        self._sorted: dict[int, list[float]] = {}

    def add(self, boards: int, seconds: float) -> None:
        """Note that it took a job of so many boards so long."""
        size = boards.bit_length()
        latest = self._latest.setdefault(size, deque())
        ordered = self._sorted.setdefault(size, [])
        latest.append(seconds)
        insort(ordered, seconds)
        if len(latest) > _REMEMBERED:
            del ordered[bisect_left(ordered, latest.popleft())]

    def range(self, boards: int, so_far: float) -> tuple[float, float] | None:
        """How long it takes a job in all, for which it has taken some time already.

        :param so_far: seconds
        :return: seconds between which the middle half of those was that took longer
            than that; None where there are too few of them
        """
        ordered = self._sorted.get(boards.bit_length(), ())
        first = bisect_right(ordered, so_far)
        number = len(ordered) - first
        if number < FEWEST:
            return None
        return ordered[first + number // 4], ordered[first + 3 * number // 4]
