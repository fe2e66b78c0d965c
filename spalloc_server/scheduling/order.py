"""Jobs in order, as long as they wait."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator

#: Where a job stands in a line: the round, the number in the order of arrival, and a
#: number among those that were put behind another one. The lower, the earlier.
Key = tuple[int, int, int]

#: Where a job stands, and its ID.
Place = tuple[int, int, int, int]

#: Those who have left are cleared away when there are many more of them.
_MANY = 64

#: One who has left is taken out of the list by itself where there are so many times as
#: many in it; else all are at once.
_FEW = 32


class Order:
    """Places of jobs, in order.

    Who leaves is only noted. That is made up for when they come to be the first, or
    when somebody asks how many there are, so that none of it takes time in proportion
    to all others each time that one leaves.
    """

    __slots__ = ("_asked", "_gone", "_places", "_start")

    def __init__(self) -> None:
        """Begin with nobody."""
        self._places: list[Place] = []
        # Before this index nobody is left.
        self._start = 0
        # Those from there on who have left, by ID.
        self._gone: dict[int, Place] = {}
        # Where the one stands who was asked for last.
        self._asked = 0

    def __len__(self) -> int:
        return len(self._places) - self._start - len(self._gone)

    def __iter__(self) -> Iterator[Place]:
        """All places, in order."""
        self._settle()
        return iter(self._places[self._start :])

    def add(self, place: Place) -> None:
        """Put a job in."""
        if place[3] in self._gone:
            self._settle()
        places = self._places
        if not places or places[-1] < place:
            places.append(place)
        else:
            insort(places, place, self._start)

    def discard(self, place: Place) -> None:
        """Take out a job that is in it."""
        self._gone[place[3]] = place
        if self._start + len(self._gone) > _MANY + len(self._places) // 2:
            self._clear_away()

    def first(self) -> Place | None:
        """The first place, None if there is nobody."""
        places, gone, start = self._places, self._gone, self._start
        while gone and gone.pop(places[start][3], None) is not None:
            start += 1
        self._start = start
        return places[start] if start < len(places) else None

    def before(self, place: Place) -> int:
        """How many stand before a place."""
        if self._gone:
            self._settle()
        places, index = self._places, self._asked + 1
        # Mostly it is asked for many, one after the other.
        if index >= len(places) or places[index] is not place:
            index = bisect_left(places, place, self._start)
        self._asked = index
        return index - self._start

    def after(self, place: Place) -> Iterator[Place]:
        """Those that come after a place, in order."""
        self._settle()
        places = self._places
        first = bisect_right(places, place, self._start)
        return (places[index] for index in range(first, len(places)))

    def _settle(self) -> None:
        """Have nobody in the list who has left, from the start on."""
        if not self._gone:
            return
        if len(self._gone) * _FEW > len(self._places):
            self._clear_away()
            return
        places = self._places
        for place in self._gone.values():
            del places[bisect_left(places, place, self._start)]
        self._gone.clear()

    def _clear_away(self) -> None:
        """Have nobody in the list who has left."""
        gone = self._gone
        self._places = [p for p in self._places[self._start :] if p[3] not in gone]
        self._start = 0
        gone.clear()
