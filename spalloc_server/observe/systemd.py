"""Tells systemd how the server is, by the protocol of ``sd_notify(3)``.

A datagram of a few lines is all there is to it. The small libraries for that are no
longer looked after (sdnotify) or need the headers of libsystemd and a compiler to
install (systemd-python), so it is done here.
"""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from spalloc_server.observe.observer import Observed, Observer

FEEDS_PER_LIMIT: Final = 4
"""How often the watchdog is fed within the time after which it would bite."""

STOP_USEC: Final = 600 * 1_000_000
"""Until when the watchdog is held back while the hardware finishes; systemd itself
ends the wait by ``TimeoutStopSec``."""


class SystemdObserver(Observer):
    """Tells when the server is ready, reloads and stops, and feeds the watchdog.

    The watchdog is fed in turns of the loop, so that it bites when that hangs.
    """

    def __init__(self, address: str, watchdog_seconds: float | None) -> None:
        """Talk to the service manager.

        :param address: its socket, as in ``NOTIFY_SOCKET``
        :param watchdog_seconds: after how long without food it kills the server
        """
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._socket: socket.socket | None = None
        self._feed_interval = math.inf
        if watchdog_seconds is not None:
            self._feed_interval = watchdog_seconds / FEEDS_PER_LIMIT
        self.longest_wait = self._feed_interval
        self._feed_at = 0.0
        self._status = ""

    @classmethod
    def from_environment(
        cls, environment: MutableMapping[str, str]
    ) -> SystemdObserver | None:
        """The observer that the service manager has asked for, None for none.

        What was for this process is removed from the environment, so that none that
        it starts takes it for itself.
        """
        address = environment.pop("NOTIFY_SOCKET", "")
        usec = environment.pop("WATCHDOG_USEC", "")
        pid = environment.pop("WATCHDOG_PID", str(os.getpid()))
        if not address.startswith(("/", "@")):
            return None
        wanted = usec.isdigit() and int(usec) > 0 and pid == str(os.getpid())
        return cls(address, int(usec) / 1e6 if wanted else None)

    def open(self) -> None:
        """Make the socket."""
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_UNIX, kind)
        self._socket.setblocking(False)

    def started(self, server: Observed) -> None:
        """Tell that clients can connect."""
        host, port = server.address
        self._status = f"STATUS=Listening on {host} port {port}"
        self._tell("READY=1", self._status)

    def turned(self) -> None:
        """Feed the watchdog, if it is time."""
        now = time.monotonic()
        if now >= self._feed_at and self._feed_interval < math.inf:
            self._feed_at = now + self._feed_interval / 2
            self._tell("WATCHDOG=1")

    def reloading(self) -> None:
        """Tell that the config is read again."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._tell("RELOADING=1", f"MONOTONIC_USEC={usec}", "STATUS=Reloading")

    def reloaded(self) -> None:
        """Tell that this is over."""
        self._tell("READY=1", self._status)

    def stopping(self) -> None:
        """Tell that it may take a while until the hardware has finished."""
        lines = ["STOPPING=1", "STATUS=Waiting for commands to BMPs"]
        if self._feed_interval < math.inf:
            lines.append(f"WATCHDOG_USEC={STOP_USEC}")
        self._tell(*lines)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, *lines: str) -> None:
        # Without a listener, or with one that is busy, there is nobody to tell.
        if self._socket is not None:
            with contextlib.suppress(OSError):
                message = "\n".join(line for line in lines if line)
                self._socket.sendto(message.encode(), self._address)
