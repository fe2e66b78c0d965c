"""How much of the interpreter the web thread takes from the server's loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

SHARE: Final = 0.15
"""The share of one processor that requests may take in the long run."""

BURST: Final = 0.3
"""So many seconds of it are had at once after a quiet time: enough for a page."""

SHORTEST_SLEEP: Final = 0.001


class Pace:
    """Has requests wait for each other once they have taken too much together.

    For one event loop. What counts is the processor time of its thread.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        processor: Callable[[], float] = time.thread_time,
    ) -> None:
        """Begin with all of `BURST` to spend.

        :param clock: gives the time in seconds
        :param processor: gives how long the thread has used a processor, in seconds
        """
        self._clock = clock
        self._processor = processor
        self._left = BURST
        self._at = clock()
        self._used = processor()
        self._turn = asyncio.Lock()

    def _missing(self) -> float:
        """Seconds until there is something to spend; 0 if there is."""
        now, used = self._clock(), self._processor()
        earned = SHARE * (now - self._at)
        self._left = min(BURST, self._left + earned - (used - self._used))
        self._at, self._used = now, used
        return max(0.0, -self._left / SHARE)

    async def wait(self) -> None:
        """Wait until it is the turn of one more request; first come, first served."""
        async with self._turn:
            while (missing := self._missing()) > 0.0:
                await asyncio.sleep(max(missing, SHORTEST_SLEEP))
