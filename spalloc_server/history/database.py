"""What happened to recent jobs, kept over restarts for people to look up."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any, Final

from spalloc_server.history.job_log import to_entry
from spalloc_server.model.job_events import JobEvent

logger = logging.getLogger(__name__)

MAX_JOBS: Final = 10_000
"""How many jobs to remember, counted by their IDs."""

_SCHEMA: Final = """
    create table if not exists events (
        job integer not null, time real not null, kind text not null,
        owner text not null, machine text, entry text not null
    );
    create index if not exists events_by_job on events (job, time);
    create index if not exists ends on events (time) where kind = 'destroyed';
"""

_SUFFIXES: Final = ("", "-wal", "-shm", "-journal")
"""Of the files that SQLite makes, after the name of the first one."""

_PASSING: Final = ("locked", "full", "disk i/o error")
"""Words in the messages of errors that say nothing against what is in the file."""


class EventDatabase:
    """An SQLite file with the latest events of jobs.

    One thread writes, by `take`. Any thread may read, each with a connection
    of its own. This is only remembered for people, so nothing that is wrong with the
    file stops the server: one that is damaged is kept aside, and another one begun.
    """

    def __init__(self, filename: str, max_jobs: int = MAX_JOBS) -> None:
        """Describe the file; nothing happens to it yet.

        :param max_jobs: of how many jobs to keep events
        """
        self._filename = filename
        self._max_jobs = max_jobs
        self._failed = False
        # Set by whoever notices; the thread that writes sees to it.
        self._damage: Exception | None = None
        # Nobody reads what is just being moved.
        self._moving = threading.Lock()

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
            database.execute(
                "select job, time, kind, owner, machine, entry from events"
            )
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

    def take(self, events: Sequence[JobEvent]) -> None:
        """Keep events, and forget those of the oldest jobs."""
        if not events:
            return
        try:
            try:
                if self._damage is not None:
                    raise self._damage
                self._write(events)
            except sqlite3.Error as e:
                if not _is_damage(e):
                    raise
                self._begin_anew(e)
                self._write(events)
            if self._failed:
                logger.warning("Job history %s is written again", self._filename)
            self._failed = False
        except (sqlite3.Error, OSError) as e:
            self._note_failure(e)

    def _note_failure(self, error: Exception) -> None:
        if not self._failed:
            problem = _text(error)
            logger.error("Cannot write job history %s: %s", self._filename, problem)
        self._failed = True

    def _write(self, events: Sequence[JobEvent]) -> None:
        rows = [
            (
                *(event.job_id, event.time, event.kind, event.owner, event.machine),
                json.dumps(to_entry(event)),
            )
            for event in events
        ]
        oldest = max(event.job_id for event in events) - self._max_jobs
        with self._connection() as database, database:
            created = [event.job_id for event in events if event.kind == "created"]
            if created:
                # After a cold start the numbers begin again.
                database.execute("delete from events where job >= ?", (min(created),))
                database.execute("delete from events where job <= ?", (oldest,))
            database.executemany("insert into events values (?, ?, ?, ?, ?, ?)", rows)

    def close(self) -> None:
        """Nothing is left open."""

    def events_of(self, job_id: int) -> list[dict[str, Any]]:
        """What happened to a job, oldest first, as in the job log. From any thread."""
        return self._entries(
            "select entry from events where job = ? order by time, rowid", job_id
        )

    def latest_ends(self, limit: int) -> list[dict[str, Any]]:
        """The latest events by which jobs ended, latest first. From any thread."""
        return self._entries(
            "select entry from events where kind = 'destroyed' "
            "order by time desc, rowid desc limit ?",
            limit,
        )

    def _entries(self, statement: str, argument: int) -> list[dict[str, Any]]:
        """Read entries, but none that make no sense.

        :raises sqlite3.Error: if that fails
        """
        try:
            with self._moving, self._connection() as database:
                found = database.execute(statement, (argument,)).fetchall()
        except sqlite3.Error as e:
            if _is_damage(e):
                self._damage = e
            raise
        entries = []
        for (text,) in found:
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(text)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries


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
