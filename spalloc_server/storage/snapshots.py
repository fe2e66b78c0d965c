"""When snapshots are made, and what has come of them."""

from __future__ import annotations

import logging
import os
import pickle
import time
from collections.abc import Callable
from typing import Final

from spalloc_server.controller import Controller
from spalloc_server.storage import database
from spalloc_server.storage.background import BackgroundSnapshot, Tidying
from spalloc_server.storage.forked import ForkError, fork
from spalloc_server.storage.journal import Journal

logger = logging.getLogger(__name__)

RECORDS_BEFORE_SNAPSHOT: Final = 10_000
"""The least number of records after which the journal gives way to a snapshot."""

RECORDS_PER_JOB: Final = 20
"""So many records for each job have to come before a snapshot of all is worth it."""

MOST_RECORDS: Final = 50_000
"""But no more than this, however many jobs there are: a start does them all again,
which must not take longer than a few seconds. As a long record counts as several, it is
also a bound of bytes."""

SNAPSHOT_RETRY_SECONDS: Final = 30.0
"""After a failure: the journal can go on without a snapshot for as long."""


class Snapshots:
    """Makes snapshots while everything goes on, a little in each turn of the loop."""

    def __init__(self, filename: str) -> None:
        """Make none yet.

        :param filename: the state file
        """
        self._filename = filename
        self.ended = 0
        """How many were made, or could not be, since the start."""
        self.failed = 0
        """How many could not be."""
        self.made_at: float | None = None
        """When the last one was made, in seconds since 1970 (UTC); None for before the
        start."""
        self.problem: str | None = None
        """Why the last one was not made."""
        self.number = 1
        """Of the one that is in force."""
        self._background: BackgroundSnapshot | None = None
        self._tidying: Tidying | None = None
        self._wanted = False
        self._retry_at = 0.0

    def in_force(self, number: int, after: int | None = None) -> None:
        """Note which snapshot is in force in a file that is there, or is new.

        :param after: the last commit that is in it, where there may be more than is
            needed besides
        """
        self.give_up()
        self.number = number
        if after is not None:
            self._tidying = Tidying(number, after)

    def request(self) -> int:
        """Have one made soon.

        :return: what `ended` will be by then
        """
        self._wanted = True
        self._retry_at = 0.0
        return self.ended + 1 + (self._background is not None)

    def note(self, problem: str | None = None) -> None:
        """Note that one was made, or why it was not."""
        self.ended += 1
        self.problem = problem
        if problem is None:
            self.made_at = time.time()

    @property
    def is_working(self) -> bool:
        """Is there more to do, soon?"""
        return self._background is not None or self._tidying is not None

    def go_on(
        self, controller: Controller, journal: Journal, commit: Callable[[], object]
    ) -> bool:
        """Do a little of what there is to do.

        :param commit: makes last what is in the state already
        :return: whether there is more to do, soon
        :raises JournalError: if nothing can be stored
        """
        try:
            if self._background is not None:
                self._go_on_with(self._background, journal)
            elif self._tidying is not None:
                if not self._tidying.go_on(journal):
                    self._tidying = None
            elif self._wanted or self._is_due(controller, journal):
                self._wanted = False
                self._begin(controller, journal, commit)
            else:
                return False
        except ForkError as e:
            self._postpone(str(e))
        return self.is_working

    def _is_due(self, controller: Controller, journal: Journal) -> bool:
        length = journal.length
        return (
            length >= RECORDS_BEFORE_SNAPSHOT
            and length >= min(RECORDS_PER_JOB * controller.job_count, MOST_RECORDS)
            and time.monotonic() >= self._retry_at
        )

    def _begin(
        self, controller: Controller, journal: Journal, commit: Callable[[], object]
    ) -> None:
        if not self._has_room():
            self._postpone("there is no room for it")
            return
        with controller.lock:
            # What it is to follow must be there.
            commit()
            self._background = BackgroundSnapshot(
                self.number + 1, journal, fork(lambda: data(controller))
            )

    def _has_room(self) -> bool:
        """Is there room for a snapshot beside the one that is there?"""
        try:
            there = os.statvfs(os.path.dirname(os.path.abspath(self._filename)))
            needed = 4 * os.path.getsize(self._filename)
        except OSError:
            return False
        return there.f_bavail * there.f_frsize > needed

    def _go_on_with(self, background: BackgroundSnapshot, journal: Journal) -> None:
        if background.go_on(journal):
            self._background = None
            background.close()
            self.number = background.number
            journal.length -= background.length
            self.note()
            self._tidying = Tidying(background.number, background.after)

    def _postpone(self, problem: str) -> None:
        # The journal is as good as before. What is there of the snapshot is removed.
        self.give_up()
        self.failed += 1
        self.note(problem)
        self._retry_at = time.monotonic() + SNAPSHOT_RETRY_SECONDS
        logger.error(
            "Cannot save a snapshot to %s: %s. Changes are still stored, in the "
            "journal; the next try is in %.0f s",
            self._filename,
            problem,
            SNAPSHOT_RETRY_SECONDS,
        )
        # Its number may be in use by now.
        self._tidying = Tidying(self.number, 0)

    def give_up(self) -> None:
        """Leave what is under way."""
        self._tidying = None
        if self._background is not None:
            self._background.close()
            self._background = None


def pickled(controller: Controller) -> bytes:
    """The contents of a snapshot."""
    return pickle.dumps(controller, protocol=pickle.HIGHEST_PROTOCOL)


def data(controller: Controller) -> bytes:
    """The contents of a snapshot, as they are stored."""
    return database.compressed(pickled(controller))
