"""The server's state on disk: one file, with a snapshot and what came after it.

A change is stored before it is done, and both before anybody is told. See
`spalloc_server.storage.database` for the file. Whenever something cannot be written,
neither the file nor the connection to it is trusted any more: all that is in memory is
*owed* to the disk, as a file that is written anew, before anything is promised again.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from typing import Final

from spalloc_server.controller import Controller
from spalloc_server.storage import database, files, names
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.forked import ForkError, fork
from spalloc_server.storage.journal import (
    Journal,
    JournalError,
    Record,
    encoded,
    encoded_together,
)
from spalloc_server.storage.lock_file import Promise, StateLock
from spalloc_server.storage.reference_state import is_reference_state
from spalloc_server.storage.replacement import Replacement
from spalloc_server.storage.replaying import Restored
from spalloc_server.storage.restoring import restore
from spalloc_server.storage.rewriting import Rewriting
from spalloc_server.storage.snapshots import Snapshots, data

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""How long to wait after a failure to write before the next try."""

WORK_SECONDS: Final = 0.01
"""Between two pieces of work on a snapshot that is being written, when idle."""

JOBS_AT_ONCE: Final = 1000
"""With no more jobs than this, all state is written anew at once: it takes less than a
process that does it."""


CANNOT_WRITE: Final = (OSError, sqlite3.Error, JournalError, StateFileError)


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
        self._journal: Journal | None = None
        self._identity = 0
        self._events: list[str] = []
        self.is_unexplained = False
        """Is what is in memory not what the records say, because of an error? To be
        read with the controller's lock held."""
        # Why nothing can be stored for now.
        self._problem = ""
        # Is all that is in memory to be written before anything is promised?
        self._owed = False
        self._failed_until: float | None = None
        self._failures = 0
        self._snapshots = Snapshots(filename)
        self._rewriting: Rewriting | None = None
        # Has the last child process failed, so that none is to be relied on?
        self._without_child = False
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
                self._listen_to(controller)
        return controller

    def _go_on_with(self, found: Restored) -> None:
        try:
            self._journal = Journal(
                self._filename, found.number, found.length, self._promise
            )
        except JournalError:
            return
        self._identity = found.identity
        self._promise(found.number)
        self._snapshots.in_force(found.snapshot, found.after)

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
            self._listen_to(controller)
            if self._journal is not None and self._recorded is controller:
                self.commit_events(controller)
                return
        self._recorded = None
        self._owed = True
        self._try_to_pay(controller)

    def _listen_to(self, controller: Controller) -> None:
        controller.on_event = self._append
        controller.on_failure = self._note_unexplained

    def _append(self, record: Record) -> None:
        self._events += encoded([record])

    def _note_unexplained(self) -> None:
        # By any thread: the loop's does the rest before it stores anything else.
        self.is_unexplained = True

    def _promise(self, number: int) -> None:
        if self.lock is not None:
            self.lock.promise(self._identity, number)

    def commit(self, records: Sequence[Record] = ()) -> None:
        """Make changes last: those noted since the last time, then these.

        :raises JournalError: if they cannot be written; these are then forgotten,
            the others are kept for the next try
        """
        if self.is_unexplained:
            self.owe_snapshot()
        if self._owed:
            raise JournalError(self._problem)
        if not self._events and not records:
            return
        assert self._journal is not None
        try:
            texts = (
                [*self._events, encoded_together(records)] if records else self._events
            )
            self._journal.commit(texts, len(self._events) + len(records))
        except JournalError as e:
            self._owe(str(e))
            raise
        self._events.clear()

    def _owe(self, problem: str) -> None:
        """Note that all that is in memory has to be written."""
        self.owe_snapshot(problem)
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
        self._snapshots.give_up()
        self._give_up_rewriting()
        self._problem = self._problem or problem

    def fail(self, problem: str) -> None:
        """Have all that is in memory written, but not at once: something is wrong."""
        self.owe_snapshot(problem)
        self._note_failure(problem)

    def _note_failure(self, problem: str) -> None:
        self._failures += 1
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
        if self.is_unexplained:
            self.owe_snapshot()
        if self._events and not self._owed:
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()
        if not self._owed:
            self._work_on_snapshot(controller)
        elif self._rewriting is not None:
            self._go_on_rewriting(controller)
        elif self._failed_until is None or time.monotonic() >= self._failed_until:
            self._begin_to_pay(controller)

    # What there is to know

    @property
    def errors(self) -> int:
        """How often something could not be written."""
        return self._failures + self._snapshots.failed

    @property
    def filename(self) -> str:
        """The file."""
        return self._filename

    @property
    def problem(self) -> str | None:
        """Why nothing can be stored for now; None if it can be."""
        return (self._problem or "not yet") if self._owed else None

    @property
    def must_wait(self) -> bool:
        """Is all state being written anew, so that changes had better wait a little?"""
        return self._rewriting is not None or (self.is_unexplained and not self._owed)

    @property
    def snapshots(self) -> Snapshots:
        """Those that have been made, and are to be."""
        return self._snapshots

    def _work_on_snapshot(self, controller: Controller) -> None:
        assert self._journal is not None
        try:
            more = self._snapshots.go_on(controller, self._journal, self.commit)
        except JournalError as e:
            self._owe(str(e))
            return
        self.retry_at = time.monotonic() + WORK_SECONDS if more else None

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
        """Write all that is owed at once, if that is possible now."""
        try:
            self._rewrite(lambda: data(controller), controller)
        except CANNOT_WRITE as e:
            with controller.lock:
                # All that is in memory is owed, they among it.
                self._events.clear()
            self._note_not_paid(database.reason(e))
        else:
            self._note_paid()

    def _begin_to_pay(self, controller: Controller) -> None:
        """Begin to write all that is owed, in this turn of the loop and in others."""
        if controller.job_count <= JOBS_AT_ONCE or self._without_child:
            self._without_child = False
            self._try_to_pay(controller)
            return
        try:
            # Before much work is done in vain.
            self._replacement.check()
            with controller.lock:
                self._rewriting = Rewriting(fork(lambda: data(controller)))
                self._forget_records()
        except ForkError:
            self._try_to_pay(controller)
        except CANNOT_WRITE as e:
            self._note_not_paid(database.reason(e))
        else:
            self.retry_at = time.monotonic() + WORK_SECONDS

    def _go_on_rewriting(self, controller: Controller) -> None:
        assert self._rewriting is not None
        self.retry_at = time.monotonic() + WORK_SECONDS
        try:
            contents = self._rewriting.go_on()
            if contents is None:
                return
            self._give_up_rewriting()
            self._rewrite(lambda: contents)
        except ForkError as e:
            self._without_child = True
            self._give_up_rewriting()
            self._note_not_paid(str(e))
        except CANNOT_WRITE as e:
            self._note_not_paid(database.reason(e))
        else:
            self._note_paid()
            # What has happened meanwhile.
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()

    def _give_up_rewriting(self) -> None:
        if self._rewriting is not None:
            self._rewriting.close()
            self._rewriting = None

    def settle(self, controller: Controller) -> None:
        """Write at once what is owed because of an error; for who cannot wait."""
        if self.is_unexplained and not self._owed:
            self.owe_snapshot()
            self._try_to_pay(controller)

    def _note_not_paid(self, problem: str) -> None:
        self._snapshots.note(problem)
        self._note_failure(self._describe(problem))

    def _note_paid(self) -> None:
        had_failed = self._failed_until is not None
        self._snapshots.note()
        self._owed = False
        self._problem = ""
        self._failed_until = self.retry_at = None
        if had_failed:
            logger.warning("Changes are being stored again")

    def _forget_records(self) -> None:
        # They are part of what is being written; what comes from now on is not.
        self._events.clear()
        self.is_unexplained = False

    def _rewrite(
        self, contents: Callable[[], bytes], controller: Controller | None = None
    ) -> None:
        """Replace the file by one with nothing but a snapshot, and begin its journal.

        :param contents: gives the compressed snapshot
        :param controller: what it is of, if it is made now
        :raises OSError: as `Replacement.write` does
        :raises sqlite3.Error: likewise
        :raises StateFileError: likewise
        :raises JournalError: if there can be no journal
        """
        self._replace(contents, controller)
        self._journal = Journal(self._filename, promise=self._promise)
        self._promise(0)

    def _replace(
        self, contents: Callable[[], bytes], controller: Controller | None
    ) -> None:
        if self.lock is not None:
            self.lock.ensure()

        def made_now() -> bytes:
            if controller is None:
                return contents()
            with controller.lock:
                made = contents()
                self._forget_records()
            return made

        self._identity = self._replacement.write(made_now, self.close)
        self._snapshots.in_force(1)

    def finish(self, controller: Controller) -> bool:
        """Write the last snapshot, of a controller that has been stopped.

        :return: whether it succeeded; if not, it was logged, and the journal has all
            that was committed
        """
        self._snapshots.give_up()
        self._give_up_rewriting()
        if not self._owed:
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()
        try:
            self._replace(lambda: data(controller), controller)
        except CANNOT_WRITE as e:
            self._note_failure(self._describe(database.reason(e)))
            self.close()
            return False
        return True

    def close(self) -> None:
        """Let go of the files."""
        self._snapshots.give_up()
        self._give_up_rewriting()
        if self._journal is not None:
            self._journal.close()
            self._journal = None
