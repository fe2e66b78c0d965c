"""``SIGHUP``, for a server that is made in the main thread: here or never."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Sighup:
    """Has something done on ``SIGHUP``, where Python allows it."""

    def __init__(self, do: Callable[[], object]) -> None:
        """Take the signal, in the main thread only.

        :param do: called by the handler
        """
        self._do = do
        # The same object each time, to know it again.
        self._handler = self._handle
        self._old: Any = None
        if threading.current_thread() is threading.main_thread():
            self._old = signal.signal(signal.SIGHUP, self._handler)

    def _handle(self, _signal: int, _frame: FrameType | None) -> None:
        self._do()

    def give_up(self) -> None:
        """Leave the signal to whoever had it before, unless somebody has it since."""
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGHUP) == self._handler
        ):
            signal.signal(signal.SIGHUP, self._old or signal.SIG_DFL)
