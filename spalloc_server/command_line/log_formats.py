"""How the server's log looks: lines for people, lines for journald, or JSON.

Whatever a record names (owners, machines, hosts, reasons, what exceptions say), it
makes no line that looks like one of the log's own, and sends nothing raw to a terminal.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
from collections.abc import Iterator
from typing import Final, TextIO

from spalloc_server.command_line.log_output import LogHandler, log_to
from spalloc_server.command_line.terminal import printable

CONTINUATION: Final = "  | "
"""What the lines of a traceback begin with."""

TEXT: Final = "%(asctime)s %(levelname)s %(message)s"

_PRIORITIES: Final = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
)


class JSONFormatter(logging.Formatter):
    """One JSON object a line: ``time`` (UTC), ``level``, ``logger``, ``thread``,
    ``message``, and ``exception`` where there is one. All of it is in ASCII, and what
    is not printable in there is escaped, as JSON has it.
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


class TextFormatter(logging.Formatter):
    """A line for people, and the lines of a traceback, marked as such."""

    def __init__(self, layout: str = TEXT) -> None:
        super().__init__(layout)

    def format(self, record: logging.LogRecord) -> str:
        """Describe a record, in several lines where there is a traceback."""
        record.message = printable(record.getMessage())
        if self.usesTime():
            record.asctime = self.formatTime(record)
        return "\n".join([self.formatMessage(record), *self._details(record)])

    def _details(self, record: logging.LogRecord) -> Iterator[str]:
        if record.exc_info:
            for line in self.formatException(record.exc_info).split("\n"):
                yield CONTINUATION + printable(line)
        if record.stack_info:
            for line in record.stack_info.split("\n"):
                yield CONTINUATION + printable(line)


class JournalFormatter(TextFormatter):
    """Lines with their priority in front, as journald takes it from standard error.

    journald notes the time by itself.
    """

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Describe a record, each line of it with the priority."""
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), 7)
        lines = super().format(record).split("\n")
        return "\n".join(f"<{priority}>{line}" for line in lines)


def set_up_logging(level: str, log_format: str) -> LogHandler | None:
    """Log to standard error, unless this program has a log of its own already.

    :param level: the name of the least level to log
    :param log_format: ``text`` or ``json``
    """
    if logging.getLogger().handlers:
        return None
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    formatter = _formatter(log_format, sys.stderr)
    return log_to(2, encoding, formatter, level.upper())


def _formatter(log_format: str, stream: TextIO | None) -> logging.Formatter:
    if log_format == "json":
        return JSONFormatter()
    return JournalFormatter() if _leads_to_journal(stream) else TextFormatter()


def _leads_to_journal(stream: TextIO | None) -> bool:
    """Is a stream the one that systemd says it has connected to its journal?"""
    if stream is None:  # it was closed when the process began
        return False
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    journal = os.environ.get("JOURNAL_STREAM")
    return journal == f"{status.st_dev}:{status.st_ino}"
