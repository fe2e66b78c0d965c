"""The sockets under a poll loop: what is waited for, and how a wait is ended.

No rule of the service is in here: who may connect, what is sent and when is for
the class that inherits from this one.
"""

import contextlib
import math
import select
import socket
from typing import Protocol

LISTEN_BACKLOG = 4096
"""Connections that the kernel may hold for us until they are accepted."""


class Channel(Protocol):
    """Something with a file descriptor that can be waited for."""

    def fileno(self) -> int:
        """The file descriptor, which stays the same while registered."""


class PollingServerCore:
    """A poll object, the channels registered with it, and a way to wake it.

    All methods are for the one thread that polls, except :py:meth:`wake`, which any
    thread and any signal handler may call.
    """

    def __init__(self) -> None:
        self._poll = select.poll()
        self._channels: dict[int, Channel] = {}
        self._notify_send, self._notify_recv = socket.socketpair()
        self._notify_send.setblocking(False)
        self._notify_recv.setblocking(False)
        self.register_channel(self._notify_recv)

    def wake(self) -> None:
        """End the current wait, or the next one if none is going on.

        Never blocks, from any thread. Calls between two waits count as one.
        """
        # A full socket pair holds a wake-up already; a closed one needs none.
        with contextlib.suppress(OSError):
            self._notify_send.send(b"x")

    def register_channel(self, channel: Channel, events: int = select.POLLIN) -> None:
        """Start to wait for events of a channel, or change which ones."""
        fd = channel.fileno()
        self._poll.register(fd, events)
        self._channels[fd] = channel

    def unregister_channel(self, channel: Channel) -> None:
        """Wait for this channel no more. Must come before the channel is closed."""
        fd = channel.fileno()
        del self._channels[fd]
        self._poll.unregister(fd)

    def is_registered(self, channel: Channel) -> bool:
        """Is this channel being waited for?"""
        return self._channels.get(channel.fileno()) is channel

    def ready_channels(self, timeout: float) -> list[tuple[Channel, int]]:
        """Wait until something happens, for ``timeout`` seconds at most.

        Returns the channels with events and their event masks. After a wake-up,
        :py:attr:`_notify_recv` is among them, already emptied.
        """
        # Rounded up: rounded down, the last millisecond before a deadline spins.
        events = self._poll.poll(max(0, math.ceil(timeout * 1000)))
        ready = [(self._channels[fd], event) for fd, event in events]
        if any(channel is self._notify_recv for channel, _ in ready):
            with contextlib.suppress(BlockingIOError):
                while self._notify_recv.recv(4096):
                    pass
        return ready

    @staticmethod
    def _open_server_socket(ip: str, port: int) -> socket.socket:
        """Listen on an address; an empty ``ip`` means all of IPv4, port 0 a free one.

        Raises :py:exc:`OSError` where that cannot be.
        """
        family, kind, protocol, _, address = socket.getaddrinfo(
            ip or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setblocking(False)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(LISTEN_BACKLOG)
        except OSError:
            listener.close()
            raise
        return listener

    def _close_core(self) -> None:
        """Close what the constructor opened; no method may be called after it."""
        self.unregister_channel(self._notify_recv)
        self._notify_send.close()
        self._notify_recv.close()
