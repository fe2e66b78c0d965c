"""Allocate the boards of one machine: single boards and rectangles of triads.

Rectangles come from a `PackTree`; a `_CandidateFilter` keeps it to those with
few enough faults. Single boards share triads, so that they do not each cost
three boards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from math import inf
from typing import Any

from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.links import Links
from spalloc_server.pack_tree import PackTree
from spalloc_server.placement import parts
from spalloc_server.placement.candidate_filter import _CandidateFilter
from spalloc_server.placement.documented_forms import Allocation, DocumentedForms
from spalloc_server.placement.free_regions import Sizes, exact_size
from spalloc_server.placement.holdings import Holdings
from spalloc_server.placement.mending import cut_anew
from spalloc_server.placement.plans import Plans, _AllocationType
from spalloc_server.placement.region import Region
from spalloc_server.placement.shared_triads import SharedTriads
from spalloc_server.plain.shapes import (
    INT,
    NUMBER,
    PlainDataError,
    anything_plain,
    dict_of,
    fields,
    ints,
    list_of,
    one_of,
    set_of,
    tuple_of,
)

__all__ = ["Allocation", "Allocator", "_AllocationType", "_CandidateFilter"]

_EAST, _NORTH_EAST, _NORTH, _WEST, _SOUTH_WEST, _SOUTH = Links
_NO_TORUS = WrapAround.none

#: How to ask `Allocator.alloc` for any single board.
_ANY_BOARD = ((), (1,))

#: What a single board takes from free regions where no shared triad has one left.
_ONE_TRIAD = Sizes(exact_size(1, 1))


_STATE = fields(
    "allocator",
    {
        "width": INT,
        "height": INT,
        "next_id": INT,
        "seconds_before_free": NUMBER,
        "dead_boards": set_of(ints(3)),
        "dead_links": set_of(tuple_of(INT, INT, INT, one_of(*map(int, Links)))),
        "boards": dict_of(INT, ints(3)),
        "triads": dict_of(INT, ints(4)),
        "cooling": list_of(tuple_of(INT, NUMBER)),
        "shared_triads": anything_plain,
        "pack_tree": anything_plain,
    },
)


class Allocator(DocumentedForms):
    """The boards of one machine, and who holds them.

    Not thread safe.
    """

    clock: Callable[[], float] = staticmethod(time.monotonic)
    """Where the seconds that boards cool down are counted. Replace it on an
    instance to set the time by hand."""

    def __init__(
        self,
        width: int,
        height: int,
        dead_boards: Iterable[Board] | None = None,
        dead_links: Iterable[BoardLink] | None = None,
        next_id: int = 1,
        seconds_before_free: float = 30,
    ) -> None:
        """Start with every working board free.

        :param width: of the machine, in triads
        :param height: of the machine, in triads
        :param dead_boards: boards that must not be given out
        :param dead_links: links that do not work, each named from the board that
            sends. A link that is down both ways is named twice. Links to dead
            boards need not be named.
        :param next_id: the ID of the next allocation
        :param seconds_before_free: how long freed boards stay out of use
        """
        self.width = width
        self.height = height
        self.seconds_before_free = seconds_before_free
        self.pack_tree = PackTree(0, 0, width, height)
        self.generation = 0
        """Counts the changes after which a request that failed may succeed."""
        self._holdings = Holdings(next_id)
        # Of those that were given back, when they may be given out again, in the
        # order in which they were given back.
        self._cooling: dict[int, float] = {}
        self._shared_triads = SharedTriads(frozenset())
        self._set_faults(frozenset(dead_boards or ()), frozenset(dead_links or ()))

    def _set_faults(
        self,
        boards: frozenset[Board],
        links: frozenset[BoardLink],
        withheld: frozenset[Board] = frozenset(),
    ) -> None:
        self._withheld = withheld - boards
        # All that must not be given out, for whatever reason.
        boards |= withheld
        self._dead_boards = boards
        self._dead_links = links
        self._plans = Plans(self.width, self.height, boards, links)
        # Says what is possible while boards are withheld, which must not count for it.
        self._judge = self._plans
        if self._withheld:
            dead = boards - self._withheld
            self._judge = Plans(self.width, self.height, dead, links)
        self.generation += 1
        self._room: float = inf
        self._shared_triads.set_dead_boards(boards)

    @property
    def next_id(self) -> int:
        """The ID of the next allocation."""
        return self._holdings.next_id

    @property
    def dead_boards(self) -> frozenset[Board]:
        """Boards that do not work. Standing allocations keep theirs."""
        return self._dead_boards - self._withheld

    @dead_boards.setter
    def dead_boards(self, boards: Iterable[Board]) -> None:
        self._set_faults(frozenset(boards), self._dead_links, self._withheld)

    @property
    def withheld_boards(self) -> frozenset[Board]:
        """Boards that are not given out for now, though they belong to the machine:
        what needs them is possible, and has to wait.
        """
        return self._withheld

    @withheld_boards.setter
    def withheld_boards(self, boards: Iterable[Board]) -> None:
        self._set_faults(self.dead_boards, self._dead_links, frozenset(boards))

    @property
    def dead_links(self) -> frozenset[BoardLink]:
        """Links that do not work, each named from the board that sends."""
        return self._dead_links

    @dead_links.setter
    def dead_links(self, links: Iterable[BoardLink]) -> None:
        self._set_faults(self.dead_boards, frozenset(links), self._withheld)

    def __getstate__(self) -> dict[str, Any]:
        """Plain data, but for what is kept: `keep` has to be called again.

        Cooling times are seconds left: clocks end with the process. Boards that are
        withheld count as dead ones; whoever knows why they are has to say so again.
        """
        now = self.clock()
        return {
            "width": self.width,
            "height": self.height,
            "seconds_before_free": self.seconds_before_free,
            "dead_boards": set(self._dead_boards),
            "dead_links": {(x, y, z, int(link)) for x, y, z, link in self._dead_links},
            **self._holdings.to_plain(),
            "cooling": [(i, until - now) for i, until in self._cooling.items()],
            "shared_triads": self._shared_triads.to_plain(),
            "pack_tree": self.pack_tree.__getstate__(),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Boards that were cooling down do so for as long as they had left.

        :raises PlainDataError: if it is no such state
        """
        _STATE(state, "allocator")
        now = self.clock()
        self.width = state["width"]
        self.height = state["height"]
        self.seconds_before_free = state["seconds_before_free"]
        self.generation = 0
        self._holdings = Holdings.from_plain(state)
        self._cooling = {i: left + now for i, left in state["cooling"]}
        if not all(allocation_id in self._holdings for allocation_id in self._cooling):
            raise PlainDataError("allocator: boards cool down that nobody has had")
        self.pack_tree = PackTree.__new__(PackTree)
        self.pack_tree.__setstate__(state["pack_tree"])
        dead_boards = frozenset(state["dead_boards"])
        links = frozenset((x, y, z, Links(n)) for x, y, z, n in state["dead_links"])
        self._shared_triads = SharedTriads.from_plain(
            state["shared_triads"], dead_boards
        )
        self._set_faults(dead_boards, links)

    def alloc_possible(self, *args: Any, **kwargs: Any) -> bool:
        """Could this request be met if nothing else were allocated, or withheld?

        It is answered for the empty machine, and so is conservative: a request
        that only fits once something else is in the way is called impossible.

        :param args: as for `alloc`
        :param kwargs: as for `alloc`
        :raises TypeError: if an argument is unknown
        :raises ValueError: if the arguments contradict each other
        """
        return self._judge.is_possible(self._judge.find(args, kwargs))

    def alloc_possible_now(self, *args: Any, **kwargs: Any) -> bool:
        """The same as `alloc_possible`, but without the boards that are withheld."""
        return self._plans.is_possible(self._plans.find(args, kwargs))

    def alloc(  # noqa: DOC102 (it tells the keywords)
        self, *args: Any, **kwargs: Any
    ) -> Allocation | None:
        """Allocate boards.

        The forms are::

            alloc()         # any one board
            alloc(1)        # any one board
            alloc(3, 2, 1)  # the board (3, 2, 1)
            alloc(4)        # at least 4 boards
            alloc(2, 3)     # 2 x 3 triads

        :param min_ratio: for a number of boards, shorter / longer side of the
            triads must be at least this
        :param max_dead_boards: how many boards may be dead or unreachable; None
            for any number, so long as the bottom-left board works
        :param max_dead_links: how many links between the boards may be dead; None
            for any number
        :param require_torus: only accept boards that wrap around; not for single
            boards
        :return: the allocation, or None if there is no room for it now
        :raises TypeError: if an argument is unknown
        :raises ValueError: if the arguments contradict each other
        """
        return self._alloc(False, args, kwargs)

    def alloc_kept(self, *args: Any, **kwargs: Any) -> Allocation | None:
        """Allocate boards, of the kept part too if there are no others: see `keep`."""
        return self._alloc(True, args, kwargs)

    def _alloc(
        self, in_kept: bool, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Allocation | None:
        if not kwargs and args in _ANY_BOARD:
            # By far the most frequent request, and the cheapest one to meet.
            return self._alloc_any_board(in_kept)
        plan = self._plans.find(args, kwargs)
        if plan is None:
            return None
        if plan.sizes is None:
            if plan.board is None:
                return self._alloc_any_board(in_kept)
            return self._alloc_this_board(plan.board, in_kept)
        accepts = plan.accepts
        found = self.pack_tree.alloc_sized(plan.sizes, accepts, in_kept)
        if found is None:
            return None
        assert accepts is not None
        return self._hold_triads(*found, accepts)

    # The part kept for somebody

    @property
    def kept(self) -> Region | None:
        """The part of the machine of which only `alloc_kept` gives anything out."""
        return self.pack_tree.kept

    def area_of(self, *args: Any, **kwargs: Any) -> int:
        """How many free triads a request needs at least; 0 for single boards."""
        plan = self._plans.find(args, kwargs)
        return 0 if plan is None else plan.area

    def take_room(self) -> float:
        """What has become available since this was last asked.

        A request that did not succeed before cannot do so now if it needs more.

        :return: the area of the largest free rectangle that is new, in triads; 0 if
            there are only single boards of shared triads, -1 if there is nothing
        """
        if self._room < 0 and not self.pack_tree.freed:
            return -1
        room = max(self._room, self.pack_tree.freed or -1)
        self._room = -1
        self.pack_tree.freed = 0
        return room

    def parts_for(
        self, *args: Any, **kwargs: Any
    ) -> Iterable[tuple[Region, list[int]]]:
        """The parts of the machine that would do for a request were they free.

        Only such as become free as one when all that lies in them has been freed, and
        only the smallest of them.

        :return: each part, and the allocations that lie in it; in tree order
        """
        plan = self._plans.find(args, kwargs)
        if plan is None:
            return ()
        holders = self._holdings.by_corner()
        if plan.board is not None:
            x, y, _ = plan.board
            leaf = self.pack_tree.leaf_at(x, y)
            return ((leaf, holders.get((leaf.x, leaf.y), [])),)
        return parts.parts_for(plan, self._plans, self.pack_tree.root, holders)

    def would_do(self, region: Region, *args: Any, **kwargs: Any) -> bool:
        """Could a request be met in this region were it free?"""
        plan = self._plans.find(args, kwargs)
        return plan is not None and self._plans.would_do(region, plan)

    def keep(self, region: Region) -> None:
        """Give nothing of a region out any more but by `alloc_kept`.

        :param region: one of `parts_for`
        :raises ValueError: if another one is kept
        """
        self.pack_tree.keep(region)
        self._shared_triads.withhold(region)

    def let_go(self) -> None:
        """Let the part that is kept be given to anybody."""
        region = self.pack_tree.kept
        if region is not None:
            self.pack_tree.let_go()
            self._shared_triads.withhold(None)
            self._room = max(self._room, 0)
            self.generation += 1

    def working_boards(self, region: Region) -> int:
        """How many boards of a part of the machine may be given out at all."""
        dead = sum((x, y) in region for x, y, _ in self._dead_boards)
        return 3 * region.width * region.height - dead

    def boards_held_by(self, allocations: Iterable[int]) -> list[int]:
        """How many boards allocations have, of those that are not free again.

        :param allocations: IDs, some of which may be free
        """
        return self._holdings.sizes(allocations)

    def free(self, allocation_id: int) -> None:
        """Take an allocation back; its boards are free once they have cooled down.

        :raises KeyError: if there is no such allocation
        """
        if allocation_id in self._cooling or allocation_id not in self._holdings:
            raise KeyError(allocation_id)
        if self.seconds_before_free > 0:
            self._cooling[allocation_id] = self.clock() + self.seconds_before_free
        else:
            self._release(allocation_id)

    def check_free(self) -> int:
        """Free what has cooled down.

        :return: how many allocations became free
        """
        freed = 0
        if self._cooling:
            now = self.clock()
            while self._cooling and next(iter(self._cooling.values())) <= now:
                self._free_next()
                freed += 1
        return freed

    def _free_next(self) -> None:
        """Free what has been cooling down for longest, whether or not it is time."""
        allocation_id = next(iter(self._cooling))
        del self._cooling[allocation_id]
        self._release(allocation_id)

    def _release(self, allocation_id: int) -> None:
        self.generation += 1
        board = self._holdings.take_board(allocation_id)
        if board is None:
            rectangle = self._holdings.take_triads(allocation_id)
            self.pack_tree.free(rectangle.x, rectangle.y)
            return
        x, y, z = board
        if self._shared_triads.give_back((x, y), z):
            self.pack_tree.free(x, y)
        elif self._room < 0:
            kept = self.pack_tree.kept
            if kept is None or (x, y) not in kept:
                self._room = 0

    def mend(self) -> None:
        """Put in order what an error in the midst of another method has left.

        What nobody holds is free, and nothing is kept.
        """
        self._cooling = {
            i: at for i, at in self._cooling.items() if i in self._holdings
        }
        self._shared_triads = self._shared_triads.mended(self._holdings.boards())
        taken: list[tuple[int, int, int, int]] = [*self._holdings.rectangles()]
        taken += [(x, y, 1, 1) for x, y in self._shared_triads]
        tree = PackTree.__new__(PackTree)
        space = 0, 0, self.width, self.height
        nodes = cut_anew(self.pack_tree.root, taken)
        tree.__setstate__({"space": space, "nodes": nodes})
        self.pack_tree = tree
        self._room = inf
        self.generation += 1

    def holdings(self) -> Iterator[tuple[int, bool, Iterable[Board]]]:
        """All that is not free: allocation ID, is it cooling down, its boards.

        The boards of a rectangle are all there are in it, working or not.
        """
        for allocation_id, boards in self._holdings:
            yield allocation_id, allocation_id in self._cooling, boards

    def _alloc_this_board(
        self, board: Board, in_kept: bool = False
    ) -> Allocation | None:
        x, y, z = board
        if (x, y) in self._shared_triads:
            kept = self.pack_tree.kept
            if kept is not None and not in_kept and (x, y) in kept:
                return None
            if z not in self._shared_triads.boards_left((x, y)):
                return None
        elif self.pack_tree.request_kept(x, y, in_kept) is None:
            return None
        self._shared_triads.take((x, y), z)
        return self._hold_board(board)

    def _alloc_any_board(self, in_kept: bool = False) -> Allocation | None:
        board = self._shared_triads.take_any(in_kept)
        if board is not None:
            return self._hold_board(board)
        found = self.pack_tree.alloc_sized(
            _ONE_TRIAD,
            self._plans.has_working_board if self._dead_boards else None,
            in_kept,
        )
        if found is None:
            return None
        return self._hold_board(self._shared_triads.open_triad(found[:2]))

    def _hold_board(self, board: Board) -> Allocation:
        allocation_id = self._holdings.hold_board(board)
        # A board in a row or column of one board wraps to itself, but single
        # boards are always cut off all around.
        x, y, z = board
        periphery = {
            (x, y, z, _EAST),
            (x, y, z, _NORTH_EAST),
            (x, y, z, _NORTH),
            (x, y, z, _WEST),
            (x, y, z, _SOUTH_WEST),
            (x, y, z, _SOUTH),
        }
        return Allocation(allocation_id, {board}, periphery, _NO_TORUS)

    def _hold_triads(
        self, x: int, y: int, width: int, height: int, accepted: _CandidateFilter
    ) -> Allocation:
        boards, periphery, torus = accepted.boards, accepted.periphery, accepted.torus
        assert boards is not None
        assert periphery is not None
        assert torus is not None
        accepted.forget()
        allocation_id = self._holdings.hold_triads(x, y, width, height)
        return Allocation(allocation_id, boards, periphery, torus)
