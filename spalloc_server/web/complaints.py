"""Log lines about what strangers send, of which there can be any number."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger(__name__)

INTERVAL: Final = 10.0
"""Seconds from one log line of a kind to the next."""


class Complaints:
    """Logs each kind of trouble once in a while, and how often it was since. For one
    thread.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without any.

        :param clock: gives the time in seconds
        """
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._next: dict[str, float] = {}

    def note(
        self, kind: str, detail: object = "", exc_info: BaseException | None = None
    ) -> None:
        """Count one more, and log it if the last line of its kind was long ago.

        :param kind: what is wrong; one of a few texts
        :param detail: more of it; is made printable, and cut
        :param exc_info: told with its traceback, as an error: it is ours
        """
        number = self._numbers.get(kind, 0) + 1
        if self._clock() < self._next.get(kind, 0.0):
            self._numbers[kind] = number
            return
        self._numbers[kind] = 0
        self._next[kind] = self._clock() + INTERVAL
        text = f"HTTP: {kind}"
        if detail != "":
            text += f": {_printable(str(detail))}"
        if number > 1:
            text += f" ({number} times)"
        level = logging.WARNING if exc_info is None else logging.ERROR
        logger.log(level, "%s", text, exc_info=exc_info)


def _printable(text: str) -> str:
    """Some text of others as a short piece of a line."""
    text = text.partition("\n")[0][:100]
    return text.encode("unicode_escape", "replace").decode("ascii")


class ProtocolLog:
    """Stands in for the logger of aiohttp, which logs what is no HTTP as an error with
    a traceback each time.
    """

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints

    def debug(self, *_args: Any, **_kwargs: Any) -> None:
        """Nobody wants to know."""

    info = debug

    def warning(self, message: object, *_args: Any, **kwargs: Any) -> None:
        """Note that something was wrong with a request."""
        error = kwargs.get("exc_info")
        what = type(error).__name__ if isinstance(error, BaseException) else message
        self._complaints.note("a request could not be handled", what)

    error = exception = critical = warning
