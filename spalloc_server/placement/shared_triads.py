"""Triads that single boards share, so that a board does not cost a whole triad."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Set
from typing import Any

from spalloc_server.coordinates import Board
from spalloc_server.placement.region import Region
from spalloc_server.plain.shapes import (
    PlainDataError,
    dict_of,
    fields,
    ints,
    list_of,
    one_of,
    set_of,
)

Triad = tuple[int, int]

_STATE = fields(
    "set of shared triads",
    {"held": dict_of(ints(2), set_of(one_of(0, 1, 2))), "open": list_of(ints(2))},
)


class SharedTriads:
    """Which boards of the shared triads are held, and where one is left.

    Any board is taken from the triad that has had one left for longest; a triad
    that was full goes to the end of that order. Not thread safe.
    """

    def __init__(self, dead_boards: Set[Board]) -> None:
        self._dead_boards = dead_boards
        self._held: dict[Triad, set[int]] = {}
        # What is left of the triads with a working board left, longest first.
        self._open: dict[Triad, list[int]] = {}
        self._withheld: Region | None = None

    def to_plain(self) -> dict[str, Any]:
        """Plain data, for `from_plain`; all but what is withheld."""
        return {
            "held": {triad: set(held) for triad, held in self._held.items()},
            "open": list(self._open),
        }

    @staticmethod
    def from_plain(data: dict[str, Any], dead_boards: Set[Board]) -> SharedTriads:
        """Take up again what `to_plain` gave.

        :param dead_boards: which boards must not be given out
        :raises PlainDataError: if it is nothing like that
        """
        _STATE(data, "shared triads")
        triads = SharedTriads(dead_boards)
        triads._held = {triad: set(held) for triad, held in data["held"].items()}
        for triad in data["open"]:
            if triad not in triads._held:
                raise PlainDataError(f"shared triads: {triad} is open but not shared")
            triads._update_open(triad)
        return triads

    def mended(self, held: Iterable[Board]) -> SharedTriads:
        """The triads that are shared where these boards are held, and none is withheld.

        Those that are open keep their order.
        """
        triads = SharedTriads(self._dead_boards)
        for x, y, z in held:
            triads._held.setdefault((x, y), set()).add(z)
        for triad in [*self._open, *triads._held]:
            if triad in triads._held:
                triads._update_open(triad)
        return triads

    def __iter__(self) -> Iterator[Triad]:
        return iter(self._held)

    def __contains__(self, triad: Triad) -> bool:
        return triad in self._held

    def set_dead_boards(self, dead_boards: Set[Board]) -> None:
        """Change which boards must not be given out."""
        self._dead_boards = dead_boards
        for triad in self._held:
            self._update_open(triad)

    def boards_left(self, triad: Triad) -> list[int]:
        """The z of each working board that is not held, lowest first.

        :param triad: shared or not
        """
        held: Iterable[int] = self._held.get(triad, ())
        dead = self._dead_boards
        return [z for z in (0, 1, 2) if z not in held and (*triad, z) not in dead]

    def withhold(self, region: Region | None) -> None:
        """Let `take_any` pass over the triads of a region; None for no region."""
        self._withheld = region

    def take_any(self, in_withheld: bool = False) -> Board | None:
        """Hold the lowest board of the first triad that has one left, if any has.

        :param in_withheld: may it be one of the triads that are withheld, if no
            other has one left?
        """
        withheld = self._withheld
        if withheld is not None:
            return self._take_any_but(withheld, in_withheld)
        for triad, left in self._open.items():
            z = left.pop(0)
            if not left:
                del self._open[triad]
            self._held[triad].add(z)
            return (*triad, z)
        return None

    def _take_any_but(self, withheld: Region, or_else: bool) -> Board | None:
        chosen = next((triad for triad in self._open if triad not in withheld), None)
        if chosen is None and or_else:
            chosen = next(iter(self._open), None)
        if chosen is None:
            return None
        z = self._open[chosen][0]
        self.take(chosen, z)
        return (*chosen, z)

    def open_triad(self, triad: Triad) -> Board:
        """Share a triad that has a working board, and hold the lowest one."""
        left = self.boards_left(triad)
        z = left.pop(0)
        self._held[triad] = {z}
        if left:
            self._open[triad] = left
        return (*triad, z)

    def take(self, triad: Triad, z: int) -> None:
        """Hold this board; the triad is shared from now on if it was not."""
        self._held.setdefault(triad, set()).add(z)
        self._update_open(triad)

    def give_back(self, triad: Triad, z: int) -> bool:
        """No longer hold a board.

        :return: whether it was the last one, so that the triad is not shared any
            more
        """
        held = self._held[triad]
        held.remove(z)
        if held:
            self._update_open(triad)
            return False
        del self._held[triad]
        self._open.pop(triad, None)
        return True

    def _update_open(self, triad: Triad) -> None:
        left = self.boards_left(triad)
        if left:
            # Keeps its place in the order if it has one.
            self._open[triad] = left
        else:
            self._open.pop(triad, None)
