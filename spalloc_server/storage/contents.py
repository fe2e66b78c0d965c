"""Read what a state file has, with everything checked, and past all that is damaged."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any

from spalloc_server.storage.database import (
    FORMAT,
    PARTS_PER_SNAPSHOT,
    TABLES,
    UNREADABLE,
    SnapshotInfo,
    about,
    checksum,
    is_damage,
    open_only,
    prepare,
)


class Contents:
    """What a database has. Nothing is written to it, nor to the log beside it.

    SQLite itself drops what it finds wrong in the log, and everything after that,
    without a word: see `spalloc_server.storage.lock_file` on how that is noticed.
    """

    def __init__(self, filename: str) -> None:
        """Open a database that is there.

        :raises sqlite3.OperationalError: if it cannot be opened for a reason that
            need not be its own fault
        """
        self.problems: list[str] = []
        """What is wrong with it. None of it is trusted from then on."""
        self.identity = 0
        """What tells it from all other state files; 0 if that is not known."""
        self.format = FORMAT
        """Of the tables."""
        self.info: SnapshotInfo | None = None
        """Of the snapshot that was read."""
        self.snapshot_number = 0
        self.last = 0
        """The number of the last commit that could be read."""
        self._database: sqlite3.Connection | None = None
        try:
            self._database = open_only(filename)
            prepare(self._database)
            self._look_over(self._database)
        except UNREADABLE as e:
            if not is_damage(e):
                self.close()
                raise
            # It stays open: closing it would have SQLite empty the log into it.
            self._note(str(e))
        except BaseException:
            self.close()
            raise

    @property
    def begun_at(self) -> float | None:
        """When the snapshot was made that was read, in seconds since 1970."""
        return None if self.info is None else self.info.time

    def _execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        if self._database is None:
            raise sqlite3.DatabaseError("it is no database")
        return self._database.execute(statement, values)

    def _note(self, problem: str) -> None:
        if problem not in self.problems:
            self.problems.append(problem)

    def _look_over(self, db: sqlite3.Connection) -> None:
        try:
            (problem,) = db.execute("PRAGMA quick_check(1)").fetchone()
            if problem != "ok":
                self._note(" ".join(problem.split()))
        except UNREADABLE as e:
            if not is_damage(e):
                raise
            self._note(str(e))
        try:
            facts = about(db)
            self.identity = int(facts["identity"])
            self.format = int(facts["format"])
        except UNREADABLE as e:
            self._note(str(e))
        except (KeyError, ValueError, TypeError):
            self._note("its header is damaged")

    def snapshot(self) -> bytes | None:
        """The latest snapshot that can be read whole, None if none can.

        What there is of those before it may be half removed, and is not looked at.
        """
        numbers: set[int] = set()
        for table in TABLES:
            numbers.update(self._numbers(table))
        heads = (number for number in numbers if number % PARTS_PER_SNAPSHOT == 0)
        for head in sorted(heads, reverse=True):
            info = self._info(head)
            if info is None:
                self._note("the description of a snapshot is damaged")
                continue
            number = head // PARTS_PER_SNAPSHOT
            contents = self._whole(number, info)
            if contents is not None:
                self.info, self.snapshot_number = info, number
                self.last = info.after
                return contents
        self._note("it has no readable snapshot")
        return None

    def _numbers(self, table: str) -> list[int]:
        found: list[int] = []
        try:
            for (number,) in self._execute(f"SELECT number FROM {table}"):
                if type(number) is int:
                    found.append(number)
                else:
                    # As a column that is not what it was, by another definition.
                    self._note(f"the table {table} is damaged")
        except UNREADABLE as e:
            self._note(str(e))
        return found

    def _part(self, number: int) -> bytes | None:
        """A part, from wherever it is undamaged."""
        good = None
        for table in TABLES:
            try:
                row = self._execute(
                    f"SELECT checksum, data FROM {table} WHERE number = ?", number
                ).fetchone()
            except UNREADABLE as e:
                self._note(str(e))
                continue
            if row is None or type(row[1]) is not bytes:
                self._note("a part of the snapshot is missing")
            elif checksum(number, row[1]) != row[0]:
                self._note("a part of the snapshot is damaged")
            else:
                good = row[1]
        return good

    def _info(self, number: int) -> SnapshotInfo | None:
        text = self._part(number)
        try:
            return None if text is None else SnapshotInfo(**json.loads(text))
        except (ValueError, TypeError):
            return None

    def _whole(self, snapshot: int, info: SnapshotInfo) -> bytes | None:
        first = snapshot * PARTS_PER_SNAPSHOT + 1
        parts = [self._part(number) for number in range(first, first + info.parts)]
        if None in parts:
            return None
        data = b"".join(part for part in parts if part is not None)
        if zlib.crc32(data) != info.checksum:
            self._note("the checksum of the snapshot is wrong")
            return None
        try:
            return zlib.decompress(data)
        except zlib.error as e:
            self._note(str(e))
            return None

    def records(self) -> Iterator[list[Any]]:
        """The records since the snapshot, in order, up to the first damaged commit.

        `last` is the number of the last commit whose records were given out.
        """
        assert self.info is not None
        self.last = self.info.after
        try:
            for number, length, check, text in self._execute(
                "SELECT * FROM commits WHERE number > ? ORDER BY number", self.last
            ):
                if number != self.last + 1:
                    self._note(f"commit {self.last + 1} is missing")
                    return
                records = _records(number, length, check, text)
                if records is None:
                    self._note(f"commit {number} is damaged")
                    return
                self.last = number
                yield from records
        except UNREADABLE as e:
            self._note(str(e))

    def rest(self) -> Iterator[list[Any]]:
        """The records that can be read after the first damaged commit.

        To be called when `records` has come to its end.
        """
        numbers: list[int] = []
        try:
            for (number,) in self._execute(
                "SELECT number FROM commits WHERE number > ? ORDER BY number",
                self.last,
            ):
                numbers.append(number)
        except UNREADABLE as e:
            self._note(str(e))
        for number in numbers:
            try:
                row = self._execute(
                    "SELECT * FROM commits WHERE number = ?", number
                ).fetchone()
            except UNREADABLE:
                continue
            yield from (None if row is None else _records(*row)) or ()

    def records_after(self, done: int) -> Iterator[list[Any]]:
        """All that can be read but the first so many of `records`."""
        yield from itertools.islice(self.records(), done, None)
        yield from self.rest()

    def close(self) -> None:
        """Let go of the file; SQLite then empties the log into the database."""
        if self._database is not None:
            with contextlib.suppress(*UNREADABLE):
                self._database.close()
            self._database = None


def _records(number: Any, length: Any, check: Any, text: Any) -> list[Any] | None:
    """The records of a row, None if it is damaged."""
    try:
        if checksum(number, text.encode()) != check:
            return None
        records = json.loads(text)
    except (ValueError, AttributeError, TypeError):
        return None
    if not isinstance(records, list) or len(records) != length:
        return None
    return records
