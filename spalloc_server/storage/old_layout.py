"""State in two files, a pickle and a journal beside it, as it was up to schema 1.

It is read once, and then kept in one file: see `spalloc_server.storage.store`.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any

from spalloc_server.storage.database import UNREADABLE, connect, is_damage, reason
from spalloc_server.storage.files import StateFileError, check_file
from spalloc_server.storage.names import OLD_JOURNAL


class OldJournal:
    """The journal beside a pickle. It names the snapshot that it goes on from."""

    def __init__(self, filename: str) -> None:
        """Open it.

        :param filename: of the pickle
        :raises StateFileError: if it is refused, or cannot be opened for a reason that
            is not its own fault
        """
        self.filename = filename + OLD_JOURNAL
        self.problem = ""
        """What is wrong with it."""
        self.generation: int | None = None
        """The number of the snapshot that it goes on from; None if there is no journal,
        or that is not known."""
        self._database: sqlite3.Connection | None = None
        if not check_file(self.filename):
            return
        try:
            self._database = connect(self.filename)
            row = self._database.execute(
                "SELECT value FROM about WHERE name = 'generation'"
            ).fetchone()
            self.generation = int(row[0]) if row else 0
            # So that it is found to be damaged now, if it is.
            (problem,) = self._database.execute("PRAGMA quick_check(1)").fetchone()
            self.problem = "" if problem == "ok" else problem
        except sqlite3.Error as e:
            if not is_damage(e):
                self.close()
                raise StateFileError(f"cannot open {self.filename}: {reason(e)}") from e
            self.problem = str(e)
        except (ValueError, TypeError) as e:
            self.problem = str(e)

    def exists(self) -> bool:
        """Is there such a file?"""
        return os.path.exists(self.filename)

    def records(self) -> Iterator[list[Any]]:
        """Its records, in order, up to the first damaged commit."""
        yield from self._records(stop=True)

    def _records(self, stop: bool) -> Iterator[list[Any]]:
        if self._database is None:
            return
        try:
            for number, check, text in self._database.execute(
                "SELECT number, checksum, records FROM commits ORDER BY number"
            ):
                try:
                    intact = zlib.crc32(text.encode()) == check
                    records = json.loads(text) if intact else None
                except (ValueError, AttributeError):
                    records = None
                if isinstance(records, list):
                    yield from records
                else:
                    self.problem = self.problem or f"commit {number} is damaged"
                    if stop:
                        return
        except UNREADABLE as e:
            self.problem = self.problem or str(e)

    def all_records(self) -> Iterator[list[Any]]:
        """Its records, in order, without those that are damaged."""
        yield from self._records(stop=False)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None
