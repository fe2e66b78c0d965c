"""State in two files, a pickle and a journal beside it, as it was up to schema 1.

It is read once, and then kept in one file: see `spalloc_server.storage.store`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import sqlite3
import zlib
from collections.abc import Iterator
from typing import Any

from spalloc_server.storage import files, names
from spalloc_server.storage.database import UNREADABLE, connect, is_damage, reason
from spalloc_server.storage.files import StateFileError, check_file
from spalloc_server.storage.legacy import load_schema_1
from spalloc_server.storage.names import OLD_JOURNAL
from spalloc_server.storage.plain_pickle import PickleRefusedError
from spalloc_server.storage.replaying import Restored, last_time, loader, replayed
from spalloc_server.storage.salvage import keep_damaged

logger = logging.getLogger(__name__)


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

    begun_at: float | None = None
    """When the snapshot was made: that is not known."""

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

    def records_after(self, done: int) -> Iterator[list[Any]]:
        """All that can be read but the first so many records."""
        return itertools.islice(self.all_records(), done, None)

    def close(self) -> None:
        """Let go of the file."""
        if self._database is not None:
            with contextlib.suppress(sqlite3.Error):
                self._database.close()
            self._database = None


def restore_old_layout(filename: str) -> Restored:
    """Read state in this layout.

    :param filename: of the pickle
    :raises StateFileError: if it cannot be read for a reason that is no fault of it
    """
    problems: list[str] = []
    contents = files.read_bytes(filename)
    generation: int | None = None
    try:
        data, generation = load_schema_1(contents)
    except PickleRefusedError as e:
        problems.append(f"the snapshot is refused: {e}")
        load = None
    else:
        load = loader(lambda _: data, b"", problems)
    journal = OldJournal(filename)
    with contextlib.closing(journal):
        if load is None:
            kept = keep_damaged(
                filename, problems, journal.all_records(), None, usable=False
            )
            return Restored(
                superseded=names.files_of(filename) if kept else [], keep_old=not kept
            )
        # Written out in full by the snapshot just before the journal was emptied.
        follows = journal.generation == generation
        if follows:
            controller, rest, done = replayed(load, journal, problems)
        else:
            controller, rest, done = load(), (), 0
            if journal.generation is not None and journal.generation > (
                generation or 0
            ):
                problems.append("the journal beside it belongs to a later snapshot")
                rest = journal.all_records()
        if journal.problem:
            problems.append(journal.problem)
        kept = True
        if problems:
            since = last_time(journal, done) if follows else None
            kept = keep_damaged(filename, problems, rest, since, usable=True)
        elif done:
            logger.warning(
                "The server was not shut down cleanly; replaying %d changes made since "
                "the last snapshot",
                done,
            )
        return Restored(
            controller,
            superseded=names.files_of(filename) if kept else [],
            keep_old=not kept,
        )
