"""What the server counts of its own work.

Plain numbers, so that counting costs next to nothing. Each is changed by one thread;
any thread may read them.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
from typing import Final

logger = logging.getLogger(__name__)

TURN_SECONDS: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""Bounds between which turns of the loop are told apart."""

JOB_SECONDS: Final = (
    *(0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
    *(1000.0, 3600.0, 10_000.0, 36_000.0, 100_000.0),
)
"""Bounds between which the waiting of jobs is told apart."""


class Tally:
    """How often something took how long."""

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count between these bounds, in seconds, in order."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        """For each bound how often that or less, but more than the bound before it;
        then how often more than the last one."""
        self.total = 0.0
        """The sum, in seconds."""

    def add(self, seconds: float) -> None:
        """Count one more."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[float | None, int]]:
        """For each bound, and None for no bound, how often that or less."""
        counts = list(self.counts)
        return [
            (bound, sum(counts[: i + 1]))
            for i, bound in enumerate([*self.bounds, None])
        ]


class InternalErrors:
    """Counts and logs internal errors of the loop, which goes on in spite of them."""

    INTERVAL: Final = 10.0
    """Seconds from one traceback of a kind to the next: it may fail in every turn."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        """How many there were, by what they were in."""
        self._log_at: dict[str, float] = {}

    def note(self, what: str, error: Exception) -> None:
        """Count one, and log it if the last one of its kind was long ago.

        :param what: it was in; one of a few texts
        """
        self.counts[what] += 1
        now = time.monotonic()
        if now >= self._log_at.get(what, now):
            self._log_at[what] = now + self.INTERVAL
            logger.error(
                "Internal error (%s, the %d. so far); the server goes on",
                what,
                self.counts[what],
                exc_info=error,
            )


class ServerStats:
    """Counts of one server, for the loop's thread to change."""

    def __init__(self) -> None:
        self.done: Counter[str] = Counter()
        """Commands that were done, by name."""
        self.undone: Counter[tuple[str, str]] = Counter()
        """Those that were not, by name and outcome: ``refused`` for wrong arguments,
        ``not stored``, ``failed`` for an error in the server."""
        self.errors = InternalErrors()
        """Errors of the server that no command has to do with."""
        self.disconnects: Counter[str] = Counter()
        """Clients that are gone, by the reason."""
        self.refused: Counter[str] = Counter()
        """Connections that were not taken in, by the reason."""
        self.turns = Tally(TURN_SECONDS)
        """How long turns of the loop took, without waiting."""
        self.turned_at: float | None = None
        """When the loop last finished a turn, by `time.monotonic`."""

    def commands(self) -> dict[tuple[str, str], int]:
        """All commands so far, by name and outcome, which may be ``done``."""
        done = {(name, "done"): number for name, number in self.done.copy().items()}
        return {**done, **self.undone.copy()}

    def note_turn(self, began: float) -> None:
        """Note that the turn that began at a time has ended just now."""
        self.turned_at = time.monotonic()
        self.turns.add(self.turned_at - began)
