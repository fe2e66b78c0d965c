"""A snapshot that is written while everything goes on, a little in each turn."""

from __future__ import annotations

import time
import zlib

from spalloc_server.storage.database import (
    PART_BYTES,
    PARTS_PER_SNAPSHOT,
    TABLES,
    SnapshotInfo,
    insert_info,
    insert_part,
)
from spalloc_server.storage.forked import ForkedWork
from spalloc_server.storage.journal import Journal


class BackgroundSnapshot:
    """A snapshot on its way from a child process into the database."""

    def __init__(self, number: int, journal: Journal, work: ForkedWork) -> None:
        """Nothing of it is stored yet. All that is in it must have been committed.

        :param number: higher than that of any snapshot in the database
        :param work: makes the compressed snapshot
        """
        self.number = number
        self.after = journal.number
        """The last commit that is in it."""
        self.length = journal.length
        """How many records it makes unnecessary."""
        self._parts = 0
        self._checksum = 0
        self._buffer = b""
        self._began = time.time()
        self._work = work

    def go_on(self, journal: Journal) -> bool:
        """Store what has come, no more than can be done in no time.

        :return: whether it is complete, and in force
        :raises ForkError: if the child process has failed
        :raises JournalError: if nothing can be stored
        """
        piece = self._work.read(PART_BYTES - len(self._buffer))
        if piece:
            self._buffer += piece
        if len(self._buffer) == PART_BYTES or (piece is None and self._buffer):
            self._store_part(journal)
            return False
        if piece is not None:
            return False
        info = SnapshotInfo(self._parts, self.after, self._checksum, self._began)
        journal.write(lambda database: insert_info(database, self.number, info))
        return True

    def _store_part(self, journal: Journal) -> None:
        data, self._buffer = self._buffer, b""
        self._parts += 1
        self._checksum = zlib.crc32(data, self._checksum)
        number = self.number * PARTS_PER_SNAPSHOT + self._parts
        journal.write(lambda database: insert_part(database, number, data))

    def close(self) -> None:
        """Give it up, or let go of what it needed."""
        self._work.close()


class Tidying:
    """Removes what a new snapshot has made unnecessary, a little at a time."""

    def __init__(self, snapshot: int, after: int) -> None:
        """Remove all that is not this snapshot, and all commits that are in it."""
        self._snapshot = snapshot
        self._after = after

    def go_on(self, journal: Journal) -> bool:
        """Remove as much as can be done in no time.

        :return: whether there is more
        :raises JournalError: if nothing can be stored
        """
        if journal.remove_before(self._after + 1):
            return True
        # Of one table only, each time.
        first = self._snapshot * PARTS_PER_SNAPSHOT
        end = first + PARTS_PER_SNAPSHOT
        return any(journal.remove_one(table, first, end) for table in TABLES)
