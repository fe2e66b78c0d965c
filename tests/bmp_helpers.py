"""Helpers of the tests that drive simulated BMPs."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Callable, Iterable

from spalloc_server.async_bmp_controller import AtomicRequests, Failure
from spalloc_server.links import Links

SECONDS = 30.0
"""How long to wait for what should come at once."""

_counter = itertools.count()


def loopback_host() -> str:
    """Give a loopback address that no other test, here or in another run, uses."""
    pid, count = os.getpid(), next(_counter)
    return f"127.{1 + count % 250}.{pid >> 8 & 0xFF}.{1 + pid % 254}"


def wait_for(condition: Callable[[], object], what: str = "condition") -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


class Outcome:
    """A group of requests and what became of it."""

    def __init__(
        self,
        on: Iterable[int] = (),
        off: Iterable[int] = (),
        links: Iterable[tuple[int, Links, bool]] = (),
    ) -> None:
        self.calls: list[tuple[bool, Failure | None]] = []
        self.thread: threading.Thread | None = None
        self.at = 0.0
        self._done = threading.Event()
        self.requests = AtomicRequests(self._on_done)
        for board in on:
            self.requests.power(board, True)
        for board in off:
            self.requests.power(board, False)
        for board, link, enable in links:
            self.requests.link(board, link, enable)

    def _on_done(self, success: bool, reason: Failure | None = None) -> None:
        self.at = time.monotonic()
        self.thread = threading.current_thread()
        self.calls.append((success, reason))
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def wait(self) -> tuple[bool, Failure | None]:
        """Wait for the result and check that it came once."""
        assert self._done.wait(SECONDS), "the request did not end"
        assert len(self.calls) == 1
        return self.calls[0]
