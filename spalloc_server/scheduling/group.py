"""The jobs of a line that ask for the same: what is found of one holds for all."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from heapq import heapify, heappop, heappush

from spalloc_server.scheduling.order import Place

#: Who hands jobs in, by the name that the client gives; None for no name.
Owner = str | None

#: A job of a line: its place, whose it is, and those that ask for the same.
Stand = tuple[Place, Owner, "Group"]

#: What is not valid any more is cleared away when there is much more of it.
_MANY = 64


class Group:
    """Jobs that ask for the same, those of each owner in order.

    Who leaves, and was not the first of an owner's, is left among the others until it
    comes to be.
    """

    __slots__ = (
        "_firsts",
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
        self._set_aside: set[Owner] = set()
        # The first of each owner who is not set aside; and a heap of these, in which an
        # entry that is not true any more is dropped when it comes to the top.
        self._firsts: set[Place] = set()
        self._heap: list[Place] = []

    def __bool__(self) -> bool:
        return bool(self._places)

    def add(self, place: Place, owner: Owner) -> None:
        """Put a job in."""
        places = self._places.get(owner)
        if places is None:
            self._places[owner] = deque([place])
            self._replace_first(owner, None, place)
        elif places[-1] < place:
            places.append(place)
        else:
            before = places[0]
            places.append(place)
            self._clear_away(owner)
            if place < before:
                self._replace_first(owner, before, place)

    def discard(self, place: Place, owner: Owner) -> None:
        """Take out a job that has left the line."""
        places = self._places[owner]
        if places[0] is not place:
            self._gone += 1
            if self._gone > self._look_at:
                self._look_after_gone()
            return
        places.popleft()
        while places and not self._is_there(places[0]):
            places.popleft()
            self._gone -= 1
        self._replace_first(owner, place, places[0] if places else None)
        if not places:
            del self._places[owner]
            self._set_aside.discard(owner)

    def set_aside(self, owner: Owner) -> None:
        """Pass over the jobs of an owner."""
        self._replace_first(owner, self._places[owner][0], None)
        self._set_aside.add(owner)

    def restore(self, owner: Owner) -> bool:
        """Pass over an owner's jobs no longer; whether they were passed over."""
        if owner not in self._set_aside:
            return False
        self._set_aside.remove(owner)
        self._replace_first(owner, None, self._places[owner][0])
        return True

    def restore_all(self) -> None:
        """Pass over nobody any more."""
        for owner in list(self._set_aside):
            self.restore(owner)

    def is_set_aside(self, owner: Owner) -> bool:
        """Are the jobs of an owner passed over?"""
        return owner in self._set_aside

    def any_job(self) -> int:
        """One of the jobs."""
        return next(iter(self._places.values()))[0][1]

    def hold_back(self, held_back: bool) -> None:
        """Pass over all jobs, or no longer."""
        self.held_back = held_back
        self._find_first()

    def _replace_first(
        self, owner: Owner, before: Place | None, now: Place | None
    ) -> None:
        """Note who is the first of an owner's now, unless the owner is set aside.

        :param before: who was until now; None for nobody
        :param now: who is from now on; None for nobody
        """
        if owner in self._set_aside:
            return
        if before is not None:
            self._firsts.discard(before)
        if now is not None:
            self._firsts.add(now)
            if len(self._heap) > _MANY + 4 * len(self._firsts):
                self._heap = list(self._firsts)
                heapify(self._heap)
            else:
                heappush(self._heap, now)
        self._find_first()

    def _find_first(self) -> None:
        heap = self._heap
        while heap and heap[0] not in self._firsts:
            heappop(heap)
        self.first = heap[0] if heap and not self.held_back else None

    # Those who have left

    def _is_there(self, place: Place) -> bool:
        found = self._stands.get(place[1])
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
