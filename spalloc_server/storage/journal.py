"""What has happened since the last snapshot, kept so that a crash loses none of it.

What `Journal.commit` has returned for is on the disk, and what a crash interrupts is
dropped as a whole. Nothing here knows of jobs; records are lists that JSON can hold.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from spalloc_server.storage.database import checksum, connect, reason, transaction

Record = Sequence[Any]

ROWS_AT_ONCE: Final = 500
"""How many commits of before a snapshot are removed in one go."""

RECORD_CHARACTERS: Final = 1024
"""A record that is longer counts as several."""

_INSERT: Final = "INSERT INTO commits VALUES (?, ?, ?, ?)"


class JournalError(Exception):
    """Nothing can be stored; the message says why, for people."""


class Journal:
    """Appends records to a database; `commit` makes them last.

    For one thread at a time. After any failure it does nothing more: what the disk has
    then is not known. See `spalloc_server.storage.store`.
    """

    def __init__(
        self,
        filename: str,
        number: int = 0,
        length: int = 0,
        promise: Callable[[int], object] | None = None,
    ) -> None:
        """Open the journal of a database that has been checked, and is in place.

        :param number: that of the last commit in it
        :param length: of how many records it consists
        :param promise: is told the number of each commit that is on the disk
        :raises JournalError: if it cannot be opened
        """
        self._filename = filename
        self._promise = promise
        self.number = number
        """Of the last commit."""
        self.length = length
        """How many records there are since the snapshot; long ones count as several."""
        self._places: list[_Place] = []
        self._usable = True
        self._database: sqlite3.Connection | None = None
        try:
            self._database = connect(filename)
            # Creates the log, so that its place is known.
            self._database.execute("PRAGMA journal_mode = WAL").fetchone()
            self._database.execute("SELECT count(*) FROM about").fetchone()
            for suffix in ("", "-wal"):
                self._places.append(_Place(filename + suffix))
        except (sqlite3.Error, OSError) as e:
            self.close()
            raise JournalError(f"cannot open {filename}: {reason(e)}") from e

    def commit(self, texts: Sequence[str], count: int | None = None) -> None:
        """Write records to the disk, all of them or none.

        :param texts: as `encoded` and `encoded_together` give them
        :param count: how many records that is; None for one in each text
        :raises JournalError: if that fails. What the disk has of it is not known then.
        """
        number = self.number + 1
        records = f"[{','.join(texts)}]"
        count = len(texts) if count is None else count
        row = number, count, checksum(number, records.encode()), records
        self._do(lambda database: database.execute(_INSERT, row))
        self.number = number
        # Texts that clients hand in may be long.
        self.length += max(count, len(records) // RECORD_CHARACTERS)
        if self._promise is not None:
            self._promise(number)

    def write(self, do: Callable[[sqlite3.Connection], object]) -> None:
        """Change anything else, in a transaction.

        :raises JournalError: if that fails; all of the journal is void then
        """

        def in_transaction(database: sqlite3.Connection) -> None:
            with transaction(database):
                do(database)

        self._do(in_transaction)

    def _do(self, do: Callable[[sqlite3.Connection], object]) -> None:
        if not self._usable or self._database is None:
            raise JournalError(f"{self._filename} cannot be trusted")
        try:
            for place in self._places:
                place.check()
            do(self._database)
        except (sqlite3.Error, JournalError) as e:
            # Whether it was written, or half, or what a sync has left of what was
            # written before: nobody knows.
            self._usable = False
            if isinstance(e, JournalError):
                raise
            raise JournalError(reason(e)) from e

    def remove_before(self, number: int) -> bool:
        """Remove some commits with lower numbers; no more than are done in no time.

        :return: whether there are more
        :raises JournalError: as `write` does
        """
        first = None if self._database is None else self._first()
        if first is None or first >= number:
            return False
        end = min(number, first + ROWS_AT_ONCE)
        delete = "DELETE FROM commits WHERE number < ?"
        self.write(lambda database: database.execute(delete, (end,)))
        return end < number

    def remove_one(self, table: str, first: int, end: int) -> bool:
        """Remove a row of a table whose number is not in a range.

        :return: whether there was one
        :raises JournalError: as `write` does
        """
        assert self._database is not None
        row = self._database.execute(
            f"SELECT max(number) FROM {table} WHERE number < ?", (first,)
        ).fetchone()
        if row[0] is None:
            row = self._database.execute(
                f"SELECT min(number) FROM {table} WHERE number >= ?", (end,)
            ).fetchone()
        if row[0] is None:
            return False
        delete = f"DELETE FROM {table} WHERE number = ?"
        self.write(lambda database: database.execute(delete, (row[0],)))
        return True

    def _first(self) -> int | None:
        assert self._database is not None
        row = self._database.execute("SELECT min(number) FROM commits").fetchone()
        return None if row[0] is None else int(row[0])

    def close(self) -> None:
        """Let go of the file."""
        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()
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
        self._fd = os.open(filename, os.O_PATH | os.O_CLOEXEC)
        self._path = self._path_now()

    def _path_now(self) -> str | None:
        """The name that leads to the file; None where ``/proc`` does not tell."""
        try:
            return os.readlink(f"/proc/self/fd/{self._fd}")
        except OSError:
            return None

    def check(self) -> None:
        """Raise `JournalError` if the name leads to another file, or none."""
        if self._path_now() != self._path:
            raise JournalError(f"{self._filename} has been removed or replaced")

    def close(self) -> None:
        """Look no more."""
        os.close(self._fd)


_encode = json.JSONEncoder(separators=(",", ":")).encode


def encoded(records: Iterable[Record]) -> list[str]:
    """Records as they are stored."""
    return [_encode(record) for record in records]


def encoded_together(records: Sequence[Record]) -> str:
    """Records as they are stored, in one text, which takes half the time."""
    return _encode(records)[1:-1]
