"""Has changes happen, tells of them, and has them happen again in a replay."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from spalloc_server.model.changes import (
    Change,
    RefusedError,
    ReplayError,
    from_record,
    to_record,
)


class ChangeLog:
    """What everything that changes the state goes through.

    Whoever stores the state is told of events by `on_event`; commands it has stored
    before it gave them.
    """

    def __init__(self) -> None:
        # Re-entrant: a frame may report from within being given requests.
        self.lock = threading.RLock()
        """Held by whoever changes the state; hold it over several changes to have
        nothing happen between them."""
        self.on_event: Callable[[list[Any]], object] | None = None
        """Told, with the lock held, of each event as it is to be stored. It may not
        be told yet that the event has happened, but always before what comes of it."""
        self.on_background_change: Callable[[], object] | None = None
        """Called, without the lock and by any thread, when something has changed other
        than by a call of a method of the controller."""
        self.is_dormant = True
        """Is the hardware to be left alone, as in a replay?"""
        self._now: float | None = None
        self._doers: Mapping[type[Any], Callable[[Any], object]] = {}

    def connect(self, doers: Mapping[type[Any], Callable[[Any], object]]) -> None:
        """Say which function does which kind of change; it is given the change.

        With the lock held, it does all of it or raises `RefusedError`.
        """
        self._doers = doers

    def wall_time(self) -> float:
        """When what happens now is said to happen, in seconds since 1970 (UTC)."""
        return time.time() if self._now is None else self._now

    def do(self, change: Change, at: float | None = None) -> Any:
        """Have a change happen that is stored already, or need not be.

        :param at: when that is said to be, in seconds since 1970 (UTC); None for now
        :return: what there is to say to whoever wanted the change
        :raises RefusedError: if it cannot be, and nothing has changed
        """
        with self.at_one_time(at):
            return self._doers[type(change)](change)

    @contextlib.contextmanager
    def at_one_time(self, at: float | None = None) -> Iterator[None]:
        """Have all that happens within be said to happen at the same time.

        What is decided within goes by that time, and so does its replay.

        :param at: when, in seconds since 1970 (UTC); None for now
        """
        with self.lock:
            before = self._now
            self._now = self.wall_time() if at is None else at
            try:
                yield
            finally:
                self._now = before

    def note(self, event: Change) -> None:
        """Tell of an event that happens in other ways than by `happen`."""
        if self.on_event is not None:
            self.on_event(to_record(event, self.wall_time()))

    def happen(self, event: Change) -> None:
        """Tell of an event, and have it happen. With the lock held."""
        with self.at_one_time():
            self.note(event)
            self._doers[type(event)](event)

    def replay(self, records: Iterable[Sequence[Any]]) -> None:
        """Do again, on a dormant state, what was done to it before.

        No hardware is asked for anything: what turns out not to have been finished is
        asked for when the controller starts.

        :param records: stored changes
        :raises ReplayError: if one cannot follow those before it. The state is then of
            no use any more: its change may have been done in part.
        """
        for done, record in enumerate(records):
            try:
                change, at = from_record(record)
                with contextlib.suppress(RefusedError):
                    self.do(change, at)
            except Exception as e:
                problem = f"{record!r:.300}: {type(e).__name__}: {e}"
                raise ReplayError(done, problem) from e

    def wake(self) -> None:
        """Say that something has changed in the background. Without the lock."""
        if self.on_background_change is not None:
            self.on_background_change()
