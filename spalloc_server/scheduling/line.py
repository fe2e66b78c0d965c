"""The line of jobs that wait for one machine: who is before whom, and who may be tried.

In a *fair* line owners take turns. Each has one place in each *round* for each class of
size, however many jobs the owner hands in: the first of a class goes into the round of
the head of the line, the next into the one after that. Rounds are served one after the
other, and within a round jobs are served in the order in which they came. A place does
not change while its job waits, and nothing that comes later is put before the head. An
owner who is served as head of the line has had that place; one who is served out of
turn, since there happened to be room, has it back.

So there is a bound on what can pass a job. If it stands n rounds behind the head when
it comes, then before it is the head itself, at most n jobs of each class of size of
each other owner that came later are.

In a line that is not fair, jobs stand in the order in which they came.

Where the head does not fit, others are tried, those of the largest class of size first:
room that is large enough for them is rare, and small jobs would break it up.

Jobs that ask for the same form a `Group`: when one of them does not fit, nor do the
others, and none is tried again before there is room that might do. So an event costs
time in proportion to the number of different requests at most, whoever waits.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator
from heapq import heapify, heappop, heappush

from spalloc_server.scheduling.group import Group, Owner, Stand
from spalloc_server.scheduling.order import Key, Order, Place

#: Places that are not valid any more are cleared away when there are many more of them.
_MANY = 64


#: The class of size from which on jobs are tried first.
LARGE = 2

#: Who takes turns: an owner, for each class of size. A large job does not wait for
#: what small ones wait for, and so they need not wait for each other.
Taker = tuple[Owner, int]


class Line:
    """Who waits for a machine, in order."""

    def __init__(self, fair: bool) -> None:
        """Start with nobody.

        :param fair: do owners take turns?
        """
        self.fair = fair
        self._groups: dict[Hashable, Group] = {}
        self._stands: dict[int, Stand] = {}
        self._order = Order()
        # The last round in which one who takes turns was the head, and those that each
        # waits in.
        self._rounds: dict[Taker, int] = {}
        self._waiting: dict[Taker, OrderedDict[int, int]] = {}
        self._round = 0
        # The first of each group, and of each that may be tried. An entry that is not
        # true any more is dropped when it comes to the top.
        self._firsts: list[Place] = []
        # Of the latter, those that are tried first come first.
        self._ready: list[tuple[bool, Place]] = []

    def __len__(self) -> int:
        return len(self._stands)

    def __contains__(self, job_id: int) -> bool:
        return job_id in self._stands

    def __iter__(self) -> Iterator[int]:
        """All jobs, in order."""
        return (place[3] for place in self._order)

    def append(
        self,
        job_id: int,
        owner: Owner,
        number: int,
        request: Hashable,
        area: int,
        boards: int,
        size_class: int = 0,
    ) -> None:
        """Put a job in `next_place`; see `insert`."""
        key = self.next_place(owner, number, size_class)
        self.insert(job_id, owner, key, request, area, boards, size_class)

    def next_place(self, owner: Owner, number: int, size_class: int = 0) -> Key:
        """Where the next job of an owner belongs.

        :param number: more than that of those who came before
        :param size_class: its owner takes turns for each class by itself
        """
        turn = self._next_round((owner, size_class)) if self.fair else 0
        return turn, number, 0

    def insert(
        self,
        job_id: int,
        owner: Owner,
        key: Key,
        request: Hashable,
        area: int,
        boards: int,
        size_class: int = 0,
    ) -> None:
        """Put a job in a place.

        :param request: the same for jobs that ask for the same
        :param area: how many free triads it needs at least, 0 for single boards
        :param boards: for how many boards it counts
        :param size_class: its owner takes turns for each class by itself
        """
        group = self._groups.get(request)
        if group is None:
            group = self._groups[request] = Group(
                self._stands, request, area, boards, size_class
            )
        place = (*key, job_id)
        waiting = None
        self._order.add(place)
        if self.fair:
            taker = owner, size_class
            waiting = self._waiting.get(taker)
            if waiting is None:
                waiting = self._waiting[taker] = OrderedDict()
            waiting[job_id] = key[0]
            if key[2] or key[1] < 0:
                # It was put before others by hand.
                waiting.move_to_end(job_id, last=False)
        self._stands[job_id] = place, owner, group, waiting
        group.add(place, owner)
        if group.first is not group.noted:
            self._note(group)

    def discard(self, job_id: int) -> None:
        """Take a job out.

        :raises KeyError: if it is not in the line
        """
        place, owner, group, waiting = self._stands[job_id]
        is_first = group.first is place
        if waiting is not None:
            if is_first and self.head() == job_id:
                self._rounds[owner, group.size_class] = place[0]
            del waiting[job_id]
            if not waiting:
                del self._waiting[owner, group.size_class]
        del self._stands[job_id]
        self._order.discard(place)
        if not group.discard(place, owner):
            del self._groups[group.request]
            if not self._stands:
                self._rounds.clear()
                self._round = 0
        elif is_first:
            self._note(group)

    def first_place(self, behind: int | None = None) -> Key:
        """A place before everybody else, or right behind somebody.

        :param behind: the job that stays before it
        """
        if behind is not None:
            turn, number, sub = self.key_of(behind)
            for place in self._order.after(self._stands[behind][0]):
                if place[:2] != (turn, number):
                    break
                sub = place[2]
            return turn, number, sub + 1
        first = self._order.first()
        if first is None:
            return self._round, 0, 0
        turn, number, _, _ = first
        return turn, min(number, 0) - 1, 0

    def head(self) -> int | None:
        """The first job that is not set aside."""
        firsts = self._firsts
        while firsts:
            place = firsts[0]
            found = self._stands.get(place[3])
            if found is not None and found[2].first is place:
                self._round = place[0]
                return place[3]
            heappop(firsts)
        return None

    def next_to_try(self) -> int | None:
        """The next job that is not set aside, and not known not to fit.

        Large ones come first, then all others, in order.
        """
        ready = self._ready
        while ready:
            _, place = ready[0]
            found = self._stands.get(place[3])
            if found is not None:
                group = found[2]
                if group.first is place and not group.blocked:
                    return place[3]
            heappop(ready)
        return None

    def block(self, job_id: int) -> None:
        """Do not try this job, nor others that ask for the same, before `unblock`."""
        self._stands[job_id][2].blocked = True

    def is_blocked(self, job_id: int) -> bool:
        """Is it known that what this job asks for does not fit?"""
        return self._stands[job_id][2].blocked

    def unblock(self, room: float) -> None:
        """There has come to be a free rectangle of this area, in triads."""
        if room < 0:
            return
        for group in self._groups.values():
            if group.blocked and group.area <= room:
                group.blocked = False
                if group.first is not None:
                    heappush(self._ready, _trial(group, group.first))

    def set_aside(self, job_id: int, owner: Owner) -> None:
        """Pass over what its owner asks for with this job, until `restore`."""
        group = self._stands[job_id][2]
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

    def first(self) -> int | None:
        """The first job, whether it is passed over or not."""
        place = self._order.first()
        return None if place is None else place[3]

    def one_of_each(self) -> list[int]:
        """A job of each group of those that ask for the same."""
        return [group.any_job() for group in self._groups.values()]

    def hold_back(self, job_id: int, held_back: bool) -> None:
        """Pass over what this job asks for, or no more: it needs what nobody gets."""
        group = self._stands[job_id][2]
        group.hold_back(held_back)
        self._note(group)

    def is_held_back(self, job_id: int) -> bool:
        """Is what this job asks for what nobody gets?"""
        return self._stands[job_id][2].held_back

    def is_set_aside(self, job_id: int) -> bool:
        """Is this job passed over?"""
        _, owner, group, _ = self._stands[job_id]
        return group.is_set_aside(owner)

    def key_of(self, job_id: int) -> Key:
        """The place of a job: the lower, the earlier.

        :raises KeyError: if it is not in the line
        """
        return self._stands[job_id][0][:3]

    def place_of(self, job_id: int) -> tuple[int, Key]:
        """How many jobs stand before this one, and `key_of` it.

        :raises KeyError: if it is not in the line
        """
        place = self._stands[job_id][0]
        return self._order.before(place), place[:3]

    def jobs_before(self, job_id: int) -> int:
        """How many jobs stand before this one.

        :raises KeyError: if it is not in the line
        """
        return self._order.before(self._stands[job_id][0])

    def rounds_before(self, job_id: int) -> int:
        """In how many rounds from the head's on others may come to stand before it."""
        self.head()
        return max(0, self.key_of(job_id)[0] - self._round)

    def rounds(self) -> tuple[int, dict[Taker, int]]:
        """The round of the head, and who was the head in which, to be stored."""
        return self._round, dict(self._rounds)

    def set_rounds(self, turn: int, rounds: dict[Taker, int]) -> None:
        """Go on from `rounds`."""
        self._round, self._rounds = turn, rounds

    def _next_round(self, taker: Taker) -> int:
        self.head()
        if len(self._rounds) > 2 * len(self._stands) + _MANY:
            self._rounds = {
                other: turn
                for other, turn in self._rounds.items()
                if turn >= self._round
            }
        last = self._rounds.get(taker, -1)
        waiting = self._waiting.get(taker)
        if waiting is not None:
            last = max(last, waiting[next(reversed(waiting))])
        return max(self._round, last + 1)

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
                _trial(g, g.first)
                for g in self._groups.values()
                if g.first and not g.blocked
            ]
            heapify(self._ready)
        else:
            heappush(self._ready, _trial(group, place))


def _trial(group: Group, place: Place) -> tuple[bool, Place]:
    """When to try the first of a group: the lower, the earlier."""
    return group.size_class < LARGE, place
