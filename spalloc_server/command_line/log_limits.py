"""How much any one client can make the log say."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from typing import Final

from spalloc_server.wire.connection import Connection
from spalloc_server.wire.log_source import SOURCE

BURST_CHARACTERS: Final = 256 * 1024
"""How much a client may have logged at once..."""

CHARACTERS_PER_SECOND: Final = 4 * 1024
"""...and how much all the time."""

SUMMARY_SECONDS: Final = 10.0
"""How often the number of suppressed lines is told."""

MOST_CLIENTS: Final = 10_000
"""How many clients are told apart; all others count as one."""

OTHERS: Final = "other clients"

_OVERHEAD: Final = 50
"""What a line takes beside its message: the time, the level."""


class LogLimits(logging.Filter):
    """Lets a record about a client pass, unless there were too many. For all threads.

    Records about nobody, records of hardware, and those with an attribute
    ``for_operators``, which are rare, always pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        # What each client still may, the latest last.
        self._allowances: dict[str, _Allowance] = {}
        self._suppressed: dict[str, int] = {}
        self._summary_at = 0.0

    @property
    def any_suppressed(self) -> bool:
        """Is there something to be said of suppressed lines?"""
        return bool(self._suppressed)

    def filter(self, record: logging.LogRecord) -> bool:
        """Is a record to be logged?"""
        host = _source_of(record)
        if host is None:
            return True
        size = _OVERHEAD + len(record.getMessage())
        if record.exc_info and record.exc_info[1] is not None:
            size += 2000 + len(repr(record.exc_info[1]))
        now = time.monotonic()
        with self._lock:
            client = _client(host)
            if client not in self._allowances and self._is_full(now):
                client = OTHERS
            allowance = self._allowances.pop(client, None) or _Allowance(now)
            self._allowances[client] = allowance
            if allowance.take(size, now):
                return True
            if not self._suppressed:
                self._summary_at = now + SUMMARY_SECONDS
            first = client not in self._suppressed
            self._suppressed[client] = self._suppressed.get(client, 0) + (not first)
        if first:
            record.msg = "Too many log lines from %s: from now on they are only counted"
            record.args = (client,)
            record.exc_info = record.exc_text = record.stack_info = None
            record.levelno, record.levelname = logging.WARNING, "WARNING"
        return first

    def take_summaries(self, at_once: bool = False) -> list[str]:
        """What is to be said by now, or at once, of lines that were suppressed."""
        now = time.monotonic()
        with self._lock:
            if now < self._summary_at and not at_once:
                return []
            suppressed, self._suppressed = self._suppressed, {}
        return [
            f"{number} more log lines from {client} suppressed"
            for client, number in suppressed.items()
            if number
        ]

    def _is_full(self, now: float) -> bool:
        """Is there no room for one more client? Forgets those that were quiet."""
        while self._allowances and len(self._allowances) >= MOST_CLIENTS:
            client, allowance = next(iter(self._allowances.items()))
            if not allowance.is_whole(now):
                return True
            del self._allowances[client]
        return False


class _Allowance:
    """What one client may have logged."""

    __slots__ = ("_left", "_since")

    def __init__(self, now: float) -> None:
        self._left = float(BURST_CHARACTERS)
        self._since = now

    def take(self, size: int, now: float) -> bool:
        self._left = self._left_at(now)
        self._since = now
        if self._left < size:
            return False
        self._left -= size
        return True

    def is_whole(self, now: float) -> bool:
        return self._left_at(now) == BURST_CHARACTERS

    def _left_at(self, now: float) -> float:
        earned = (now - self._since) * CHARACTERS_PER_SECOND
        return min(float(BURST_CHARACTERS), self._left + earned)


def _source_of(record: logging.LogRecord) -> str | None:
    """The IP address of the client that a record is about, or that has caused it."""
    if getattr(record, "for_operators", False):
        return None
    if isinstance(record.args, tuple):
        for arg in record.args:
            if isinstance(arg, Connection):
                return arg.getpeername()[0]
    source = SOURCE.client
    return None if source is None else source.getpeername()[0]


def _client(host: str) -> str:
    """A client's name; with IPv6, any of them has as many addresses as it likes."""
    if ":" not in host:
        return host
    try:
        return str(ipaddress.IPv6Network((host.partition("%")[0], 64), strict=False))
    except ValueError:
        return host
