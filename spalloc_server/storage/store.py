"""The server's state on disk: a snapshot, and a journal of what came after it.

The snapshot is the pickled `Controller`. Both files are named after the version
that wrote them; those of an older version are read where there is no newer one.
"""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import time
from collections.abc import Sequence
from typing import Any, Final

from spalloc_server.controller import Controller
from spalloc_server.model.changes import ReplayError
from spalloc_server.storage import snapshot_file
from spalloc_server.storage.journal import (
    Journal,
    JournalDamagedError,
    JournalError,
    JournalLostError,
)
from spalloc_server.storage.snapshot_file import StateFileError

logger = logging.getLogger(__name__)

RECORDS_BEFORE_SNAPSHOT: Final = 10_000
"""The least number of records after which the journal gives way to a snapshot."""

RECORDS_PER_JOB: Final = 20
"""So many records for each job have to come before a snapshot of all is worth it."""

RETRY_SECONDS: Final = 1.0
"""How long to wait after a failure to write before the next try."""

SNAPSHOT_RETRY_SECONDS: Final = 30.0
"""The same for a snapshot that the journal can go on without."""


class StateStore:
    """Keeps a controller's state, and gives it back after a restart.

    For the thread that owns the controller; events come from any thread, with the
    controller's lock held, which all methods take where they need it.
    """

    def __init__(self, filename: str) -> None:
        """Keep the state in a file and its journal beside it.

        :param filename: the name of the snapshot; it ends in the version
        """
        self._filename = filename
        self.generation = 0
        self._journal: Journal | None = None
        self.retry_at: float | None = None
        """When to call `commit_events` although nothing has happened; None for never.
        By the monotonic clock."""
        self._problem = ""
        self.errors = 0
        """How often something could not be written."""
        # Has something changed that no record tells, or is a file gone?
        self._snapshot_owed = False
        self._snapshot_status: os.stat_result | None = None
        self._snapshot_retry_at = 0.0
        self._superseded: list[str] = []

    # Reading

    def restore(self) -> Controller | None:
        """Read the state back, as a controller that leaves the hardware alone.

        What cannot be read is moved aside, and an error line names its new place.

        :return: None where there is no state
        :raises StateFileError: if the state must not be read, or cannot for a reason
            that is no fault of the files
        """
        filename = self._newest()
        if filename is None:
            return None
        controller = self._load(filename)
        journal_name = _journal_name(filename)
        if os.path.exists(journal_name):
            controller = self._replay(journal_name, controller, filename)
        if filename != self._filename:
            self._superseded = [filename, *_journal_files(filename)]
        return controller

    def _load(self, filename: str) -> Controller | None:
        found = snapshot_file.load(filename, tuple)
        if found is None:
            return None
        self.generation, state = found
        return Controller.restored(state)

    def _newest(self) -> str | None:
        """The snapshot to read: this version's, or that of the newest older one."""
        stem, _, own_version = self._filename.rpartition(".state.")
        found = {}
        for name in glob.glob(glob.escape(stem + ".state.") + "1.*"):
            version = _version(name.rpartition(".state.")[2].removesuffix(".journal"))
            if version is not None and version <= (_version(own_version) or version):
                found[version] = f"{stem}.state.{'.'.join(map(str, version))}"
        return found[max(found)] if found else None

    def _replay(
        self, journal_name: str, controller: Controller | None, filename: str
    ) -> Controller | None:
        try:
            journal = Journal(journal_name)
        except JournalError as e:
            raise StateFileError(str(e)) from e
        with contextlib.closing(journal):
            if controller is None:
                if len(journal):
                    aside = journal.set_aside()
                    logger.error(
                        "Journal %s is of no use without a snapshot; it is kept as %s",
                        journal_name,
                        aside,
                    )
                return None
            if journal.generation != self.generation or not len(journal):
                # Written out in full by the snapshot just before the journal was to
                # be emptied.
                return controller
            logger.warning(
                "The server was not stopped in good order; taking up %d changes "
                "since the last snapshot",
                len(journal),
            )
            try:
                controller.replay(journal.records())
            except (ReplayError, JournalDamagedError) as e:
                aside = journal.set_aside()
                logger.error(
                    "Journal %s cannot be followed from its snapshot (%s); it is kept "
                    "as %s, and the server starts from the snapshot alone",
                    journal_name,
                    e,
                    aside,
                )
                return self._load(filename)
            return controller

    def discard(self) -> None:
        """Remove all state there is, of any version."""
        stem = self._filename.rpartition(".state.")[0]
        for name in glob.glob(glob.escape(stem + ".state.") + "1.*"):
            version = name.rpartition(".state.")[2]
            for suffix in ("-wal", "-shm", ".journal"):
                version = version.removesuffix(suffix)
            if _version(version) is not None:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)

    # Writing

    def open(self, controller: Controller) -> None:
        """Begin to keep the state of a controller, with a first snapshot.

        :raises StateFileError: if that cannot be done
        """
        try:
            self._journal = Journal(_journal_name(self._filename))
            with controller.lock:
                self._write_snapshot(controller)
                controller.on_event = self._journal.append
        except JournalError as e:
            raise StateFileError(str(e)) from e
        except OSError as e:
            raise StateFileError(
                f"cannot write state file {self._filename}: {e.strerror}"
            ) from e
        for name in self._superseded:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def commit(self, records: Sequence[Sequence[Any]] = ()) -> None:
        """Make changes last: those noted since the last time, then these.

        :raises JournalError: if they cannot be written; these are then forgotten,
            the others are kept for the next try
        """
        assert self._journal is not None
        waiting = self.retry_at is not None and time.monotonic() < self.retry_at
        if waiting or self._snapshot_owed:
            raise JournalError(self._problem)
        try:
            self._check_snapshot()
            if self._problem and not records:
                self._journal.try_out()
            else:
                self._journal.commit(records)
        except JournalError as e:
            # A snapshot makes up for a file that is gone.
            self._snapshot_owed = isinstance(e, JournalLostError)
            self._note_failure(str(e))
            raise
        self._note_success()

    def _check_snapshot(self) -> None:
        """Make sure that the journal goes on from what is in place."""
        assert self._snapshot_status is not None
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(self._filename), self._snapshot_status):
                return
        raise JournalLostError(f"{self._filename} has been removed or replaced")

    def _note_failure(self, problem: str) -> None:
        self.errors += 1
        if not self._problem:
            logger.error("Changes cannot be stored: %s", problem)
        self._problem = problem
        self.retry_at = time.monotonic() + RETRY_SECONDS

    def _note_success(self) -> None:
        if self._problem:
            logger.warning("Changes are being stored again")
        self._problem = ""
        self.retry_at = None

    def commit_events(self, controller: Controller) -> None:
        """Make the events noted since the last time last, or try again later.

        Also write the snapshots that are due. To be called in every turn of the loop.
        """
        assert self._journal is not None
        if self._snapshot_owed:
            if self.retry_at is None or time.monotonic() >= self.retry_at:
                self.require_snapshot(controller)
        elif self._journal.has_pending() or self._problem:
            with controller.lock, contextlib.suppress(JournalError):
                self.commit()
        self._snapshot_if_long(controller)

    def _snapshot_if_long(self, controller: Controller) -> None:
        """Replace a journal that has grown long by a snapshot."""
        assert self._journal is not None
        length = len(self._journal)
        if length < RECORDS_BEFORE_SNAPSHOT or self.retry_at is not None:
            return
        if length < RECORDS_PER_JOB * controller.job_count:
            return
        now = time.monotonic()
        if now < self._snapshot_retry_at:
            return
        try:
            self._write_snapshot(controller)
        except (OSError, JournalError) as e:
            # The journal is as good as before, and what is to be stored comes first.
            self.errors += 1
            self._snapshot_retry_at = now + SNAPSHOT_RETRY_SECONDS
            logger.error("%s; the journal goes on", self._describe(e))

    def _describe(self, error: Exception) -> str:
        return f"cannot save state to {self._filename}: {error}"

    def require_snapshot(self, controller: Controller) -> None:
        """Write a snapshot of what the journal cannot tell; else store nothing more.

        Where it fails, it is tried again by and by, and `commit` fails until then.
        """
        self._snapshot_owed = not self.snapshot(controller)

    def owe_snapshot(self) -> None:
        """Have all state written before anything else is."""
        self._snapshot_owed = True
        self._problem = self._problem or "the state has to be written as a whole first"

    def snapshot(self, controller: Controller) -> bool:
        """Write all state in one file and begin a new journal.

        :return: whether that was possible; if not, it was logged
        """
        assert self._journal is not None
        try:
            self._write_snapshot(controller)
        except (OSError, JournalError) as e:
            self._note_failure(self._describe(e))
            return False
        self._note_success()
        return True

    def _write_snapshot(self, controller: Controller) -> None:
        assert self._journal is not None
        with controller.lock:
            self.generation += 1
            # A crash between the two leaves a journal of an older generation, all
            # of which is in the snapshot.
            snapshot_file.save(
                self._filename, (self.generation, controller.__getstate__())
            )
            self._snapshot_status = os.stat(self._filename)
            self._journal.start_over(self.generation)

    def finish(self, controller: Controller) -> bool:
        """Write the last snapshot, of a controller that has been stopped.

        The journal goes away if that succeeds; else it has all that was committed.

        :return: whether it succeeded; if not, it was logged
        """
        saved = self.snapshot(controller)
        self.close()
        if saved:
            for name in _journal_files(self._filename):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
        return saved

    def close(self) -> None:
        """Let go of the files."""
        if self._journal is not None:
            self._journal.close()


def _journal_name(filename: str) -> str:
    return filename + ".journal"


def _journal_files(filename: str) -> list[str]:
    return [_journal_name(filename) + suffix for suffix in ("", "-wal", "-shm")]


def _version(text: str) -> tuple[int, ...] | None:
    """A version with plain numbers, None for anything else."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(p.isdigit() for p in parts) else None
