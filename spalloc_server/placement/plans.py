"""How to meet requests for boards: worked out once, until the faults change."""

from __future__ import annotations

from collections.abc import Hashable
from enum import Enum
from typing import Any

from spalloc_server.coordinates import Board, BoardLink
from spalloc_server.placement.candidate_filter import _CandidateFilter
from spalloc_server.placement.fault_map import FaultMap
from spalloc_server.placement.free_regions import Sizes, exact_size, squarest
from spalloc_server.placement.region import Region, corners

#: How many plans are remembered; jobs come in few shapes.
_MAX_REMEMBERED = 4096


class _AllocationType(Enum):
    """What kind of thing is allocated."""

    triads = 0
    """A rectangle of triads."""
    board = 1
    """One board."""
    boards = 2
    """At least a number of boards; what is allocated is `triads`."""


def kind_of(
    x_or_num_or_width: int | None = None,
    y_or_height: int | None = None,
    z: int | None = None,
    max_dead_boards: int | None = None,
    max_dead_links: int | None = None,
    require_torus: bool = False,
    min_ratio: float = 0.0,
) -> _AllocationType:
    """What kind of allocation a request asks for.

    :raises TypeError: if an argument is unknown
    :raises ValueError: if a torus is required of a single board
    """
    if z is not None or (y_or_height is None and x_or_num_or_width in (None, 1)):
        if require_torus:
            raise ValueError("require_torus must be False for single boards")
        return _AllocationType.board
    if y_or_height is None:
        return _AllocationType.boards
    return _AllocationType.triads


def boards_asked(*args: Any, **kwargs: Any) -> int:
    """How many boards a request takes, with those that come with whole triads."""
    kind = kind_of(*args, **kwargs)
    if kind is _AllocationType.board:
        return 1
    width_or_boards = args[0]
    if kind is _AllocationType.boards:
        return int(3 * -(-width_or_boards // 3))
    return int(3 * width_or_boards * args[1])


class Plan:
    """How to meet a request."""

    __slots__ = ("accepts", "area", "board", "is_possible", "sizes")

    def __init__(
        self,
        area: int,
        sizes: Sizes | None = None,
        accepts: _CandidateFilter | None = None,
        board: Board | None = None,
    ) -> None:
        self.area = area
        """How many triads are needed; 0 where a board of a shared one will do."""
        self.sizes = sizes
        """What to take from a free region; None for a single board."""
        self.accepts = accepts
        """What decides on a rectangle; None for a single board."""
        self.board = board
        """The only board that will do."""
        self.is_possible: bool | None = None
        """Can it be met on the empty machine? None before anybody has asked."""


class Plans:
    """The plans for one machine, with certain boards and links dead."""

    def __init__(
        self,
        width: int,
        height: int,
        dead_boards: frozenset[Board],
        dead_links: frozenset[BoardLink],
    ) -> None:
        """Begin without any.

        :param width: of the machine, in triads
        :param height: of the machine, in triads
        :param dead_boards: boards that must not be given out, for whatever reason
        :param dead_links: links that do not work
        """
        self._machine = Region(0, 0, width, height)
        self._dead_boards = dead_boards
        self._dead_links = dead_links
        self._faults = FaultMap(width, height, dead_boards, dead_links)
        self._known: dict[Hashable, Plan | None] = {}

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Plan | None:
        """How to meet a request, None if it makes no sense here.

        :raises TypeError: if an argument is unknown
        :raises ValueError: if the arguments contradict each other
        """
        request = (args, *kwargs.items()) if kwargs else args
        try:
            return self._known[request]
        except KeyError:
            pass
        kind = kind_of(*args, **kwargs)
        if kind is _AllocationType.board:
            # alloc(1) names none.
            plan = self.for_board(*(args if len(args) == 3 else ()), **kwargs)
        elif kind is _AllocationType.boards:
            plan = self.for_boards(*args, **kwargs)
        else:
            plan = self.for_triads(*args, **kwargs)
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[request] = plan
        return plan

    def for_triads(
        self,
        width: int,
        height: int,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> Plan | None:
        """How to allocate a rectangle of triads. ``min_ratio`` is ignored."""
        machine = self._machine
        if require_torus:
            # Only the whole machine is one.
            if (width, height) != (machine.width, machine.height):
                return None
        elif not (1 <= width <= machine.width and 1 <= height <= machine.height):
            return None
        return Plan(
            width * height,
            Sizes(exact_size(width, height)),
            self._filter(max_dead_boards, max_dead_links, require_torus),
        )

    def for_boards(
        self,
        boards: int,
        min_ratio: float = 0.0,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
    ) -> Plan | None:
        """How to allocate at least so many boards."""
        triads = -(-boards // 3)
        most = self._machine.width * self._machine.height
        if not (most if require_torus else 1) <= triads <= most:
            return None
        sizes = Sizes(squarest(triads, min_ratio))
        # Complains of what makes no sense, where no region may be left to do so.
        sizes[self._machine.width, self._machine.height]
        return Plan(
            triads,
            sizes,
            self._filter(max_dead_boards, max_dead_links, require_torus, boards),
        )

    def for_board(
        self,
        x: int | None = None,
        y: int | None = None,
        z: int | None = None,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> Plan | None:
        """How to allocate the board named, or else any; others are not looked at."""
        if x is None or y is None or z is None:
            return Plan(0)
        if (x, y) not in self._machine or not 0 <= z <= 2:
            return None
        return None if (x, y, z) in self._dead_boards else Plan(0, board=(x, y, z))

    def is_possible(self, plan: Plan | None) -> bool:
        """Could this be met if nothing were allocated?"""
        if plan is None:
            return False
        if plan.is_possible is None:
            plan.is_possible = self.would_do(self._machine, plan)
        return plan.is_possible

    def would_do(self, region: Region, plan: Plan) -> bool:
        """Could this be met in this region were it free?"""
        if plan.board is not None:
            return plan.board[:2] in region
        if plan.sizes is None:
            return any(
                self.has_working_board(x, y, 1, 1) for x, y in corners(region, 1, 1)
            )
        size = plan.sizes[region.width, region.height]
        accepts = plan.accepts
        if size is None or accepts is None:
            return False
        width, height = size
        would_do = False
        for x, y in corners(region, width, height):
            if accepts(x, y, width, height):
                would_do = True
                break
        accepts.forget()
        return would_do

    def has_working_board(self, x: int, y: int, width: int, height: int) -> bool:
        """A filter for triads that single boards can share."""
        return any((x, y, z) not in self._dead_boards for z in (0, 1, 2))

    def _filter(
        self,
        max_dead_boards: int | None,
        max_dead_links: int | None,
        require_torus: bool,
        expected_boards: int | None = None,
    ) -> _CandidateFilter:
        accepts = _CandidateFilter(
            self._machine.width,
            self._machine.height,
            self._dead_boards,
            self._dead_links,
            max_dead_boards,
            max_dead_links,
            require_torus,
            expected_boards,
        )
        accepts.faults = self._faults
        return accepts
