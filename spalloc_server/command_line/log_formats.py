"""How the server's log looks: lines for people, lines for journald, or JSON."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
from typing import Final, TextIO

TEXT: Final = "%(asctime)s %(levelname)s %(message)s"

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)


class JSONFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``thread``,
    ``message``, and ``exception`` where there is one.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Describe a record, in one line."""
        time = datetime.datetime.fromtimestamp(record.created, datetime.timezone.utc)
        entry = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry)


class JournalFormatter(logging.Formatter):
    """Lines with their priority in front, as journald takes it from standard error.

    journald notes the time by itself.
    """

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Describe a record, each line of it with the priority."""
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), 7)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{priority}>{line}" for line in lines)


def set_up_logging(level: str, log_format: str) -> None:
    """Log to standard error.

    :param level: the name of the least level to log
    :param log_format: ``text`` or ``json``
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(log_format, sys.stderr))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _formatter(log_format: str, stream: TextIO) -> logging.Formatter:
    if log_format == "json":
        return JSONFormatter()
    return JournalFormatter() if _leads_to_journal(stream) else logging.Formatter(TEXT)


def _leads_to_journal(stream: TextIO) -> bool:
    """Is a stream the one that systemd says it has connected to its journal?"""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    journal = os.environ.get("JOURNAL_STREAM")
    return journal == f"{status.st_dev}:{status.st_ino}"
