"""Does a rectangle of triads meet a job's demands, and which boards and links is it?

Most rectangles hold no fault at all. Their answers follow from their sides, and, where
dead boards lie apart from each other, from those. Only where there are other faults are
boards and links looked at one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Set
from functools import lru_cache
from itertools import product
from typing import NamedTuple

from spalloc_server.coordinates import Board, BoardLink, WrapAround, link_to_vector
from spalloc_server.links import Links
from spalloc_server.placement.fault_map import FaultMap

#: For each z, the six ways from a board: (link, dx, dy, z of the neighbour).
_NEIGHBOURS: tuple[tuple[tuple[Links, int, int, int], ...], ...] = tuple(
    tuple(
        (link, dx, dy, z + dz)
        for link in Links
        for dx, dy, dz in [link_to_vector[z, link]]
    )
    for z in range(3)
)


#: The same all around, back to the first one.
_NEIGHBOURS_TWICE = tuple((*around, around[0]) for around in _NEIGHBOURS)

_OPPOSITE = {link: link.opposite for link in Links}

#: By whether a rectangle spans the machine along X and along Y.
_TORUS = ((WrapAround.none, WrapAround.y), (WrapAround.x, WrapAround.both))


class ClassifiedLinks(NamedTuple):
    """The links of a set of boards, by what they connect."""

    alive: set[BoardLink]
    """Working links between two boards of the set, without wrapping around."""
    wrap: set[BoardLink]
    """Working links between two boards of the set that wrap around the machine."""
    dead: set[BoardLink]
    """Dead links between two boards of the set, without wrapping around."""
    dead_wrap: set[BoardLink]
    """Dead links between two boards of the set that wrap around the machine."""
    periphery: set[BoardLink]
    """Links, dead or alive, from a board of the set to one outside it."""
    wrap_around_type: WrapAround
    """The axes around which links of the set wrap, dead or alive."""


class _CandidateFilter:
    """Accepts rectangles of triads that meet a job's demands.

    An instance is called by `spalloc_server.pack_tree.PackTree` with candidates
    until it accepts one; `boards`, `periphery` and `torus` then describe it.
    """

    def __init__(
        self,
        width: int,
        height: int,
        dead_boards: Set[Board],
        dead_links: Set[BoardLink],
        max_dead_boards: int | None,
        max_dead_links: int | None,
        require_torus: bool,
        expected_boards: int | None = None,
    ) -> None:
        """Set the demands.

        :param width: of the machine, in triads
        :param height: of the machine, in triads
        :param dead_boards: boards that must not be used
        :param dead_links: links that do not work, each named from the board that
            sends; links to and from dead boards need not be among them
        :param max_dead_boards: how many of the expected boards may be dead or
            unreachable; None for any number, so long as the bottom-left one works
        :param max_dead_links: how many links between the boards may be dead; links
            that wrap around count only where a torus is required; None for any
        :param require_torus: accept only what wraps around at least one axis
        :param expected_boards: how many boards are needed; None for three a triad
        """
        self.width = width
        self.height = height
        self.dead_boards = dead_boards
        self.dead_links = dead_links
        self.max_dead_boards = max_dead_boards
        self.max_dead_links = max_dead_links
        self.require_torus = require_torus
        self.expected_boards = expected_boards
        self._faults: FaultMap | None = None
        self._accepted: tuple[int, int, int, int] | None = None
        # Of the accepted candidate; None where it is intact and not yet asked for.
        self._boards: set[Board] | None = None
        self._periphery: set[BoardLink] | None = None
        # Boards that it has not, where it is as if intact but for them.
        self._holes: Collection[Board] = ()

        self.torus: WrapAround | None = None
        """The axes around which the accepted candidate wraps, None before there is one.
        """

    @property
    def faults(self) -> FaultMap:
        """The map of the dead boards and links. Set it where there is one already."""
        if self._faults is None:
            self._faults = FaultMap(
                self.width, self.height, self.dead_boards, self.dead_links
            )
        return self._faults

    @faults.setter
    def faults(self, faults: FaultMap) -> None:
        self._faults = faults

    @property
    def boards(self) -> set[Board] | None:
        """The working boards of the accepted candidate, None before there is one."""
        if self._boards is None and self._accepted is not None:
            self._boards = set(boards_of_triads(*self._accepted))
            self._boards.difference_update(self._holes)
        return self._boards

    @property
    def periphery(self) -> set[BoardLink] | None:
        """The links that leave the accepted candidate, None before there is one.

        Cutting these isolates it.
        """
        if self._periphery is None and self._accepted is not None:
            left, bottom, width, height = self._accepted
            self._periphery = {
                (left + x, bottom + y, z, link)
                for x, y, z, link in periphery_of_shape(
                    width, height, self._torus_of(width, height)
                )
            }
            if self._holes:
                self._leave_out_holes(self._periphery)
        return self._periphery

    def _leave_out_holes(self, periphery: set[BoardLink]) -> None:
        """Have a rectangle's periphery go around its holes, too."""
        boards = self.boards
        assert boards is not None
        for hole in self._holes:
            x, y, hole_z = hole
            for link, dx, dy, z in _NEIGHBOURS[hole_z]:
                periphery.discard((*hole, link))
                if (x + dx, y + dy, z) in boards:
                    periphery.add((x + dx, y + dy, z, _OPPOSITE[link]))

    def __call__(self, x: int, y: int, width: int, height: int) -> bool:
        """Does this rectangle of triads meet the demands?

        :param x: left edge, in triads
        :param y: bottom edge, in triads
        """
        boards: set[Board] | None = None
        periphery: set[BoardLink] | None = None
        holes: Collection[Board] = ()
        if self.faults.is_intact(x, y, width, height):
            n_boards = 3 * width * height
            n_dead_links = 0
            torus = self._torus_of(width, height)
        elif (found := self._isolated_holes(x, y, width, height)) is not None:
            holes = found
            n_boards = 3 * width * height - len(holes)
            n_dead_links = 0
            torus = WrapAround.none
        else:
            boards = self._enumerate_boards(x, y, width, height)
            if not boards:
                return False
            n_boards = len(boards)
            n_dead_links = 0
            torus = self._torus_of(width, height)
            if torus or self.max_dead_links is not None:
                links = self._classify_links(boards)
                n_dead_links = len(links.dead)
                if self.require_torus:
                    n_dead_links += len(links.dead_wrap)
                torus = links.wrap_around_type
                periphery = links.periphery
            else:
                holes = set(boards_of_triads(x, y, width, height)) - boards

        if self.max_dead_boards is not None:
            expected = self.expected_boards
            if expected is None:
                expected = 3 * width * height
            if n_boards < expected - self.max_dead_boards:
                return False
        if self.max_dead_links is not None and n_dead_links > self.max_dead_links:
            return False
        if self.require_torus and not torus:
            return False

        self._accepted = x, y, width, height
        self._boards = boards
        self._periphery = periphery
        self._holes = holes
        self.torus = torus
        return True

    def forget(self) -> None:
        """Be as before any candidate was accepted, and keep none of its boards."""
        self._accepted = self._boards = self._periphery = self.torus = None
        self._holes = ()

    def _isolated_holes(
        self, x: int, y: int, width: int, height: int
    ) -> list[Board] | None:
        """The dead boards of a rectangle whose other boards all reach each other.

        They do if what is in the rectangle around each dead board, or around several
        that are next to each other, hangs together: who would go through goes around.

        :return: None if that is not the case, or if it takes more to find out; that
            includes rectangles that wrap around, and those with dead links
        """
        if self._torus_of(width, height) or self.faults.has_dead_links(
            x, y, width, height
        ):
            return None
        holes = self.faults.dead_boards(x, y, width, height)
        if (x, y, 0) in self.dead_boards:
            return None
        right, top = x + width, y + height
        seen: set[Board] = set()
        for hole in holes:
            hole_x, hole_y, hole_z = hole
            # Around the hole: how often does the rectangle begin there?
            beginnings = 0
            inside = was_inside = False
            for number, (_, dx, dy, z) in enumerate(_NEIGHBOURS_TWICE[hole_z]):
                to_x, to_y = hole_x + dx, hole_y + dy
                inside = x <= to_x < right and y <= to_y < top
                if inside and (to_x, to_y, z) in self.dead_boards:
                    if hole not in seen and not self._hangs_together_around(
                        hole, range(x, right), range(y, top), seen
                    ):
                        return None
                    beginnings = 0
                    break
                if number and inside and not was_inside:
                    beginnings += 1
                was_inside = inside
            if beginnings > 1:
                return None
        return holes

    def _hangs_together_around(
        self, hole: Board, columns: range, rows: range, seen: set[Board]
    ) -> bool:
        """Do those reach each other that are around a group of dead boards?

        :param hole: one of the group
        :param columns: of the rectangle
        :param rows: of the rectangle
        :param seen: the dead boards of the group are added
        """
        seen.add(hole)
        waiting, around = [hole], set()
        while waiting:
            x, y, z = waiting.pop()
            for _, dx, dy, to_z in _NEIGHBOURS[z]:
                board = (x + dx, y + dy, to_z)
                if board[0] not in columns or board[1] not in rows:
                    continue
                if board not in self.dead_boards:
                    around.add(board)
                elif board not in seen:
                    seen.add(board)
                    waiting.append(board)
        if not around:
            return False
        waiting = [around.pop()]
        while waiting:
            x, y, z = waiting.pop()
            for _, dx, dy, to_z in _NEIGHBOURS[z]:
                board = (x + dx, y + dy, to_z)
                if board in around:
                    around.remove(board)
                    waiting.append(board)
        return not around

    def _enumerate_boards(self, x: int, y: int, width: int, height: int) -> set[Board]:
        """The working boards of a rectangle that board ``(x, y, 0)`` can reach.

        Only working links inside the rectangle count. Empty if that board is dead.
        """
        if (x, y, 0) in self.dead_boards:
            return set()
        machine_width, machine_height = self.width, self.height
        dead_boards, dead_links = self.dead_boards, self.dead_links
        reached = {(x, y, 0)}
        waiting = [(x, y, 0)]
        while waiting:
            board_x, board_y, board_z = waiting.pop()
            for link, dx, dy, z in _NEIGHBOURS[board_z]:
                to_x = (board_x + dx) % machine_width
                to_y = (board_y + dy) % machine_height
                board = (to_x, to_y, z)
                if (
                    board not in reached
                    and x <= to_x < x + width
                    and y <= to_y < y + height
                    and board not in dead_boards
                    and (board_x, board_y, board_z, link) not in dead_links
                ):
                    reached.add(board)
                    waiting.append(board)
        return reached

    def _classify_links(self, boards: set[Board]) -> ClassifiedLinks:
        """Sort the links of a set of working boards by what they connect."""
        links = ClassifiedLinks(set(), set(), set(), set(), set(), WrapAround.none)
        wrap_around_type = 0
        machine_width, machine_height = self.width, self.height
        for x, y, z in boards:
            for link, dx, dy, to_z in _NEIGHBOURS[z]:
                to_x, to_y = x + dx, y + dy
                wrapped = 0
                if not 0 <= to_x < machine_width:
                    wrapped |= WrapAround.x
                if not 0 <= to_y < machine_height:
                    wrapped |= WrapAround.y
                is_dead = (x, y, z, link) in self.dead_links
                if (to_x % machine_width, to_y % machine_height, to_z) not in boards:
                    kind = links.periphery
                elif wrapped:
                    wrap_around_type |= wrapped
                    kind = links.dead_wrap if is_dead else links.wrap
                else:
                    kind = links.dead if is_dead else links.alive
                kind.add((x, y, z, link))
        return links._replace(wrap_around_type=WrapAround(wrap_around_type))

    def _torus_of(self, width: int, height: int) -> WrapAround:
        """The axes around which an intact rectangle wraps: those it spans."""
        return _TORUS[width == self.width][height == self.height]


