"""The listening socket: takes in new connections from where they are allowed, also
where descriptors run out.
"""

import errno
import logging
import os
import resource
import socket
import time
from collections import Counter
from collections.abc import Container
from typing import Final

from spalloc_server.config.networks import AllowedNetworks

logger = logging.getLogger(__name__)

LISTEN_BACKLOG: Final = 4096
"""Connections that the kernel may hold for us until they are accepted."""

ACCEPTS_PER_TURN: Final = 256
"""How many connections are taken in before the others get their turn again."""

LOG_INTERVAL: Final = 10.0
"""Seconds between log lines about connections turned away."""

RETRY_SECONDS: Final = 0.1
"""Pause where a connection can be neither taken in nor turned away."""

_OUT_OF_RESOURCES: Final = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener:
    """A listening socket that accepts connections. For the server's thread.

    The last of the process's file descriptors are kept for files and hardware:
    connections that would take those are closed at once.
    """

    def __init__(self, ip: str, port: int) -> None:
        """Listen to an address; "" is all of IPv4, port 0 any free port.

        :raises OSError: with a message that names the address, where that cannot be; so
            does `move`
        """
        self._wanted = ip, port
        self._socket = _open_socket(ip, port)
        # The address that could not be taken again; no socket listens meanwhile.
        self._lost: tuple[str, int] | None = None
        # Closed to make room for a connection that is to be turned away.
        self._spare_fd: int | None = _open_spare()
        self._turned_away = _Rejections(
            logging.ERROR, "Out of file descriptors: %d new connections turned away"
        )
        self._not_allowed = _Rejections(
            logging.WARNING,
            "%d connections closed that come from no allowed network; last: %s",
        )
        self.refused: Counter[str] = Counter()
        """How many connections were not taken in, by the kind of reason."""
        self.allowed: Container[str] = AllowedNetworks()
        """The IP addresses from which connections are taken in."""
        self.resume_at: float | None = None
        """The time (`time.monotonic`) before which not to try again."""

    def move(self, ip: str, port: int) -> bool:
        """Listen to another address instead; was there anything to change?

        The file descriptor changes. Where it cannot be, the old address is kept. Where
        somebody else was faster to take that one, nothing is listened to until
        `listen_again` has got one of them.
        """
        if (ip, port) == self._wanted and self.is_open:
            return False
        old = self.address
        try:
            new_socket = _open_socket(ip, port)
        except OSError as e:
            if e.errno != errno.EADDRINUSE or not self.is_open:
                raise
            # Our own socket may be what is in the way: "" overlaps with 127.0.0.1.
            self._socket.close()
            try:
                new_socket = _open_socket(ip, port)
            except OSError:
                try:
                    self._socket = _open_socket(*old)
                except OSError as lost:
                    self._socket = _open_nothing()
                    self._lost = old
                    logger.error(
                        "%s; nobody can connect until it can be had again",
                        lost.strerror,
                    )
                raise
        self._take(new_socket)
        self._wanted = ip, port
        return True

    @property
    def is_open(self) -> bool:
        """Is there an address that is listened to?"""
        return self._lost is None

    def listen_again(self) -> bool:
        """Try again where an address has been lost; is there one again?

        The file descriptor changes then.
        """
        if self._lost is None:
            return False
        try:
            self._take(_open_socket(*self._lost))
        except OSError:
            return False
        return True

    def _take(self, new_socket: socket.socket) -> None:
        self._socket.close()
        self._socket = new_socket
        self._lost = None

    def fileno(self) -> int:
        """The file descriptor of the listening socket."""
        return self._socket.fileno()

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and the port that are listened to, or were to be."""
        if self._lost is not None:
            return self._lost
        host, port = self._socket.getsockname()[:2]
        return host, port

    def accept(self) -> list[socket.socket]:
        """Take in the connections that wait, or the first of them if they are many."""
        accepted: list[socket.socket] = []
        highest = _highest_descriptor()
        self.resume_at = None
        if not self.is_open:
            return accepted
        for _ in range(ACCEPTS_PER_TURN):
            try:
                client, address = self._socket.accept()
            except BlockingIOError:
                break
            except OSError as e:
                if e.errno not in _OUT_OF_RESOURCES:
                    continue  # that one connection failed before it was taken in
                try:
                    self._turn_away()
                except BlockingIOError:
                    break  # that there are no descriptors is found out first
                except OSError:
                    self.resume_at = time.monotonic() + RETRY_SECONDS
                    break
                continue
            if address[0] not in self.allowed:
                # Counted before anybody can see that it is closed.
                self.refused["network not allowed"] += 1
                self._not_allowed.note(address[0])
                client.close()
            elif client.fileno() > highest:
                self._note_turned_away()
                client.close()
            else:
                accepted.append(client)
        return accepted

    def _turn_away(self) -> None:
        """Close a connection that waits, for which there is no descriptor left."""
        if self._spare_fd is not None:
            os.close(self._spare_fd)
        try:
            self._socket.accept()[0].close()
        finally:
            self._spare_fd = _open_spare()
        self._note_turned_away()

    def _note_turned_away(self) -> None:
        self.refused["out of descriptors"] += 1
        self._turned_away.note()

    def close(self) -> None:
        """Stop listening. Connections that were taken in are not affected."""
        self._socket.close()
        if self._spare_fd is not None:
            os.close(self._spare_fd)
            self._spare_fd = None


class _Rejections:
    """Counts connections that were not taken in, and logs that once in a while."""

    def __init__(self, level: int, message: str) -> None:
        """Start at none; the message takes their number, and what `note` was given."""
        self._level = level
        self._message = message
        self._number = 0
        self._next_log = 0.0

    def note(self, *details: object) -> None:
        """Count one more."""
        self._number += 1
        if time.monotonic() >= self._next_log:
            logger.log(self._level, self._message, self._number, *details)
            self._number = 0
            self._next_log = time.monotonic() + LOG_INTERVAL


def _open_socket(ip: str, port: int) -> socket.socket:
    try:
        if not 0 <= port <= 65535:  # would be taken modulo 65536
            raise OSError(errno.EINVAL, "no such port")
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
    except (OSError, ValueError) as e:  # of which UnicodeError is a kind
        reason = getattr(e, "strerror", None) or str(e)
        raise OSError(
            getattr(e, "errno", None) or errno.EINVAL,
            f"cannot listen on {ip or 'any IP'} port {port}: {reason}",
        ) from e
    return listener


def _open_nothing() -> socket.socket:
    """A socket that nobody can reach, and that is never ready."""
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None


def _highest_descriptor() -> int:
    """The highest file descriptor that a client may take: the kernel gives the lowest
    free one, so a high number means that few are left.
    """
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        limit = 2**31 - 1
    return limit - 1 - min(64, limit // 4)
