"""Time that outlives the process and never goes back."""

from __future__ import annotations


class Timeline:
    """Seconds by a clock that may be set back, without the going back.

    Where the clock has been set back, time goes on from where it was. What follows from
    a series of times that it is told, follows again when it is told the same.
    """

    __slots__ = ("_last", "_shift")

    def __init__(self, last: float = 0.0, shift: float = 0.0) -> None:
        """Go on from what `state` said; by default, from the beginning."""
        self._last = last
        self._shift = shift

    def at(self, told: float) -> float:
        """What time it is when a clock says this; nothing is remembered."""
        now = told + self._shift
        return self._last if now < self._last else now

    def go_to(self, told: float) -> float:
        """What time it is when a clock says this; later times are not before it."""
        # Mostly the number itself, which others may hold anyway.
        now = told + self._shift if self._shift else told
        if now < self._last:
            now = self._last
            self._shift = now - told
        self._last = now
        return now

    def state(self) -> tuple[float, float]:
        """What to store."""
        return self._last, self._shift
