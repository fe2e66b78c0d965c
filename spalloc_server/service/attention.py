"""Has the server listened to its clients? Nobody's silence counts while it has not."""

from __future__ import annotations

import time
from typing import Final

from spalloc_server.polling_server_core import READY_AT_ONCE

LONGEST_LAPSE: Final = 0.5
"""Seconds for which the loop may be busy, or late, as a matter of course."""

TURNS_FOR_A_PACKET: Final = 20
"""So many turns, at least, it takes until all that one client had sent at some time was
handled: what is read of it at once, in portions of a turn."""


class Attention:
    """Watches how the loop spends its time. For the server's thread.

    A process may be stopped by a signal, with the virtual machine or the laptop that it
    runs on, and a turn of the loop may take seconds. Clients cannot be heard then,
    however often they call.
    """

    def __init__(self) -> None:
        # When the last wait ended.
        self._woke_at = time.monotonic()
        self._overdue_turns = 0
        self._has_lapsed = False

    def waited(self, since: float, timeout: float, now: float) -> float:
        """The loop has waited for input, and has been woken up.

        :param since: when it began to wait, by the monotonic clock
        :param timeout: seconds that it was to wait at most
        :param now: when it was woken up
        :return: for how many seconds it did not listen since it was last woken up;
            0 where that was as short as it always is
        """
        lapse = since - self._woke_at
        late = now - since - timeout
        if late > 0.0:
            lapse += late
        self._woke_at = now
        self._has_lapsed = lapse > LONGEST_LAPSE
        return lapse if self._has_lapsed else 0.0

    def has_heard_all(self, ready: int, unhandled: bool, clients: int) -> bool:
        """Was all handled that clients had sent when it was first asked for?

        To be asked once a turn for as long as it is false. A client that sends without
        end does not keep it so for long.

        :param ready: how many channels the last wait has told of
        :param unhandled: are there lines that were read, but not handled?
        :param clients: how many there are
        """
        if self._has_lapsed:
            # A wait that is over before it has looked tells of nothing.
            return False
        self._overdue_turns += 1
        # Those that are ready get their turns in order, so many at a time.
        turns = clients // READY_AT_ONCE + TURNS_FOR_A_PACKET
        if (ready < READY_AT_ONCE and not unhandled) or self._overdue_turns > turns:
            self._overdue_turns = 0
            return True
        return False
