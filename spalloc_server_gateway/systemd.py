"""What systemd hands over, and is told."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from typing import Final

FIRST_DESCRIPTOR: Final = 3
"""The first of those that are handed over, see ``sd_listen_fds(3)``."""


def inherited_socket(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The listening socket that was handed over; None if there is none.

    It stays open while the gateway is restarted, so that nobody is turned away.
    """
    pid = environment.pop("LISTEN_PID", "")
    number = environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or number != "1":
        return None
    return socket.socket(fileno=FIRST_DESCRIPTOR)


class Systemd:
    """Tells the service manager how the gateway is, see ``sd_notify(3)``."""

    def __init__(self, address: str | None) -> None:
        """Talk to a service manager.

        :param address: its socket; None if there is nobody to tell
        """
        self._address = address

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Systemd:
        """The one that has started this process, if it wants to know."""
        address = environment.pop("NOTIFY_SOCKET", "")
        if address.startswith("@"):
            address = "\0" + address[1:]
        return cls(address if address.startswith(("/", "\0")) else None)

    def tell(self, *lines: str) -> None:
        """Tell something, if anybody listens."""
        if self._address is None:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        with socket.socket(socket.AF_UNIX, kind) as told, contextlib.suppress(OSError):
            told.sendto("\n".join(lines).encode(), self._address)
