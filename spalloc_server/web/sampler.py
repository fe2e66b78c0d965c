"""Has the load measured once a minute, and kept."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Final

from spalloc_server.model.load import Load
from spalloc_server.web.complaints import Complaints

INTERVAL: Final = 60.0
"""Seconds from one sample to the next."""


class Sampler:
    """For the web thread's event loop, but for what it calls."""

    def __init__(
        self,
        request: Callable[[], object],
        keep: Callable[[Load], object],
        complaints: Complaints,
        interval: float = INTERVAL,
    ) -> None:
        """Do nothing yet.

        :param request: has `deliver` called soon, in the event loop
        :param keep: called with each sample, in a thread that nobody waits for: a
            disk that hangs does not keep the server from ending
        :param complaints: told of what goes wrong
        :param interval: seconds from one sample to the next
        """
        self._request = request
        self._keep = keep
        self._complaints = complaints
        self._interval = interval
        self._keeping: threading.Thread | None = None
        self._delivered: asyncio.Queue[Load] = asyncio.Queue(maxsize=1)

    def deliver(self, load: Load) -> None:
        """Take in a sample. One that nobody has waited for is of no use any more."""
        if not self._delivered.full():
            self._delivered.put_nowait(load)

    async def run(self) -> None:
        """Take samples until cancelled, the first one now."""
        while True:
            try:
                self._request()
                # As long as the server hangs there is none, and none is missed later.
                load = await self._delivered.get()
                self._pass_on(load)
            except Exception as e:
                self._complaints.note("the load cannot be measured", exc_info=e)
            await asyncio.sleep(self._interval)

    def _pass_on(self, load: Load) -> None:
        if self._keeping is not None and self._keeping.is_alive():
            return  # the disk is too slow
        self._keeping = threading.Thread(
            target=self._keep, args=(load,), name="Load", daemon=True
        )
        self._keeping.start()
