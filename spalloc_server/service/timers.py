"""What the server has to do without being asked, and when."""

import math
import time
from collections import deque
from typing import Final

from spalloc_server.controller import Controller

GRAIN_SECONDS: Final = 0.1
"""Boards that become free within this time are given out together."""


class Timers:
    """Looks for jobs that have timed out and boards that have cooled down.

    Boards are to be given out soon after they are free, however long the interval of
    the other checks. For the server's thread; the controller is passed in.
    """

    def __init__(self) -> None:
        self._changed = False
        # By time.monotonic(); the second is in order.
        self._next_check = 0.0
        self._free_checks: deque[float] = deque()

    @property
    def due(self) -> float:
        """When there is something to do next, by `time.monotonic`."""
        if self._changed:
            return 0.0
        if self._free_checks:
            return min(self._next_check, self._free_checks[0])
        return self._next_check

    def hardware_changed(self, seconds_before_free: float) -> None:
        """Boards may have gone off just now, and be free after a time in seconds."""
        self._changed = True
        free_at = time.monotonic() + seconds_before_free
        free_at = math.ceil(free_at / GRAIN_SECONDS) * GRAIN_SECONDS
        if not self._free_checks or self._free_checks[-1] < free_at:
            self._free_checks.append(free_at)

    def check_soon(self) -> None:
        """Do all checks the next time, whether due or not."""
        self._next_check = 0.0

    def is_check_due(self, now: float) -> bool:
        """Is it time for `check`?

        :param now: by the monotonic clock
        """
        return now >= self._next_check

    def check(
        self, controller: Controller, interval: float, heard_until: float
    ) -> None:
        """Do all checks.

        :param interval: seconds until the next time
        :param heard_until: see `.Controller.destroy_silent_jobs`
        """
        self._next_check = time.monotonic() + interval
        self._changed = True
        controller.destroy_silent_jobs(heard_until)

    def give_out_free_boards(self, controller: Controller, now: float) -> None:
        """Look for boards that have cooled down, where it is time for that.

        :param now: by the monotonic clock
        """
        check_free = self._changed
        self._changed = False
        while self._free_checks and self._free_checks[0] <= now:
            self._free_checks.popleft()
            check_free = True
        if check_free:
            controller.check_free()
