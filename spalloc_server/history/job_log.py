"""The job log: what happens to jobs, as lines of JSON, for accounting.

Each line is an object with ``time`` (seconds since 1970, UTC), ``event`` (one of
`.history.KINDS`), ``job``, ``owner``, ``host``, ``created`` (time), ``args``
and ``kwargs`` (the size and demands), ``machine``, ``boards``, ``power`` and
``reason``; null is for what does not apply.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Sequence
from logging.handlers import RotatingFileHandler
from typing import Any, Final

from spalloc_server.model.job_events import JobEvent

logger = logging.getLogger(__name__)

MAX_BYTES: Final = 64 * 1024 * 1024
"""The size at which a file gives way to a new one."""

MAX_FILES: Final = 100
"""How many old files are kept, as FILE.1, the latest, to FILE.100."""


def to_entry(event: JobEvent) -> dict[str, Any]:
    """What the log says of an event, fit for JSON."""
    kwargs = dict(event.kwargs)
    if kwargs.get("tags") is not None:
        kwargs["tags"] = sorted(kwargs["tags"])
    return {
        "time": round(event.time, 3),
        "event": event.kind,
        "job": event.job_id,
        "owner": event.owner,
        "host": event.host,
        "created": round(event.start_time, 3),
        "args": list(event.args),
        "kwargs": kwargs,
        "machine": event.machine,
        "boards": None if event.boards is None else sorted(event.boards),
        "power": event.power,
        "reason": event.reason,
    }


class JobLog:
    """Writes events to a file, which it rotates. For one thread."""

    def __init__(
        self, filename: str, max_bytes: int = MAX_BYTES, max_files: int = MAX_FILES
    ) -> None:
        """Describe the file; nothing happens to it yet.

        :param max_bytes: the size at which it is rotated
        :param max_files: how many old files to keep
        """
        self._filename = filename
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._file: _RaisingHandler | None = None
        self._lost = 0

    def open(self) -> None:
        """Open the file, to add to it.

        :raises OSError: if that fails
        """
        try:
            self._file = _RaisingHandler(
                self._filename,
                maxBytes=self._max_bytes,
                backupCount=self._max_files,
                encoding="ascii",
            )
            self._end_last_line()
        except OSError as e:
            raise OSError(
                e.errno, f"cannot write job log {self._filename}: {e.strerror}"
            ) from e

    def _end_last_line(self) -> None:
        """End a line that a crash has cut short."""
        with open(self._filename, "r+b") as file:
            if file.seek(0, os.SEEK_END) == 0:
                return
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                file.write(b"\n")

    def take(self, events: Sequence[JobEvent]) -> None:
        """Write events. What cannot be written is lost, and that is logged once."""
        assert self._file is not None
        for event in events:
            line = json.dumps(to_entry(event))
            record = logging.makeLogRecord({"msg": line})
            try:
                self._file.emit(record)
            except OSError as e:
                self._note_loss(e)
            else:
                if self._lost:
                    logger.warning(
                        "The job log is being written again; %d events are missing",
                        self._lost,
                    )
                    self._lost = 0

    def _note_loss(self, error: OSError) -> None:
        if not self._lost:
            logger.error("Cannot write job log %s: %s", self._filename, error.strerror)
        self._lost += 1

    def close(self) -> None:
        """Close the file. What cannot be written even now is lost."""
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as e:
                self._note_loss(e)


class _RaisingHandler(RotatingFileHandler):
    """Raises what goes wrong, where others would write it to standard error."""

    def handleError(self, _record: logging.LogRecord) -> None:  # noqa: N802
        """Called while handling the exception."""
        raise
