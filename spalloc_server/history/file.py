"""The file of the history: made, checked, and begun anew where it is damaged."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_SCHEMA: Final = """
    create table if not exists events (
        job integer not null, time real not null, kind text not null,
        owner text not null, machine text, entry text not null
    );
    create index if not exists events_by_job on events (job, time);
    create index if not exists ends on events (time) where kind = 'destroyed';
    create table if not exists load (
        slot integer not null, machine text not null, samples integer not null,
        boards integer not null, in_use integer not null, out integer not null,
        waiting integer not null, wanted integer not null,
        primary key (slot, machine)
    ) without rowid;
    create table if not exists waits (
        slot integer not null, size text not null, step integer not null,
        number integer not null, primary key (slot, size, step)
    ) without rowid;
"""

_PROBES: Final = (
    "select job, time, kind, owner, machine, entry from events",
    "select slot, machine, samples, boards, in_use, out, waiting, wanted from load",
    "select slot, size, step, number from waits",
)
"""What has to be found in the file."""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
"""Of the files that SQLite makes, after the name of the first one."""

_PASSING: Final = ("locked", "full", "disk i/o error")
"""Words in the messages of errors that say nothing against what is in the file."""


class HistoryFile:
    """An SQLite file, of which any thread may read and write, with a connection each.

    This is only remembered for people, so nothing that is wrong with the file stops the
    server: one that is damaged is kept aside, and another one begun.
    """

    def __init__(self, filename: str) -> None:
        """Describe the file; nothing happens to it yet."""
        self._filename = filename
        self._failed = False
        # Set by whoever notices; whoever writes next sees to it.
        self._damage: Exception | None = None
        # Nobody reads or writes what is just being moved.
        self._moving = threading.RLock()

    def open(self) -> None:
        """Make the file, where there is none, or none that can be used."""
        try:
            try:
                self._prepare()
            except (sqlite3.Error, OSError) as e:
                if any(word in str(e).lower() for word in _PASSING):
                    raise
                self._begin_anew(e)
        except (sqlite3.Error, OSError) as e:
            self._note_failure(e)

    def _prepare(self) -> None:
        """Make or check the file.

        :raises OSError: where there can be no such file
        :raises sqlite3.Error: where it cannot be used
        """
        if os.path.lexists(self._filename):
            self._check_kind()
        # Owners are nobody else's business.
        os.close(os.open(self._filename, os.O_CREAT | os.O_RDWR | os.O_NONBLOCK, 0o600))
        with self._connection() as database:
            database.execute("pragma journal_mode = wal")
            database.executescript(_SCHEMA)
            for probe in _PROBES:
                database.execute(f"{probe} limit 1")
            (found,) = database.execute("pragma quick_check(1)").fetchone()
            if found != "ok":
                raise sqlite3.DatabaseError(found.partition("\n")[0])

    def _check_kind(self) -> None:
        if not stat.S_ISREG(os.stat(self._filename).st_mode):
            raise OSError("it is not a file")

    def _begin_anew(self, problem: Exception) -> None:
        """Keep what is there aside, and make another one. Raises as `_prepare`."""
        with self._moving:
            kept = f"{self._filename}.damaged"
            for suffix in _SUFFIXES:
                if os.path.lexists(self._filename + suffix):
                    try:
                        os.replace(self._filename + suffix, kept + suffix)
                    except OSError:  # something else has that name
                        later = f"{kept}.{time.time_ns()}"
                        os.replace(self._filename + suffix, later + suffix)
            self._damage = None
            self._prepare()
        logger.error(
            "Job history %s cannot be used (%s): it is kept as %s, and begun anew",
            self._filename,
            _text(problem),
            kept,
        )

    @contextlib.contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Connect, and close again.

        :raises sqlite3.Error: if that fails
        """
        try:
            # Anything else could be waited for for ever, and would be made again.
            self._check_kind()
        except OSError as e:
            raise sqlite3.DatabaseError(_text(e)) from e
        with contextlib.closing(
            sqlite3.connect(self._filename, timeout=10.0)
        ) as database:
            # History is not worth waiting for the disk.
            database.execute("pragma synchronous = off")
            database.text_factory = _decode
            yield database

    def write(self, change: Callable[[sqlite3.Connection], object]) -> None:
        """Make a change in a transaction of its own.

        What cannot be written is lost, and that is logged once.
        """
        try:
            try:
                if self._damage is not None:
                    raise self._damage
                self._change(change)
            except sqlite3.Error as e:
                if not _is_damage(e):
                    raise
                self._begin_anew(e)
                self._change(change)
            if self._failed:
                logger.warning("Job history %s is written again", self._filename)
            self._failed = False
        except (sqlite3.Error, OSError) as e:
            self._note_failure(e)

    def _change(self, change: Callable[[sqlite3.Connection], object]) -> None:
        with self._moving, self._connection() as database, database:
            change(database)

    def read(self, query: Callable[[sqlite3.Connection], Result]) -> Result:
        """Look something up.

        :raises sqlite3.Error: if that fails
        """
        try:
            with self._moving, self._connection() as database:
                return query(database)
        except sqlite3.Error as e:
            if _is_damage(e):
                self._damage = e
            raise

    def _note_failure(self, error: Exception) -> None:
        if not self._failed:
            problem = _text(error)
            logger.error("Cannot write job history %s: %s", self._filename, problem)
        self._failed = True


def _is_damage(error: sqlite3.Error) -> bool:
    """Tell whether it is the file that is to blame, and not what is around it."""
    if isinstance(error, sqlite3.OperationalError):
        # There are no tables, or others.
        words = ("no such", "has no column", "columns but", "malformed")
        return any(word in str(error) for word in words)
    return isinstance(error, sqlite3.DatabaseError)


def _text(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def _decode(value: bytes) -> str:
    return value.decode("utf-8", "replace")
