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
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from spalloc_server.storage.snapshot_file import StateFileError, check_owner, move_aside
from spalloc_server.storage.wal_file import count_frames

logger = logging.getLogger(__name__)

Record = Sequence[Any]

_FORMAT: Final = 1

# A commit is one row, which costs a third of a row for each record.
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS about (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS commits (
    number INTEGER PRIMARY KEY,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    records TEXT NOT NULL
);
"""


class JournalError(Exception):
    """The journal cannot be written; the message says why, for people."""


class JournalLostError(JournalError):
    """The journal is not there any more; only `Journal.start_over` makes it new."""


class JournalDamagedError(Exception):
    """What is in the journal cannot be read."""


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
        self._places: list[_Place] = []
        self._stored = 0
        self._commits = 0
        self._generation: int | None = None
        # Of the snapshot to go on from, while the file does not say so yet.
        self._next_generation: int | None = None
        try:
            database = self._open()
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
            database = self._open_new()
        self._stored, self._commits = database.execute(
            "SELECT coalesce(sum(length), 0), coalesce(max(number), 0) FROM commits"
        ).fetchone()

    def _open_new(self) -> sqlite3.Connection:
        try:
            return self._open()
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
        log_frames = count_frames(self._filename + "-wal")
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
            self._warn_of_torn_end(database, log_frames)
            database.executescript(_SCHEMA)
            self._check_format(database)
            generation = _generation(database)
            if self._generation not in (None, generation):
                raise JournalLostError(f"{self._filename} is not what it was")
            self._generation = generation
            for suffix in ("", "-wal"):
                self._places.append(_Place(self._filename + suffix))
        except BaseException:
            self._forget_places()
            database.close()
            raise
        self._database = database
        return database

    def _warn_of_torn_end(self, database: sqlite3.Connection, frames: int) -> None:
        """Say so if SQLite has dropped a commit that a crash had interrupted."""
        if frames == 0:
            return
        # Besides doing its work, it tells how many frames SQLite has found good.
        _, good, _ = database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        if good < frames:
            logger.warning(
                "The last entry of journal %s is incomplete and is dropped; "
                "what it was for has not been acknowledged",
                self._filename,
            )

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
        assert self._generation is not None
        return self._generation

    def records(self) -> Iterator[list[Any]]:
        """The stored records, in the order in which they were made.

        :raises JournalDamagedError: if one of them is not what was stored
        """
        assert self._database is not None
        try:
            for number, checksum, records in self._database.execute(
                "SELECT number, checksum, records FROM commits ORDER BY number"
            ):
                if zlib.crc32(records.encode()) != checksum:
                    raise JournalDamagedError(f"entry {number} is damaged")
                yield from json.loads(records)
        except (sqlite3.Error, ValueError) as e:
            raise JournalDamagedError(str(e)) from e

    def append(self, record: Record) -> None:
        """Make a record; it lasts from the next `commit` on."""
        self._pending.append(_encoded(record))

    def has_pending(self) -> bool:
        """Are there records that do not last yet?"""
        return bool(self._pending)

    def commit(self, records: Iterable[Record] = ()) -> None:
        """Write all pending records and then these to the disk, or none of them.

        :raises JournalError: if that fails. The pending records stay pending; the
            others were never made.
        """
        texts = [*self._pending, *map(_encoded, records)]
        if texts or self._next_generation is not None:
            self._write(texts)

    def try_out(self) -> None:
        """Find out, by writing, if it can be written.

        :raises JournalError: if not
        """
        self._write(self._pending)

    def _write(self, texts: Sequence[str]) -> None:
        commit = _encoded_commit(texts)
        try:
            database = self._database or self._open()
            for place in self._places:
                place.check()
            if self._next_generation is None:
                self._insert(database, self._commits + 1, commit)
            else:
                with _transaction(database):
                    database.execute("DELETE FROM commits")
                    database.execute(
                        "INSERT OR REPLACE INTO about VALUES ('generation', ?)",
                        (self._next_generation,),
                    )
                    self._insert(database, 1, commit)
        except (sqlite3.Error, StateFileError, JournalError) as e:
            # After some failures SQLite can only go on with a new connection.
            self.close()
            if isinstance(e, JournalError):
                raise
            raise JournalError(_reason(e)) from e
        if self._next_generation is not None:
            self._generation = self._next_generation
            self._next_generation = None
            self._stored = self._commits = 0
        self._commits += 1
        self._stored += len(texts)
        self._pending.clear()

    @staticmethod
    def _insert(
        database: sqlite3.Connection, number: int, commit: tuple[int, int, str]
    ) -> None:
        # One that was reported to have failed may be there all the same, if it was
        # its end that failed: it is replaced.
        database.execute(
            "INSERT OR REPLACE INTO commits VALUES (?, ?, ?, ?)", (number, *commit)
        )

    def start_over(self, generation: int) -> None:
        """Forget all records: they are part of the snapshot of this generation.

        :raises JournalError: if that fails; it is then done by the next `commit`
        """
        self._next_generation = generation
        self._generation = None
        self._pending.clear()
        self.commit()

    def close(self) -> None:
        """Let go of the file. What is pending is lost."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
        self._forget_places()

    def _forget_places(self) -> None:
        while self._places:
            self._places.pop().close()


class _Place:
    """Where a file is, as long as nobody removes it.

    What the kernel says of an open file is asked for its name, since any ``stat()``
    of a file that is being written makes the next ``fdatasync()`` of it write the
    file's times as well (measured: 60 of 180 us a commit). The file is opened as a
    place only: closing it leaves SQLite's locks on it alone.
    """

    def __init__(self, filename: str) -> None:
        self._filename = filename
        try:
            self._fd = os.open(filename, os.O_PATH | os.O_CLOEXEC)
        except OSError as e:
            raise JournalError(f"cannot open {filename}: {e.strerror}") from e
        self._path = self._path_now()

    def _path_now(self) -> str | None:
        """The name that leads to the file; None where ``/proc`` does not tell."""
        try:
            return os.readlink(f"/proc/self/fd/{self._fd}")
        except OSError:
            return None

    def check(self) -> None:
        """Raise `JournalLostError` if the name leads to another file, or none."""
        if self._path_now() != self._path:
            raise JournalLostError(f"{self._filename} has been removed")

    def close(self) -> None:
        """Look no more."""
        os.close(self._fd)


def _generation(database: sqlite3.Connection) -> int:
    row = database.execute(
        "SELECT value FROM about WHERE name = 'generation'"
    ).fetchone()
    return int(row[0]) if row else 0


_encoded = json.JSONEncoder(separators=(",", ":")).encode


def _encoded_commit(texts: Sequence[str]) -> tuple[int, int, str]:
    """The columns of a row, of records that are encoded already."""
    records = f"[{','.join(texts)}]"
    return len(texts), zlib.crc32(records.encode()), records


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


def _reason(error: Exception) -> str:
    """What SQLite says, which for want of room is not much."""
    text = str(error)
    return f"{text} (is there room for it?)" if text == "disk I/O error" else text
