"""What has happened since the last snapshot, kept so that a crash loses none of it.

The journal is an SQLite database in write-ahead mode: what `Journal.commit` has
returned for is on the disk, and what a crash interrupts is dropped as a whole. It
knows nothing of jobs; records are lists that JSON can hold.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from spalloc_server.state_file import check_owner, move_aside

logger = logging.getLogger(__name__)

Record = Sequence[Any]

_FORMAT: Final = 1

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS records (number INTEGER PRIMARY KEY, record TEXT NOT NULL);
"""


class JournalError(Exception):
    """The journal cannot be written; the message says why, for people."""


class Journal:
    """Appends records; `commit` makes them last.

    For one thread at a time. A journal belongs to one snapshot, named by its
    generation; one that belongs to another snapshot is out of date.
    """

    def __init__(self, filename: str) -> None:
        """Open a journal, or make one.

        A file that is no journal is moved aside, and an error line names its new
        place.

        :raises StateFileError: if the file belongs to another user, or others may
            write it
        :raises JournalError: if it cannot be opened or made
        """
        self._filename = filename
        self._pending: list[str] = []
        self._database: sqlite3.Connection | None = None
        self._stored = 0
        # Of the snapshot to go on from, while the file does not say so yet.
        self._next_generation: int | None = None
        try:
            self._open()
        except sqlite3.DatabaseError as e:
            if not _is_damaged(e):
                raise JournalError(f"cannot open {filename}: {e}") from e
            aside = self.set_aside()
            logger.error(
                "Journal %s cannot be read (%s); it is kept as %s, "
                "and the server starts without it",
                filename,
                e,
                aside,
            )
            self._open_new()

    def _open_new(self) -> None:
        try:
            self._open()
        except sqlite3.Error as e:
            raise JournalError(f"cannot make {self._filename}: {e}") from e

    def _open(self) -> sqlite3.Connection:
        # SQLite would make a file that others may read.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(self._filename, flags, 0o600)
        except OSError as e:
            raise JournalError(f"cannot open {self._filename}: {e.strerror}") from e
        try:
            check_owner(self._filename, os.fstat(fd))
        finally:
            os.close(fd)
        database = sqlite3.connect(
            self._filename, isolation_level=None, check_same_thread=False
        )
        try:
            # Nobody else may use it, so the index of the log need not be shared.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = FULL")
            (problem,) = database.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                raise sqlite3.DatabaseError(problem)
            database.executescript(_SCHEMA)
            self._check_format(database)
            (self._stored,) = database.execute(
                "SELECT count(*) FROM records"
            ).fetchone()
        except BaseException:
            database.close()
            raise
        self._database = database
        return database

    @staticmethod
    def _check_format(database: sqlite3.Connection) -> None:
        row = database.execute("SELECT value FROM about WHERE name='format'").fetchone()
        if row is None:
            database.execute("INSERT INTO about VALUES ('format', ?)", (_FORMAT,))
        elif row[0] != _FORMAT:
            raise sqlite3.DatabaseError(f"unknown format {row[0]}")

    def set_aside(self) -> str:
        """Close the journal and move its files aside; gives the new name."""
        self.close()
        aside = move_aside(self._filename)
        for suffix in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._filename + suffix, aside + suffix)
        return aside

    def __len__(self) -> int:
        """How many records have been made since the snapshot."""
        return self._stored + len(self._pending)

    @property
    def generation(self) -> int:
        """The generation of the snapshot that this journal goes on from."""
        assert self._database is not None
        row = self._database.execute(
            "SELECT value FROM about WHERE name = 'generation'"
        ).fetchone()
        return int(row[0]) if row else 0

    def records(self) -> Iterator[list[Any]]:
        """The stored records, in the order in which they were made."""
        assert self._database is not None
        rows = self._database.execute("SELECT record FROM records ORDER BY number")
        for (record,) in rows:
            yield json.loads(record)

    def append(self, record: Record) -> None:
        """Make a record; it lasts from the next `commit` on."""
        self._pending.append(json.dumps(record, separators=(",", ":")))

    @property
    def has_pending(self) -> bool:
        """Are there records that do not last yet?"""
        return bool(self._pending)

    def commit(self, records: Iterable[Record] = ()) -> None:
        """Write all pending records and then these to the disk, or none of them.

        :raises JournalError: if that fails. The pending records stay pending; the
            others were never made.
        """
        new = [json.dumps(record, separators=(",", ":")) for record in records]
        texts = [*self._pending, *new]
        if not texts and self._next_generation is None:
            return
        try:
            database = self._database or self._open()
            with _transaction(database):
                if self._next_generation is not None:
                    database.execute("DELETE FROM records")
                    database.execute(
                        "INSERT OR REPLACE INTO about VALUES ('generation', ?)",
                        (self._next_generation,),
                    )
                database.executemany(
                    "INSERT INTO records (record) VALUES (?)", [(t,) for t in texts]
                )
        except sqlite3.Error as e:
            # After some failures SQLite can only go on with a new connection.
            self.close()
            raise JournalError(_reason(e)) from e
        if self._next_generation is not None:
            self._next_generation = None
            self._stored = 0
        self._stored += len(texts)
        self._pending.clear()

    def start_over(self, generation: int) -> None:
        """Forget all records: they are part of the snapshot of this generation.

        :raises JournalError: if that fails; it is then done by the next `commit`
        """
        self._next_generation = generation
        self._pending.clear()
        self.commit()

    def close(self) -> None:
        """Let go of the file. What is pending is lost."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None


@contextlib.contextmanager
def _transaction(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def _is_damaged(error: sqlite3.DatabaseError) -> bool:
    """Is the file at fault, and not the disk, its room or its permissions?"""
    return not isinstance(error, sqlite3.OperationalError)


def _reason(error: sqlite3.Error) -> str:
    """What SQLite says, which for want of room is not much."""
    text = str(error)
    return f"{text} (is there room for it?)" if text == "disk I/O error" else text
