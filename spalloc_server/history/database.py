"""What happened to recent jobs, kept over restarts for people to look up."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
from collections.abc import Sequence
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


class EventDatabase:
    """An SQLite file with the latest events of jobs.

    One thread writes, by :py:meth:`take`. Any thread may read, each with a connection
    of its own.
    """

    def __init__(self, filename: str, max_jobs: int = MAX_JOBS) -> None:
        self._filename = filename
        self._max_jobs = max_jobs
        self._failed = False

    def open(self) -> None:
        """Make the file, where there is none. Raises :py:exc:`OSError`."""
        try:
            # Owners are nobody else's business.
            os.close(os.open(self._filename, os.O_CREAT | os.O_RDWR, 0o600))
            with contextlib.closing(self._connect()) as database:
                database.execute("pragma journal_mode = wal")
                database.executescript(_SCHEMA)
        except (sqlite3.Error, OSError) as e:
            problem = getattr(e, "strerror", None) or str(e)
            raise OSError(
                f"cannot write job history {self._filename}: {problem}"
            ) from e

    def _connect(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._filename, timeout=10.0)
        # History is not worth waiting for the disk.
        database.execute("pragma synchronous = off")
        return database

    def take(self, events: Sequence[JobEvent]) -> None:
        """Keep events, and forget those of the oldest jobs."""
        if not events:
            return
        rows = [
            (
                *(event.job_id, event.time, event.kind, event.owner, event.machine),
                json.dumps(to_entry(event)),
            )
            for event in events
        ]
        oldest = max(event.job_id for event in events) - self._max_jobs
        try:
            with contextlib.closing(self._connect()) as database, database:
                if any(event.kind == "created" for event in events):
                    # After a cold start the numbers begin again.
                    created = [e.job_id for e in events if e.kind == "created"]
                    database.execute(
                        "delete from events where job >= ?", (min(created),)
                    )
                    database.execute("delete from events where job <= ?", (oldest,))
                database.executemany(
                    "insert into events values (?, ?, ?, ?, ?, ?)", rows
                )
            self._failed = False
        except sqlite3.Error as e:
            if not self._failed:
                logger.error("Cannot write job history %s: %s", self._filename, e)
            self._failed = True

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
        with contextlib.closing(self._connect()) as database:
            found = database.execute(statement, (argument,))
            return [json.loads(entry) for (entry,) in found]
