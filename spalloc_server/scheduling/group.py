"""The jobs of a line that ask for the same: what is found of one holds for all."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable, Mapping
from heapq import heapify, heappop, heappush

from spalloc_server.scheduling.order import Place

#: Who hands jobs in, by the name that the client gives; None for no name.
Owner = str | None

#: A job of a line: its place, whose it is, those that ask for the same, and, where
#: owners take turns, the rounds in which those jobs wait that it takes turns with.
Stand = tuple[Place, Owner, "Group", OrderedDict[int, int] | None]

#: What is not valid any more is cleared away when there is much more of it.
_MANY = 64


class Group:
    """Jobs that ask for the same, those of each owner in order.

    Who leaves, and was not the first of an owner's, is left among the others until it
    comes to be.
    """

    __slots__ = (
        "_gone",
        "_heap",
        "_look_at",
        "_places",
        "_set_aside",
        "_stands",
        "area",
        "blocked",
        "boards",
        "first",
        "held_back",
        "noted",
        "request",
        "size_class",
    )

    def __init__(
        self,
        stands: Mapping[int, Stand],
        request: Hashable,
        area: int,
        boards: int,
        size_class: int,
    ) -> None:
        """Start with no job.

        :param stands: all jobs of the line, by ID
        :param request: what they ask for
        :param area: how many free triads they need at least, 0 for single boards
        :param boards: for how many boards each counts
        :param size_class: of what owners take turns for
        """
        self.request = request
        self.area = area
        self.boards = boards
        self.size_class = size_class
        self.blocked = False
        """Is it known that they do not fit at present?"""
        self.held_back = False
        """Do they need what is given to nobody at present?"""
        self.first: Place | None = None
        """The first job that is not set aside."""
        self.noted: Place | None = None
        """Which one the line has been told of."""
        self._stands = stands
        # Of each owner who has any; the first is always one that is there.
        self._places: dict[Owner, deque[Place]] = {}
        # How many of these have left, and when it is worth looking whether that is too
        # many.
        self._gone = 0
        self._look_at = _MANY
        self._set_aside: frozenset[Owner] = frozenset()
        # The first of each owner who is not set aside. An entry that is not true any
        # more is dropped when it comes to the top.
        self._heap: list[Place] = []

    def add(self, place: Place, owner: Owner) -> None:
        """Put a job in."""
        places = self._places.get(owner)
        if places is None:
            self._places[owner] = deque([place])
            self._push(place)
        elif places[-1] < place:
            places.append(place)
        else:
            before = places[0]
            places.append(place)
            self._clear_away(owner)
            if place < before:
                self._push(place)

    def discard(self, place: Place, owner: Owner) -> bool:
        """Take out a job that has left the line; whether there are others."""
        places = self._places[owner]
        if places[0] is not place:
            self._gone += 1
            if self._gone > self._look_at:
                self._look_after_gone()
            return True
        places.popleft()
        while places and not self._is_there(places[0]):
            places.popleft()
            self._gone -= 1
        if places:
            self._push(places[0])
        else:
            del self._places[owner]
            if owner in self._set_aside:
                self._set_aside -= {owner}
            self._find_first()
        return bool(self._places)

    def set_aside(self, owner: Owner) -> None:
        """Pass over the jobs of an owner."""
        self._set_aside |= {owner}
        self._find_first()

    def restore(self, owner: Owner) -> bool:
        """Pass over an owner's jobs no longer; whether they were passed over."""
        if owner not in self._set_aside:
            return False
        self._set_aside -= {owner}
        self._push(self._places[owner][0])
        return True

    def restore_all(self) -> None:
        """Pass over nobody any more."""
        for owner in self._set_aside:
            self.restore(owner)

    def is_set_aside(self, owner: Owner) -> bool:
        """Are the jobs of an owner passed over?"""
        return owner in self._set_aside

    def any_job(self) -> int:
        """One of the jobs."""
        return next(iter(self._places.values()))[0][3]

    def hold_back(self, held_back: bool) -> None:
        """Pass over all jobs, or no longer."""
        self.held_back = held_back
        self._find_first()

    def _push(self, place: Place) -> None:
        """Note who is the first of an owner's now."""
        if len(self._heap) > _MANY + 4 * len(self._places):
            self._heap = [places[0] for places in self._places.values()]
            heapify(self._heap)
        else:
            heappush(self._heap, place)
        self._find_first()

    def _find_first(self) -> None:
        heap = self._heap
        while heap and not self._is_first(heap[0]):
            heappop(heap)
        self.first = heap[0] if heap and not self.held_back else None

    def _is_first(self, place: Place) -> bool:
        """Is this the first of an owner's, who is not set aside?"""
        found = self._stands.get(place[3])
        if found is None or found[0] is not place:
            return False
        owner = found[1]
        return self._places[owner][0] is place and owner not in self._set_aside

    # Those who have left

    def _is_there(self, place: Place) -> bool:
        found = self._stands.get(place[3])
        return found is not None and found[0] is place

    def _look_after_gone(self) -> None:
        """Clear away who has left, if they are as many as those who are there."""
        entries = sum(len(places) for places in self._places.values())
        if 2 * self._gone > entries:
            for owner in self._places:
                self._clear_away(owner)
        self._look_at = max(_MANY, entries // 2)

    def _clear_away(self, owner: Owner) -> None:
        """Have nobody in the list of an owner who has left, and all in order."""
        places = self._places[owner]
        there = sorted(place for place in places if self._is_there(place))
        self._gone -= len(places) - len(there)
        self._places[owner] = deque(there)
