"""The jobs of a line that ask for the same: what is found of one holds for all."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

#: Who hands jobs in, by the name that the client gives; None for no name.
Owner = str | None

#: A place in the line: the round, the number in the order of arrival, and a number
#: among those that were put behind another one.
Key = tuple[int, int, int]

#: Places that are not valid any more are cleared away when there are many more of them.
_MANY = 64


class Group:
    """Jobs that ask for the same, those of each owner in order."""

    __slots__ = (
        "_heap",
        "_jobs",
        "_owner_of",
        "_set_aside",
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
        self, request: Hashable, area: int, boards: int, size_class: int
    ) -> None:
        """Start with no job.

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
        self.first: tuple[Key, int] | None = None
        """The first job that is not set aside, and its place."""
        self.noted: tuple[Key, int] | None = None
        """Which one the line has been told of."""
        self._owner_of: dict[int, Owner] = {}
        self._jobs: dict[Owner, OrderedDict[int, Key]] = {}
        self._set_aside: set[Owner] = set()
        # The first of each owner. An entry that is not true any more is dropped when
        # it comes to the top.
        self._heap: list[tuple[Key, int]] = []

    def __bool__(self) -> bool:
        return bool(self._owner_of)

    def add(self, job_id: int, owner: Owner, key: Key) -> None:
        """Put a job in."""
        self._owner_of[job_id] = owner
        jobs = self._jobs.get(owner)
        if jobs is None:
            self._jobs[owner] = OrderedDict({job_id: key})
            self._push(owner)
            return
        is_last = jobs[next(reversed(jobs))] < key
        jobs[job_id] = key
        if is_last:
            return
        jobs = OrderedDict(sorted(jobs.items(), key=lambda item: item[1]))
        self._jobs[owner] = jobs
        if next(iter(jobs)) == job_id:
            self._push(owner)

    def discard(self, job_id: int) -> Key:
        """Take a job out; the place that it had."""
        owner = self._owner_of.pop(job_id)
        jobs = self._jobs[owner]
        was_first = next(iter(jobs)) == job_id
        key = jobs.pop(job_id)
        if not jobs:
            del self._jobs[owner]
            self._set_aside.discard(owner)
        elif was_first:
            self._push(owner)
        if self.first is not None and self.first[1] == job_id:
            self._find_first()
        return key

    def set_aside(self, owner: Owner) -> None:
        """Pass over the jobs of an owner."""
        self._set_aside.add(owner)
        self._find_first()

    def restore(self, owner: Owner) -> bool:
        """Pass over an owner's jobs no longer; whether they were passed over."""
        if owner not in self._set_aside:
            return False
        self._set_aside.remove(owner)
        self._push(owner)
        return True

    def restore_all(self) -> None:
        """Pass over nobody any more."""
        for owner in list(self._set_aside):
            self.restore(owner)

    def owner_of(self, job_id: int) -> Owner:
        """Whose job this is."""
        return self._owner_of[job_id]

    def is_set_aside(self, job_id: int) -> bool:
        """Is this job passed over?"""
        return self._owner_of[job_id] in self._set_aside

    def key_of(self, job_id: int) -> Key:
        """The place of a job."""
        return self._jobs[self._owner_of[job_id]][job_id]

    def places(self) -> Iterator[tuple[Key, int]]:
        """All jobs and their places, in no order."""
        for jobs in self._jobs.values():
            for job_id, key in jobs.items():
                yield key, job_id

    def _push(self, owner: Owner) -> None:
        """Note who is the first of an owner's now."""
        if owner in self._set_aside:
            return
        if len(self._heap) > _MANY + 4 * len(self._jobs):
            self._heap = [
                (key, job_id)
                for name, jobs in self._jobs.items()
                if name not in self._set_aside
                for job_id, key in [next(iter(jobs.items()))]
            ]
            heapify(self._heap)
        else:
            job_id, key = next(iter(self._jobs[owner].items()))
            heappush(self._heap, (key, job_id))
        self._find_first()

    def any_job(self) -> int:
        """One of the jobs."""
        return next(iter(self._owner_of))

    def hold_back(self, held_back: bool) -> None:
        """Pass over all jobs, or no longer."""
        self.held_back = held_back
        self._find_first()

    def _find_first(self) -> None:
        if self.held_back:
            self.first = None
            return
        heap = self._heap
        while heap:
            job_id = heap[0][1]
            owner = self._owner_of.get(job_id)
            if job_id in self._owner_of and owner not in self._set_aside:
                jobs = self._jobs[owner]
                if next(iter(jobs)) == job_id and jobs[job_id] == heap[0][0]:
                    self.first = heap[0]
                    return
            heappop(heap)
        self.first = None
