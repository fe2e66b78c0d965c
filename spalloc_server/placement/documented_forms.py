"""The names that the manual has for each form of what an allocator can be asked.

The server itself asks by `alloc` and `alloc_possible`, which take all forms.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spalloc_server.coordinates import Board, BoardLink, WrapAround
from spalloc_server.placement.plans import Plans, _AllocationType, kind_of


class Allocation(NamedTuple):
    """What `Allocator.alloc` gives."""

    allocation_id: int
    """Frees the allocation again."""
    boards: set[Board]
    """The working boards."""
    periphery: set[BoardLink]
    """The links that leave the boards."""
    torus: WrapAround
    """The axes around which the boards are connected."""


class DocumentedForms:
    """A method for each form of request; to be inherited by who has the rest."""

    _plans: Plans

    def alloc(self, *args: Any, **kwargs: Any) -> Allocation | None:
        """Allocate boards; see `.Allocator.alloc`."""
        raise NotImplementedError

    def _alloc_this_board(self, board: Board) -> Allocation | None:
        raise NotImplementedError

    def _alloc_any_board(self) -> Allocation | None:
        raise NotImplementedError

    def _alloc_type(
        self,
        x_or_num_or_width: int | None = None,
        y_or_height: int | None = None,
        z: int | None = None,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> _AllocationType:
        """What kind of allocation these arguments ask for.

        :raises ValueError: if a torus is required of a single board
        """
        return kind_of(x_or_num_or_width, y_or_height, z, require_torus=require_torus)

    def _alloc_triads_possible(
        self,
        width: int,
        height: int,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> bool:
        """Would `_alloc_triads` succeed on the empty machine?"""
        demands = max_dead_boards, max_dead_links, require_torus
        return self._plans.is_possible(self._plans.for_triads(width, height, *demands))

    def _alloc_triads(
        self,
        width: int,
        height: int,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> Allocation | None:
        """Allocate a rectangle of triads. ``min_ratio`` is ignored."""
        demands = max_dead_boards, max_dead_links, require_torus
        return self.alloc(width, height, **_named(*demands))

    def _alloc_boards_possible(
        self,
        boards: int,
        min_ratio: float = 0.0,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
    ) -> bool:
        """Would `_alloc_boards` succeed on the empty machine?"""
        demands = max_dead_boards, max_dead_links, require_torus
        return self._plans.is_possible(
            self._plans.for_boards(boards, min_ratio, *demands)
        )

    def _alloc_boards(
        self,
        boards: int,
        min_ratio: float = 0.0,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
    ) -> Allocation | None:
        """Allocate a rectangle of triads with at least so many boards.

        ``max_dead_boards`` counts against the number asked for, not against the
        boards of the triads that it is rounded up to.
        """
        demands = max_dead_boards, max_dead_links, require_torus
        return self.alloc(boards, min_ratio=min_ratio, **_named(*demands))

    def _alloc_board_possible(
        self,
        x: int | None = None,
        y: int | None = None,
        z: int | None = None,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> bool:
        """Is there such a working board? Only the coordinates are looked at."""
        return self._plans.is_possible(self._plans.for_board(x, y, z))

    def _alloc_board(
        self,
        x: int | None = None,
        y: int | None = None,
        z: int | None = None,
        max_dead_boards: int | None = None,
        max_dead_links: int | None = None,
        require_torus: bool = False,
        min_ratio: float = 0.0,
    ) -> Allocation | None:
        """Allocate one board: the one named, or else any.

        Only the coordinates are looked at. Any board is first sought in the
        shared triads, lowest z of the one that has had a board left for longest.
        """
        if x is None or y is None or z is None:
            return self._alloc_any_board()
        if not self._alloc_board_possible(x, y, z):
            return None
        return self._alloc_this_board((x, y, z))


def _named(
    max_dead_boards: int | None, max_dead_links: int | None, require_torus: bool
) -> dict[str, Any]:
    """Demands as keywords of `Allocator.alloc`."""
    return {
        "max_dead_boards": max_dead_boards,
        "max_dead_links": max_dead_links,
        "require_torus": require_torus,
    }
