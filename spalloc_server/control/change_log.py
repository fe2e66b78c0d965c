"""Has changes happen, tells of them, and has them happen again in a replay."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from spalloc_server.model.changes import (
    Change,
    RefusedError,
    ReplayError,
    from_record,
    name_of,
    to_record,
)

logger = logging.getLogger(__name__)


MEND_TRIES: Final = 3
"""How often it is tried to put everything in order after an error."""


class EventFailedError(Exception):
    """An event has met an internal error, which was logged; all is in order again."""


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
        self.on_failure: Callable[[], object] | None = None
        """Told, with the lock held, that events told of may not have happened as a
        replay would have them: the state as it is now is what counts."""
        self.failures: Counter[str] = Counter()
        """How often an internal error was met, by what was to happen."""
        self.is_dormant = True
        """Is the hardware to be left alone, as in a replay?"""
        self._now: float | None = None
        self._doers: Mapping[type[Any], Callable[[Any], object]] = {}
        self._menders: Sequence[Callable[[], object]] = ()
        self._is_mending = False

    def connect(
        self,
        doers: Mapping[type[Any], Callable[[Any], object]],
        menders: Sequence[Callable[[], object]] = (),
    ) -> None:
        """Say which function does which kind of change; it is given the change.

        With the lock held, it does all of it or raises `RefusedError`.

        :param menders: put in order what any other error has left, with the lock held
        """
        self._doers = doers
        self._menders = menders

    def wall_time(self) -> float:
        """When what happens now is said to happen, in seconds since 1970 (UTC)."""
        return time.time() if self._now is None else self._now

    def do(self, change: Change, at: float | None = None) -> Any:
        """Have a change happen that is stored already, or need not be.

        :param at: when that is said to be, in seconds since 1970 (UTC); None for now
        :return: what there is to say to whoever wanted the change
        :raises RefusedError: if it cannot be, and nothing has changed
        """
        # As `at_one_time` does; this comes with every command.
        with self.lock:
            before = self._now
            self._now = self.wall_time() if at is None else at
            try:
                return self._doers[type(change)](change)
            finally:
                self._now = before

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
        """Tell of an event, and have it happen. With the lock held.

        :raises EventFailedError: see `in_order`
        """
        with self.in_order(name_of(event)), self.at_one_time():
            self.note(event)
            self._doers[type(event)](event)

    @contextlib.contextmanager
    def in_order(self, what: str) -> Iterator[None]:
        """Have an internal error within cost no more than what was to happen.

        It is logged and counted, what it has left is mended, and whoever stores the
        state is told. From any thread.

        :param what: is to happen; one of a few texts
        :raises EventFailedError: after an error
        """
        with self.lock:
            try:
                yield
            except EventFailedError:
                raise
            except Exception as e:
                if self._is_mending:
                    raise
                self.failures[what] += 1
                logger.exception("Internal error in an event (%s)", what)
                self.mend()
                raise EventFailedError(what) from e

    def mend(self) -> None:
        """Put in order what an error in a change has left. With the lock held.

        What was told before is no longer what has happened. Takes time in proportion
        to all jobs.
        """
        if self.on_failure is not None:
            self.on_failure()
        self._is_mending = True
        try:
            # A second time may do what the first one could not: whoever always fails is
            # given up.
            for _ in range(MEND_TRIES):
                if self._try_to_mend():
                    break
        finally:
            self._is_mending = False

    def _try_to_mend(self) -> bool:
        done = True
        for mend in self._menders:
            try:
                mend()
            except Exception:
                logger.exception("The state could not be repaired completely")
                done = False
        return done

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
