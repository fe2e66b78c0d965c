"""The server's state on disk: one file, with a snapshot and what came after it.

A change is stored before it is done, and both before anybody is told. See
`spalloc_server.storage.database` for the file. Whenever something cannot be written,
neither the file nor the connection to it is trusted any more: all that is in memory is
*owed* to the disk, as a file that is written anew, before anything is promised again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import sqlite3
import time
from collections.abc import Sequence
from typing import Final

from spalloc_server.controller import Controller
from spalloc_server.storage import database, files, names
from spalloc_server.storage.background import BackgroundSnapshot, Tidying
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.forked import ForkError
from spalloc_server.storage.journal import Journal, JournalError, Record, encoded
from spalloc_server.storage.lock_file import Promise, StateLock
from spalloc_server.storage.reference_state import is_reference_state
from spalloc_server.storage.replacement import Replacement
from spalloc_server.storage.restoring import Restored, restore

logger = logging.getLogger(__name__)

RECORDS_BEFORE_SNAPSHOT: Final = 10_000
"""The least number of records after which the journal gives way to a snapshot."""

RECORDS_PER_JOB: Final = 20
"""So many records for each job have to come before a snapshot of all is worth it."""

RETRY_SECONDS: Final = 1.0
"""How long to wait after a failure to write before the next try."""

SNAPSHOT_RETRY_SECONDS: Final = 30.0
"""The same for a snapshot that the journal can go on without."""

WORK_SECONDS: Final = 0.01
"""Between two pieces of work on a snapshot that is being written, when idle."""


class StateStore:
    """Keeps a controller's state, and gives it back after a restart.

    For the thread that owns the controller; events come from any thread, with the
    controller's lock held, which all methods take where they need it.
    """

    def __init__(self, filename: str) -> None:
        """Keep the state in a file.

        :param filename: it ends in the version
        """
        self._filename = filename
        self.lock: StateLock | None = None
        """Where it is noted how much has been stored; None for nowhere."""
        self.retry_at: float | None = None
        """When to call `commit_events` although nothing has happened; None for never.
        By the monotonic clock."""
        self.errors = 0
        """How often something could not be written."""
        self.snapshots = 0
        """How often a snapshot was written, or could not be, since the start."""
        self.snapshot_at: float | None = None
        """When the last one was written, in seconds since 1970 (UTC); None for before
        the start."""
        self.snapshot_problem: str | None = None
        """Why the last one was not written."""
        self._snapshot_wanted = False
        self._journal: Journal | None = None
        self._identity = 0
        self._snapshot_number = 1
        self._events: list[str] = []
        # Why nothing can be stored for now.
        self._problem = ""
        # Is all that is in memory to be written before anything is promised?
        self._owed = False
        self._failed_until: float | None = None
        self._background: BackgroundSnapshot | None = None
        self._tidying: Tidying | None = None
        self._snapshot_retry_at = 0.0
        self._replacement = Replacement(filename)
        self._recorded: Controller | None = None

    # Reading

    def restore(self) -> Controller | None:
        """Read the state back, as a controller that leaves the hardware alone.

        It is being recorded from then on. What cannot be read is kept aside, and an
        error line says where, and what is missing.

        :return: None where there is no state
        :raises StateFileError: if the state must not be read, or cannot for a reason
            that is no fault of the files
        """
        promise = Promise(0, 0) if self.lock is None else self.lock.found
        found = restore(self._filename, promise)
        self._replacement.superseded = found.superseded
        self._replacement.keep_old = found.keep_old
        controller = found.controller
        if controller is not None and found.sound:
            self._go_on_with(found)
            if self._journal is not None:
                self._recorded = controller
                controller.on_event = self._append
        return controller

    def _go_on_with(self, found: Restored) -> None:
        try:
            self._journal = Journal(
                self._filename, found.number, found.length, self._promise
            )
        except JournalError:
            return
        self._identity = found.identity
        self._snapshot_number = found.snapshot
        self._promise(found.number)
        self._tidying = Tidying(found.snapshot, found.after)

    def discard(self) -> None:
        """Remove all state there is, of any version."""
        for name, version in names.state_files(self._filename):
            if not is_reference_state(name, version) and files.check_file(name):
                files.remove(names.files_of(name))
        files.remove(names.files_of(self._filename))
        if self.lock is not None:
            self.lock.promise(0, 0)
            self.lock.found = Promise(0, 0)

    # Writing

    def open(self, controller: Controller) -> None:
        """Begin to keep the state of a controller; what is owed is written first.

        Where that is not possible, nothing is promised until it is.
        """
        with controller.lock:
            controller.on_event = self._append
            if self._journal is not None and self._recorded is controller:
                self.commit_events(controller)
                return
        self._recorded = None
        self._owed = True
        self._try_to_pay(controller)

    def _append(self, record: Record) -> None:
        self._events += encoded([record])

    def _promise(self, number: int) -> None:
        if self.lock is not None:
            self.lock.promise(self._identity, number)

    def commit(self, records: Sequence[Record] = ()) -> None:
        """Make changes last: those noted since the last time, then these.

        :raises JournalError: if they cannot be written; these are then forgotten,
            the others are kept for the next try
        """
        if self._owed:
            raise JournalError(self._problem)
        if not self._events and not records:
            return
        assert self._journal is not None
        try:
            self._journal.commit([*self._events, *encoded(records)])
        except JournalError as e:
            self._owe(str(e))
            raise
        self._events.clear()

    def _owe(self, problem: str) -> None:
        """Note that all that is in memory has to be written."""
        self._owed = True
        self._give_up_background()
        self._tidying = None
        self._note_failure(problem)
        # At once: until then, what is told may not outlast a crash.
        self._failed_until = self.retry_at = time.monotonic()

    def owe_snapshot(self, problem: str = "the last change failed") -> None:
        """Have all that is in memory written before anything is promised again.

        For when what was stored is not what was done. The next `commit_events` writes
        it; until that has succeeded, `commit` fails.

        :param problem: why, for those whose changes are refused meanwhile
        """
        self._owed = True
        self._give_up_background()
        self._tidying = None
        self._problem = self._problem or problem

    def _note_failure(self, problem: str) -> None:
        self.errors += 1
        if self._failed_until is None:
            logger.error("Changes cannot be stored: %s", problem)
        self._problem = problem
        self._failed_until = time.monotonic() + RETRY_SECONDS
        self.retry_at = self._failed_until

    def commit_events(self, controller: Controller) -> None:
        """Make the events noted since the last time last, or try again later.

        Also write snapshots that are due, a little each time. To be called in every
        turn of the loop, before replies are sent.
        """
        if self._events and not self._owed:
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()
        if not self._owed:
            self._work_on_snapshot(controller)
        elif self._failed_until is None or time.monotonic() >= self._failed_until:
            self._try_to_pay(controller)

    # Snapshots, a little at a time

    @property
    def filename(self) -> str:
        """The file."""
        return self._filename

    @property
    def problem(self) -> str | None:
        """Why nothing can be stored for now; None if it can be."""
        return (self._problem or "not yet") if self._owed else None

    def request_snapshot(self) -> int:
        """Have a snapshot written soon, a little in each turn.

        :return: what `snapshots` will be when that has been done, or given up
        """
        self._snapshot_wanted = True
        self._snapshot_retry_at = 0.0
        return self.snapshots + 1 + (self._background is not None)

    def _note_snapshot(self, problem: str | None = None) -> None:
        self.snapshots += 1
        self.snapshot_problem = problem
        if problem is None:
            self.snapshot_at = time.time()

    def _work_on_snapshot(self, controller: Controller) -> None:
        journal = self._journal
        assert journal is not None
        self.retry_at = None
        try:
            if self._background is not None:
                self._go_on_with_background(journal)
            elif self._tidying is not None:
                if not self._tidying.go_on(journal):
                    self._tidying = None
            elif self._snapshot_wanted or self._is_long(controller):
                self._snapshot_wanted = False
                self._begin_background(controller, journal)
        except ForkError as e:
            self._give_up_background()
            self._postpone_snapshot(str(e))
        except JournalError as e:
            self._owe(str(e))
            return
        if self._background is not None or self._tidying is not None:
            self.retry_at = time.monotonic() + WORK_SECONDS

    def _is_long(self, controller: Controller) -> bool:
        assert self._journal is not None
        length = self._journal.length
        return (
            length >= RECORDS_BEFORE_SNAPSHOT
            and length >= RECORDS_PER_JOB * controller.job_count
            and time.monotonic() >= self._snapshot_retry_at
        )

    def _begin_background(self, controller: Controller, journal: Journal) -> None:
        if not self._has_room():
            self._postpone_snapshot("there is no room for it")
            return
        with controller.lock:
            # What it is to follow must be there.
            self.commit()
            self._background = BackgroundSnapshot(
                self._snapshot_number + 1, journal, lambda: _data(controller)
            )

    def _has_room(self) -> bool:
        """Is there room for a snapshot beside the one that is there?"""
        try:
            there = os.statvfs(os.path.dirname(os.path.abspath(self._filename)))
            needed = 4 * os.path.getsize(self._filename)
        except OSError:
            return False
        return there.f_bavail * there.f_frsize > needed

    def _go_on_with_background(self, journal: Journal) -> None:
        background = self._background
        assert background is not None
        if background.go_on(journal):
            self._background = None
            background.close()
            self._snapshot_number = background.number
            journal.length -= background.length
            self._note_snapshot()
            self._tidying = Tidying(background.number, background.after)

    def _give_up_background(self) -> None:
        if self._background is not None:
            self._background.close()
            self._background = None

    def _postpone_snapshot(self, problem: str) -> None:
        # The journal is as good as before. What is there of the snapshot is removed.
        self.errors += 1
        self._note_snapshot(problem)
        self._snapshot_retry_at = time.monotonic() + SNAPSHOT_RETRY_SECONDS
        logger.error("%s; the journal goes on", self._describe(problem))
        # Its number may be in use by now.
        self._tidying = Tidying(self._snapshot_number, 0)

    # Snapshots, all at once

    def _describe(self, problem: str) -> str:
        return f"cannot save state to {self._filename}: {problem}"

    def require_snapshot(self, controller: Controller) -> None:
        """Write a snapshot of what the journal cannot tell; else store nothing more.

        Where it fails, it is tried again by and by, and `commit` fails until then.
        """
        self.owe_snapshot()
        self._try_to_pay(controller)

    def snapshot(self, controller: Controller) -> bool:
        """Write all state anew, and begin a new journal.

        :return: whether that was possible; if not, it was logged
        """
        self.require_snapshot(controller)
        return not self._owed

    def _try_to_pay(self, controller: Controller) -> None:
        """Write all that is owed, if that is possible now."""
        had_failed = self._failed_until is not None
        try:
            self._rewrite(controller)
            self._journal = Journal(self._filename, promise=self._promise)
            self._promise(0)
        except (OSError, sqlite3.Error, JournalError, StateFileError) as e:
            with controller.lock:
                # All that is in memory is owed, they among it.
                self._events.clear()
            self._note_snapshot(database.reason(e))
            self._note_failure(self._describe(database.reason(e)))
            return
        self._note_snapshot()
        self._owed = False
        self._problem = ""
        self._failed_until = self.retry_at = None
        if had_failed:
            logger.warning("Changes are being stored again")

    def _rewrite(self, controller: Controller) -> None:
        """Replace the file by one with nothing but a snapshot of what is in memory.

        :raises OSError: as `Replacement.write` does
        :raises sqlite3.Error: likewise
        :raises StateFileError: likewise
        """
        if self.lock is not None:
            self.lock.ensure()

        def contents() -> bytes:
            with controller.lock:
                pickled = _pickled(controller)
                # They are part of it; what comes from now on is not.
                self._events.clear()
            return pickled

        self._identity = self._replacement.write(contents, self.close)
        self._snapshot_number = 1

    def finish(self, controller: Controller) -> bool:
        """Write the last snapshot, of a controller that has been stopped.

        :return: whether it succeeded; if not, it was logged, and the journal has all
            that was committed
        """
        self._give_up_background()
        if not self._owed:
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()
        try:
            self._rewrite(controller)
        except (OSError, sqlite3.Error, JournalError, StateFileError) as e:
            self._note_failure(self._describe(database.reason(e)))
            self.close()
            return False
        return True

    def close(self) -> None:
        """Let go of the files."""
        self._give_up_background()
        self._tidying = None
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def _pickled(controller: Controller) -> bytes:
    return pickle.dumps(controller, protocol=pickle.HIGHEST_PROTOCOL)


def _data(controller: Controller) -> bytes:
    return database.compressed(_pickled(controller))
