"""The seam between the server and those who watch it.

The server tells an `Observer` about its life and its loop; metrics, web
pages, the job log and systemd are behind it. The server never waits for any of them.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Protocol

from spalloc_server.controller import Controller
from spalloc_server.model.job_events import JobEvent
from spalloc_server.observe.stats import ServerStats


class Observed(Protocol):
    """What an observer may use of the server."""

    stats: ServerStats
    """Counts; to be read by any thread."""

    @property
    def controller(self) -> Controller:
        """To be used in the loop's thread only: others would make the loop wait."""

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect. From any thread."""

    @property
    def client_count(self) -> int:
        """How many clients are connected. From any thread."""

    @property
    def internal_errors(self) -> Mapping[str, int]:
        """How often there was an error in the server, by what it was in. From any
        thread.
        """

    @property
    def store_errors(self) -> int:
        """How often state could not be written. From any thread."""

    def wake(self) -> None:
        """Have the loop turn once more, soon. From any thread."""


class Observer:
    """Is told what the server is doing; by the loop's thread unless said otherwise.

    Nothing in here may block, and but for `open` nothing may raise. This one
    does nothing.
    """

    on_job_event: Callable[[JobEvent], object] | None = None
    """What happens to jobs; by any thread, with the controller's lock held."""

    longest_wait: float = math.inf
    """The loop has to turn at least that often, in seconds. Does not change."""

    def open(self) -> None:
        """Called in the main thread, once this is the only server of its state.

        May raise `OSError` to keep the server from starting.
        """

    def started(self, server: Observed) -> None:
        """The server listens, and its loop begins."""

    def turned(self) -> None:
        """The loop has done all there was to do, and is going to wait."""

    def reloading(self) -> None:
        """The config file is going to be read again."""

    def reloaded(self) -> None:
        """It was, or was refused."""

    def stopping(self) -> None:
        """The loop has ended; the hardware may still be busy for a while."""

    def close(self) -> None:
        """The server has ended, or could not start after `open`."""


class Observers(Observer):
    """Several observers as one."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = list(observers)
        listeners = [
            o.on_job_event for o in self._observers if o.on_job_event is not None
        ]
        if listeners:
            self.on_job_event = partial(_tell_all, listeners)
        waits = [observer.longest_wait for observer in self._observers]
        self.longest_wait = min(waits, default=math.inf)

    def open(self) -> None:
        """Open all, or none."""
        with contextlib.ExitStack() as undo:
            for observer in self._observers:
                observer.open()
                undo.callback(observer.close)
            undo.pop_all()

    def started(self, server: Observed) -> None:
        """Tell all."""
        _tell_all([observer.started for observer in self._observers], server)

    def turned(self) -> None:
        """Tell all."""
        _tell_all([observer.turned for observer in self._observers])

    def reloading(self) -> None:
        """Tell all."""
        _tell_all([observer.reloading for observer in self._observers])

    def reloaded(self) -> None:
        """Tell all."""
        _tell_all([observer.reloaded for observer in self._observers])

    def stopping(self) -> None:
        """Tell all."""
        _tell_all([observer.stopping for observer in self._observers])

    def close(self) -> None:
        """Close all, the last one first."""
        _tell_all([observer.close for observer in reversed(self._observers)])


def _tell_all(tell: Iterable[Callable[..., object]], *news: object) -> None:
    """Tell all, even where one of them fails.

    :raises Exception: what the first one that failed has raised
    """
    first: Exception | None = None
    for each in tell:
        try:
            each(*news)
        except Exception as e:
            first = first or e
    if first is not None:
        raise first
