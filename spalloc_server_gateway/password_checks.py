"""Checks of passwords, which take long: one at a time, the hosts in turn."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple

MAX_WAITING: Final = 1000
"""How many checks may wait, of all hosts together."""


class TooManyError(Exception):
    """There are too many checks; this one has to wait until later."""


class _Check(NamedTuple):
    rank: int
    """Those of a host have one place after the other: the lowest is the next."""
    number: int
    host: str
    is_right: Callable[[], bool]
    result: asyncio.Future[bool]


class PasswordChecks:
    """Has the hosts take turns, so that none is kept waiting by how much others ask
    for. A thread does the work, and everything else goes on. For one event loop.
    """

    def __init__(self, limit: int = MAX_WAITING) -> None:
        """Begin without any.

        :param limit: how many may wait; beyond it those of the hosts that have the most
            are refused
        """
        self._limit = limit
        self._thread = ThreadPoolExecutor(1, "Passwords")
        self._waiting: list[_Check] = []
        self._of_host: Counter[str] = Counter()
        self._last_rank: dict[str, int] = {}
        self._rank = 0
        self._numbers = itertools.count()
        self._work: asyncio.Task[None] | None = None

    def close(self) -> None:
        """Check nothing more."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def check(self, host: str, limit: int, is_right: Callable[[], bool]) -> bool:
        """Check a password when it is the host's turn.

        :param host: that has sent it
        :param limit: how many of this host may wait
        :param is_right: does the work, in the thread
        :raises TooManyError: if too many wait already
        """
        if self._of_host[host] >= limit:
            raise TooManyError
        rank = max(self._rank, self._last_rank.get(host, 0)) + 1
        result: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        check = _Check(rank, next(self._numbers), host, is_right, result)
        heapq.heappush(self._waiting, check)
        self._of_host[host] += 1
        self._last_rank[host] = rank
        if len(self._waiting) > self._limit:
            self._refuse_last()
        if self._work is None:
            self._work = asyncio.create_task(self._run())
        return await result

    def _refuse_last(self) -> None:
        """Refuse the check that would be the last."""
        last = max(self._waiting)
        self._waiting.remove(last)
        heapq.heapify(self._waiting)
        self._forget(last)
        if not last.result.done():
            last.result.set_exception(TooManyError())

    def _forget(self, check: _Check) -> None:
        """A check does not wait any more."""
        self._of_host[check.host] -= 1
        if not self._of_host[check.host]:
            del self._of_host[check.host], self._last_rank[check.host]

    async def _run(self) -> None:
        """Check one after the other until none is left."""
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                check = heapq.heappop(self._waiting)
                self._rank = check.rank
                self._forget(check)
                # Whoever asked may have gone, now or meanwhile.
                if check.result.done():
                    continue
                work = loop.run_in_executor(self._thread, check.is_right)
                await asyncio.wait([work])
                if not check.result.done():
                    try:
                        check.result.set_result(work.result())
                    except Exception as e:
                        check.result.set_exception(e)
        finally:
            self._work = None
