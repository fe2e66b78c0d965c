"""The line of jobs that wait for one machine: who is before whom, and who may be tried.

In a *fair* line each owner has one place in each *round*, however many jobs the owner
hands in: the first goes into the round that the head of the line is in, the next into
the one after that. Rounds are served one after the other, and within a round jobs are
served in the order in which they came. A place does not change while its job waits, and
nothing that comes later is put before the head.

What a job is put behind is therefore bounded. If it goes n rounds behind the head's,
then at most n later jobs of each other owner can come to stand before it.

In a line that is not fair, jobs stand in the order in which they came.

Jobs with the same request form a *group*: when one of them does not fit, nor do the
others, and none is tried again before there is room that might do. So an event costs
time in proportion to the number of different requests at most, whoever waits.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

from spalloc_server.scheduling.group import Group, Key, Owner

#: Places that are not valid any more are cleared away when there are many more of them.
_MANY = 64


class Line:
    """Who waits for a machine, in order."""

    def __init__(self, fair: bool) -> None:
        """Start with nobody.

        :param fair: do owners take turns?
        """
        self.fair = fair
        self._groups: dict[Hashable, Group] = {}
        self._group_of: dict[int, tuple[Hashable, Group]] = {}
        # In order; who stands where is asked for more often than it changes.
        self._keys: list[Key] = []
        self._rounds: dict[Owner, int] = {}
        self._round = 0
        # The first of each group, and of each that may be tried. An entry that is not
        # true any more is dropped when it comes to the top.
        self._firsts: list[tuple[Key, int]] = []
        self._ready: list[tuple[Key, int]] = []

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._group_of

    def __iter__(self) -> Iterator[int]:
        """All jobs, in order."""
        jobs = [place for group in self._groups.values() for place in group.places()]
        return (job_id for _, job_id in sorted(jobs))

    def append(
        self,
        job_id: int,
        owner: Owner,
        number: int,
        request: Hashable,
        area: int,
        boards: int,
    ) -> None:
        """Put a job where it belongs.

        :param number: more than that of those who came before
        :param request: the same for jobs that ask for the same
        :param area: how many free triads it needs at least, 0 for single boards
        :param boards: for how many boards it counts
        """
        turn = 0
        if self.fair:
            turn = self._next_round(owner)
            self._rounds[owner] = turn
        self.insert(job_id, owner, (turn, number, 0), request, area, boards)

    def insert(
        self,
        job_id: int,
        owner: Owner,
        key: Key,
        request: Hashable,
        area: int,
        boards: int,
    ) -> None:
        """Put a job in a place of its own, see `append`."""
        group = self._groups.get(request)
        if group is None:
            group = self._groups[request] = Group(area, boards)
        group.add(job_id, owner, key)
        self._group_of[job_id] = request, group
        insort(self._keys, key)
        self._note(group)

    def discard(self, job_id: int) -> None:
        """Take a job out.

        :raises KeyError: if it is not in the line
        """
        request, group = self._group_of.pop(job_id)
        key = group.discard(job_id)
        del self._keys[bisect_left(self._keys, key)]
        if group:
            self._note(group)
        else:
            del self._groups[request]
        if not self._keys:
            self._rounds.clear()
            self._round = 0

    def first_place(self, behind: int | None = None) -> Key:
        """A place before everybody else, or right behind somebody.

        :param behind: the job that stays before it
        """
        if behind is not None:
            turn, number, sub = self.key_of(behind)
            after = bisect_left(self._keys, (turn, number, sub)) + 1
            while after < len(self._keys) and self._keys[after][:2] == (turn, number):
                sub = self._keys[after][2]
                after += 1
            return turn, number, sub + 1
        if not self._keys:
            return self._round, 0, 0
        turn, number, _ = self._keys[0]
        return turn, min(number, 0) - 1, 0

    def head(self) -> int | None:
        """The first job that is not set aside."""
        firsts = self._firsts
        while firsts:
            place = firsts[0]
            found = self._group_of.get(place[1])
            if found is not None and found[1].first == place:
                self._round = place[0][0]
                return place[1]
            heappop(firsts)
        return None

    def next_to_try(self) -> int | None:
        """The first job that is not set aside, and not known not to fit."""
        ready = self._ready
        while ready:
            place = ready[0]
            found = self._group_of.get(place[1])
            if found is not None and not found[1].blocked and found[1].first == place:
                return place[1]
            heappop(ready)
        return None

    def block(self, job_id: int) -> None:
        """Do not try this job, nor others that ask for the same, before `unblock`."""
        self._group_of[job_id][1].blocked = True

    def unblock(self, room: float) -> None:
        """There has come to be a free rectangle of this area, in triads."""
        if room < 0:
            return
        for group in self._groups.values():
            if group.blocked and group.area <= room:
                group.blocked = False
                if group.first is not None:
                    heappush(self._ready, group.first)

    def set_aside(self, job_id: int, owner: Owner) -> None:
        """Pass over what its owner asks for with this job, until `restore`."""
        group = self._group_of[job_id][1]
        group.set_aside(owner)
        self._note(group)

    def restore(self, owner: Owner) -> None:
        """Pass over nothing of this owner any more."""
        for group in self._groups.values():
            if group.restore(owner):
                self._note(group)

    def restore_all(self) -> None:
        """Pass over nobody any more."""
        for group in self._groups.values():
            group.restore_all()
            self._note(group)

    def is_set_aside(self, job_id: int) -> bool:
        """Is this job passed over?"""
        return self._group_of[job_id][1].is_set_aside(job_id)

    def key_of(self, job_id: int) -> Key:
        """The place of a job: the lower, the earlier.

        :raises KeyError: if it is not in the line
        """
        return self._group_of[job_id][1].key_of(job_id)

    def jobs_before(self, job_id: int) -> int:
        """How many jobs stand before this one.

        :raises KeyError: if it is not in the line
        """
        return bisect_left(self._keys, self.key_of(job_id))

    def rounds_before(self, job_id: int) -> int:
        """In how many rounds from the head's on others may come to stand before it."""
        self.head()
        return max(0, self.key_of(job_id)[0] - self._round)

    def rounds(self) -> tuple[int, dict[Owner, int]]:
        """The round of the head, and the last one of each owner, to be stored."""
        return self._round, dict(self._rounds)

    def set_rounds(self, turn: int, rounds: dict[Owner, int]) -> None:
        """Go on from `rounds`."""
        self._round, self._rounds = turn, rounds

    def _next_round(self, owner: Owner) -> int:
        self.head()
        if len(self._rounds) > 2 * len(self._keys) + _MANY:
            self._rounds = {
                name: turn for name, turn in self._rounds.items() if turn >= self._round
            }
        return max(self._round, self._rounds.get(owner, -1) + 1)

    def _note(self, group: Group) -> None:
        """Note who is the first of a group now."""
        place = group.first
        if place == group.noted:
            return
        group.noted = place
        if place is None:
            return
        most = _MANY + 4 * len(self._groups)
        if len(self._firsts) > most:
            self._firsts = [g.first for g in self._groups.values() if g.first]
            heapify(self._firsts)
        else:
            heappush(self._firsts, place)
        if group.blocked:
            return
        if len(self._ready) > most:
            self._ready = [
                g.first for g in self._groups.values() if g.first and not g.blocked
            ]
            heapify(self._ready)
        else:
            heappush(self._ready, place)
