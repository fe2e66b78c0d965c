"""UDP sockets to the boards of a job."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Collection
from typing import Final

READS_AT_ONCE: Final = 32
"""How many packets are taken from a socket before others have their turn."""

RECEIVE_BYTES: Final = 512 * 1024
"""How much of what comes from boards the kernel is asked to hold."""

LARGEST_PACKET: Final = 65_535


class Channel:
    """A UDP socket; packets are lost where they cannot be carried, as is the way of
    UDP. For one event loop.
    """

    def __init__(
        self,
        deliver: Callable[[bytes], object],
        *,
        to: tuple[str, int] | None = None,
        near: str = "",
        senders: Collection[str] = (),
    ) -> None:
        """Open a channel to one port of one board, or to all boards of a job.

        :param deliver: gets what comes
        :param to: the IP address and port; None to send with `send_to`
        :param near: where it is not to one board, the IP address of one of them
        :param senders: from these IP addresses something may come then
        :raises OSError: if that cannot be
        """
        self._deliver = deliver
        self._senders = frozenset(senders)
        self.is_bound = to is not None
        """Is it to one board?"""
        family = socket.AF_INET6 if ":" in (to[0] if to else near) else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        try:
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
            if to is not None:
                self._socket.connect(to)
            else:
                self._socket.bind((_own_address(family, near), 0))
            asyncio.get_running_loop().add_reader(self._socket, self._read)
        except BaseException:
            self._socket.close()
            raise

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and port of our end."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    def send(self, payload: bytes | memoryview) -> bool:
        """Send to the board that the channel is to; was that possible?"""
        try:
            self._socket.send(payload)
        except OSError:
            return False
        return True

    def send_to(self, payload: bytes, to: tuple[str, int]) -> bool:
        """Send to any board; was that possible?"""
        try:
            self._socket.sendto(payload, to)
        except OSError:
            return False
        return True

    def _read(self) -> None:
        for _ in range(READS_AT_ONCE):
            try:
                payload, sender = self._socket.recvfrom(LARGEST_PACKET)
            except BlockingIOError:
                return
            except OSError:
                continue  # the board has refused an earlier packet
            if self.is_bound or sender[0] in self._senders:
                self._deliver(payload)

    def close(self) -> None:
        """Nothing goes either way any more."""
        with contextlib.suppress(RuntimeError, ValueError):
            asyncio.get_running_loop().remove_reader(self._socket)
        self._socket.close()


def _own_address(family: int, board: str) -> str:
    """Our address as a board sees it. Nothing is sent for that."""
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((board, 1))
        address: str = probe.getsockname()[0]
        return address
