"""Triads that single boards share, so that a board does not cost a whole triad."""

from __future__ import annotations

from collections.abc import Iterable, Set
from typing import Any

from spalloc_server.coordinates import Board
from spalloc_server.placement.region import Region

Triad = tuple[int, int]


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

    def __getstate__(self) -> dict[str, Any]:
        """All but what is withheld: `withhold` has to be called again."""
        return {**self.__dict__, "_withheld": None}

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