@lru_cache(maxsize=1024)
def periphery_of_shape(
    width: int, height: int, torus: WrapAround
) -> tuple[BoardLink, ...]:
    """The links that leave an intact rectangle whose corner is triad (0, 0).

    Jobs come in few shapes, and the periphery of a shape is the same everywhere.

    :param torus: the axes around which the rectangle wraps, having no edge there
    """
    columns, rows = range(width), range(height)
    edge: set[tuple[int, int]] = set()
    if not torus & WrapAround.x:
        edge.update((end, row) for end in (0, width - 1) for row in rows)
    if not torus & WrapAround.y:
        edge.update((column, end) for end in (0, height - 1) for column in columns)
    leaving = []
    for x, y in sorted(edge):
        for z, neighbours in enumerate(_NEIGHBOURS):
            for link, dx, dy, _ in neighbours:
                beyond_x = not torus & WrapAround.x and x + dx not in columns
                beyond_y = not torus & WrapAround.y and y + dy not in rows
                if beyond_x or beyond_y:
                    leaving.append((x, y, z, link))
    return tuple(leaving)


def boards_of_triads(x: int, y: int, width: int, height: int) -> Iterator[Board]:
    """All boards of a rectangle of triads."""
    return product(range(x, x + width), range(y, y + height), (0, 1, 2))
