"""The way in for changes: stored first, all of a turn at once, and then done."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from spalloc_server.controller import Controller
from spalloc_server.model.changes import Change, RefusedError, to_record
from spalloc_server.storage.journal import JournalError
from spalloc_server.storage.store import StateStore


class NotStoredError(Exception):
    """A change cannot be stored, and so is not done; the message is for clients."""


class Intake:
    """Makes the changes that commands want. For the server's thread."""

    def __init__(self, controller: Controller, store: StateStore) -> None:
        """Take in changes.

        :param controller: does them
        :param store: stores them
        """
        self._controller = controller
        self._store = store
        self._now = 0.0

    @property
    def must_wait(self) -> bool:
        """Had changes better wait until another turn of the loop?"""
        return self._store.must_wait

    @contextlib.contextmanager
    def stored(self, changes: Sequence[Change]) -> Iterator[str | None]:
        """Store changes; they are to be done within, in this order, by `do`.

        Nothing else happens to the controller meanwhile, so that what is stored is in
        the order in which it is done.

        :return: why they are not to be done; None if they are
        """
        self._now = time.time()
        with self._controller.lock:
            if self._store.is_unexplained:
                # An event has failed since the last turn: that costs nobody's command.
                self._store.settle(self._controller)
            problem = None
            try:
                self._store.commit([to_record(change, self._now) for change in changes])
            except JournalError as e:
                problem = f"nothing was changed, it cannot be stored: {e}"
            yield problem

    def do(self, change: Change) -> Any:
        """Do a change that is stored.

        :return: what there is to reply
        :raises RefusedError: if it cannot be done as things are
        :raises Exception: if there is an error in the server
        """
        try:
            return self._controller.apply(change, self._now)
        except RefusedError:
            raise
        except Exception:
            # It may have been done in part, and must not be done again after a crash
            # as if it had succeeded: what there is now is what counts. And nothing
            # may stay half done, which would keep boards from everybody.
            self._controller.mend()
            raise

    def make(self, change: Change) -> Any:
        """Store a change and do it, as `do`.

        :raises NotStoredError: if it cannot be stored
        """
        with self.stored([change]) as problem:
            if problem is not None:
                raise NotStoredError(problem)
            return self.do(change)
