"""What happened to recent jobs, kept over restarts for people to look up."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from spalloc_server.history.file import HistoryFile
from spalloc_server.history.job_log import to_entry
from spalloc_server.model.job_events import JobEvent

MAX_JOBS: Final = 10_000
"""How many jobs to remember, counted by their IDs."""


class EventDatabase:
    """The latest events of jobs, in the file of the history.

    One thread writes, by `take`. Any thread may read.
    """

    def __init__(self, filename: str, max_jobs: int = MAX_JOBS) -> None:
        """Describe the file; nothing happens to it yet.

        :param max_jobs: of how many jobs to keep events
        """
        self.file = HistoryFile(filename)
        """Where they are kept, and perhaps more."""
        self._max_jobs = max_jobs

    def open(self) -> None:
        """Make the file, where there is none, or none that can be used."""
        self.file.open()

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
        created = [event.job_id for event in events if event.kind == "created"]

        def keep(database: sqlite3.Connection) -> None:
            if created:
                # After a cold start the numbers begin again.
                database.execute("delete from events where job >= ?", (min(created),))
                database.execute("delete from events where job <= ?", (oldest,))
            database.executemany("insert into events values (?, ?, ?, ?, ?, ?)", rows)

        self.file.write(keep)

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
        found = self.file.read(
            lambda database: database.execute(statement, (argument,)).fetchall()
        )
        entries = []
        for (text,) in found:
            with contextlib.suppress(ValueError, RecursionError):
                entry = json.loads(text)
                if isinstance(entry, dict):
                    entries.append(entry)
        return entries
