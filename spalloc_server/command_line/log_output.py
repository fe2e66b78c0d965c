"""The way of log lines to standard error, which nobody has to wait for.

Whoever logs only puts a line into a queue; a thread writes. So a pipe that nobody
reads, a full disk or a closed terminal cost log lines, which are counted, and nothing
else.
"""

from __future__ import annotations

import logging
import os
import queue
import select
import sys
import threading
from logging.handlers import QueueHandler, QueueListener
from typing import Any, Final

from spalloc_server.command_line.log_limits import LogLimits

logger = logging.getLogger(__name__)

WAITING_CHARACTERS: Final = 4 * 1024**2
"""How much of the log may wait to be written."""

LINE_CHARACTERS: Final = 16 * 1024
"""How long a record may be."""

FLUSH_SECONDS: Final = 2.0
"""How long the process waits at its end until all of its log has been written."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether there is something to be said of suppressed lines."""


class LogHandler(QueueHandler):
    """Puts formatted records into a queue. From any thread; never blocks."""

    def __init__(self, formatter: logging.Formatter, limits: LogLimits) -> None:
        self.lines: queue.Queue[Any] = _LineQueue(WAITING_CHARACTERS)
        super().__init__(self.lines)
        self.setFormatter(formatter)
        self.addFilter(limits)
        self._limits = limits
        self._lost = 0

    def prepare(self, record: logging.LogRecord) -> Any:
        """The text of a record; here, since what it names may change later."""
        text = self.format(record)
        more = len(text) - LINE_CHARACTERS
        if more > 0:
            text = f"{text[:LINE_CHARACTERS]}... ({more} more characters)"
        return text

    def enqueue(self, record: Any) -> None:
        """Queue a line, or count it where there is no room."""
        try:
            if self._lost:
                self.lines.put_nowait(self._notice())
                self._lost = 0
            self.lines.put_nowait(record)
        except queue.Full:
            self._lost += 1

    def _notice(self) -> str:
        return self.format(
            _record(
                logging.ERROR, "%d log lines were lost: nobody took them", self._lost
            )
        )

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802
        """Tell of a record that cannot be formatted."""
        self.enqueue(
            self.format(
                _record(
                    logging.ERROR,
                    "A log line of %s (line %d) cannot be written: %r",
                    record.name,
                    record.lineno,
                    sys.exc_info()[1],
                )
            )
        )

    def flush(self) -> None:
        """Wait until all has been written, but not for long. Called at the end."""
        self.acquire()
        try:
            for summary in self._limits.take_summaries(at_once=True):
                self.enqueue(self.format(_record(logging.WARNING, "%s", summary)))
            if self._lost:
                self.lines.put(self._notice(), timeout=FLUSH_SECONDS)
                self._lost = 0
        except queue.Full:
            return
        finally:
            self.release()
        done = self.lines.all_tasks_done
        with done:
            done.wait_for(lambda: not self.lines.unfinished_tasks, FLUSH_SECONDS)


class LogWriter(QueueListener):
    """Writes the lines of a queue to a file descriptor, in a thread of its own."""

    def __init__(
        self,
        lines: queue.Queue[Any],
        formatter: logging.Formatter,
        limits: LogLimits,
        fd: int,
        encoding: str,
    ) -> None:
        super().__init__(lines)
        self._lines = lines
        self._formatter = formatter
        self._limits = limits
        self._fd = fd
        self._encoding = encoding
        self._failed = 0
        self._problem = ""
        self._within_line = False

    def dequeue(self, block: bool) -> Any:
        """Wait for a line; meanwhile, say how many were suppressed."""
        while True:
            if not (block and self._limits.any_suppressed):
                return super().dequeue(block)
            try:
                return self._lines.get(timeout=LOOK_SECONDS)
            except queue.Empty:
                for summary in self._limits.take_summaries():
                    self.handle(self._format(logging.WARNING, "%s", summary))

    def handle(self, record: Any) -> None:
        """Write a line, if that is possible, and how many could not be."""
        if self._failed:
            problem = "%d log lines could not be written: %s"
            notice = self._format(logging.ERROR, problem, self._failed, self._problem)
            if not self._write(notice):
                self._failed += 1
                return
            self._failed = 0
        if not self._write(record):
            self._failed += 1

    def _format(self, level: int, message: str, *args: object) -> str:
        return self._formatter.format(_record(level, message, *args))

    def _write(self, text: str) -> bool:
        data = f"{text}\n".encode(self._encoding, "backslashreplace")
        if self._within_line:
            data = b"\n" + data
        while data:
            try:
                written = os.write(self._fd, data)
            except BlockingIOError:  # another process has made it so
                waiting = select.poll()
                waiting.register(self._fd, select.POLLOUT)
                waiting.poll()
                continue
            except OSError as e:
                self._problem = e.strerror or str(e)
                return False
            data = data[written:]
            self._within_line = bool(data)
        return True


class _LineQueue(queue.Queue[Any]):
    """A queue whose size is that of the texts in it."""

    def _init(self, maxsize: int) -> None:
        super()._init(maxsize)
        self._characters = 0

    def _qsize(self) -> int:
        return self._characters

    def _put(self, item: Any) -> None:
        super()._put(item)
        self._characters += _size(item)

    def _get(self) -> Any:
        item = super()._get()
        self._characters -= _size(item)
        return item


def _size(item: Any) -> int:
    return len(item) + 1 if isinstance(item, str) else 1


def _record(level: int, message: str, *args: object) -> logging.LogRecord:
    return logging.LogRecord(__name__, level, __file__, 0, message, args, None)


def log_to(
    fd: int, encoding: str, formatter: logging.Formatter, level: str
) -> LogHandler:
    """Have everything logged that is at least of some level.

    Errors that end a thread or the process are, too.
    """
    limits = LogLimits()
    handler = LogHandler(formatter, limits)
    LogWriter(handler.lines, formatter, limits, fd, encoding).start()
    logging.basicConfig(level=level, handlers=[handler])
    sys.excepthook = _log_end
    threading.excepthook = _log_end_of_thread
    return handler


def _log_end(*error: Any) -> None:
    logger.critical("Unexpected error", exc_info=error)


def _log_end_of_thread(args: threading.ExceptHookArgs) -> None:
    if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
        logger.critical(
            "Unexpected error in thread %s",
            args.thread.name if args.thread else "(unknown)",
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )
