"""One client's connection: its socket, its input lines and its bounded output."""

import contextlib
import json
import socket
import sys
from collections.abc import Iterable, Iterator
from select import POLLIN, POLLOUT
from typing import Final, TypeAlias

from spalloc_server.config.networks import plain_address
from spalloc_server.wire.framing import LineFramer
from spalloc_server.wire.messages import LongReply, encode_message

MAX_OUTPUT_BYTES = 1024 * 1024
"""How much output, in bytes, may wait for a client that does not take it."""

LONG_REPLY_BYTES: Final = 128 * 1024
"""How much, in bytes, is made of a long reply before the client takes some of it."""

KERNEL_OUTPUT_BYTES: Final = 128 * 1024
"""How much output of a connection the kernel is asked to hold on top of that."""

READ_BYTES: Final = 16 * 1024
"""The most that is read from one connection in one turn of the loop."""

ChangeId: TypeAlias = int | str
"""What a notification enumerates: job IDs or machine names."""


class OutputFullError(Exception):
    """The client does not take its output, and more of it may not wait."""


class Connection(LineFramer):
    """A non-blocking connection to one client; for the server's thread only.

    Lines come out of `next_line` after `receive`; replies go into
    `send`, change notifications into `notify`, and both leave with
    `flush`. Nothing in here ever blocks. The socket belongs to the
    connection; `OSError` is raised where it is not connected any more.
    """

    def __init__(
        self, client_socket: socket.socket, max_output_bytes: int = MAX_OUTPUT_BYTES
    ) -> None:
        super().__init__()
        self._socket = client_socket
        self._socket.setblocking(False)
        self._fd = client_socket.fileno()
        self.user: str | None = None
        """The operator that it belongs to; None for a client of the public port."""
        self._peer = self._describe_peer(client_socket)
        self._output: bytes | bytearray = b""
        self._max_output_bytes = max_output_bytes
        self.stale_bytes = 0
        """What is left of the output that the last `flush` could not send."""
        # {label: ids}, sent once all other output is gone; _pending_bytes is
        # what its ids will take up at most.
        self._pending: dict[str, dict[ChangeId, None]] = {}
        self._pending_bytes = 0
        # What is still to be made of a long reply, and how much of the output was
        # there before it.
        self._unmade: Iterator[bytes] | None = None
        self._kept_bytes = 0
        self._earlier_bytes = 0
        # Has the output a reply that is longer than what may wait?
        self._is_long = False
        self.is_busy = False
        """Is a long reply being made?"""
        self.host: str | None = self._peer[0] or None
        """The client's IP address; while a command for another host is handled, that of
        the other one."""
        self.sent_bytes = 0
        """How much the client's host has taken so far of what it had left lying."""
        self.at_end = False
        """True once the client has closed its sending side."""
        self._set_up_socket(client_socket)

    def _describe_peer(self, client_socket: socket.socket) -> tuple[str, int]:
        host, port = client_socket.getpeername()[:2]
        return sys.intern(str(plain_address(host) or host)), port

    def _set_up_socket(self, client_socket: socket.socket) -> None:
        # A reply leaves at once instead of waiting for the last one's ACK, and a
        # client whose host is gone is found out in the end.
        client_socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client_socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # Left to itself, the kernel would hold megabytes for a client that is slow.
        client_socket.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_OUTPUT_BYTES
        )

    def __repr__(self) -> str:
        return f"{self._peer[0]} port {self._peer[1]}"

    def fileno(self) -> int:
        """The file descriptor; it stays the same after closing."""
        return self._fd

    def getpeername(self) -> tuple[str, int]:
        """The client's IP address and port, also after closing.

        An IPv4 client is named by its IPv4 address on an IPv6 socket too.
        """
        return self._peer

    # Input

    def receive(self) -> None:
        """Read once what has arrived, or note that the client has sent everything.

        :raises OSError: where the connection is broken
        """
        try:
            data = self._socket.recv(READ_BYTES)
        except (BlockingIOError, InterruptedError):
            return
        if data:
            self.feed(data)
        else:
            self.at_end = True

    def end_input(self) -> None:
        """Take no more commands from the client; it is as if it had sent everything."""
        self.discard()
        self.at_end = True

    # Output

    def send(self, message: object) -> None:
        """Put a message at the end of the output.

        :raises OutputFullError: where the client has left output lying and this message
            would make it more than may wait
        """
        self.send_line(encode_message(message))

    def send_line(self, line: bytes) -> None:
        """The same for a message that is encoded already."""
        if self.stale_bytes:
            self._check_room(len(line))
        self._put(line)

    def _put(self, line: bytes) -> None:
        # A single line, which may be shared, is not copied.
        if not self._output:
            self._output = line
            return
        if isinstance(self._output, bytes):
            self._output = bytearray(self._output)
        self._output += line

    def begin_reply(self, reply: LongReply) -> None:
        """Begin a reply that may be long, of which each turn makes a piece.

        No more is made of it than the client takes. Until it is whole the client is
        busy: its next commands, and notifications, have to wait.
        """
        self._unmade = reply.pieces
        self._kept_bytes = reply.kept_bytes
        self._earlier_bytes = len(self._output)
        self.is_busy = True

    def go_on_with_reply(self) -> None:
        """Make the next piece of a long reply, if there is room for it.

        :raises OutputFullError: where the client has left the replies before it lying,
            and with them more waits than may
        """
        assert self._unmade is not None
        if self._earlier_bytes:
            self._check_room(0)
        if not self.has_room:
            return
        piece = next(self._unmade, None)
        if piece is None:
            self._unmade = None
            self._kept_bytes = 0
            self.is_busy = False
        else:
            self._put(piece)

    @property
    def has_room(self) -> bool:
        """May more of a long reply be made? Else the client has to read first."""
        return len(self._output) - self._earlier_bytes < LONG_REPLY_BYTES

    def notify(
        self, label: str, ids: Iterable[ChangeId], line: bytes | None = None
    ) -> None:
        """Notify of changes, merged with notifications that still wait.

        :param line: the same as an encoded message, where there is one already
        :raises OutputFullError: where too many changes wait
        """
        if line is not None and not (
            self.stale_bytes or self._pending_bytes or self.is_busy
        ):
            self._put(line)
            return
        pending = self._pending.setdefault(label, {})
        for change in ids:
            if change not in pending:
                pending[change] = None
                self._pending_bytes += _size(change)
        # A reply that may be as long as it is leaves notifications the room they had.
        own = self.is_busy or self._is_long
        self._check_room(-len(self._output) if own else 0)

    def forget_changes(self, label: str, change: ChangeId | None = None) -> None:
        """Drop a change (None: all changes) that was to be notified of."""
        pending = self._pending.get(label, {})
        for dropped in list(pending) if change is None else [change]:
            if dropped in pending:
                del pending[dropped]
                self._pending_bytes -= _size(dropped)

    def _check_room(self, extra: int) -> None:
        waiting = len(self._output) + self._pending_bytes
        if waiting + extra > self._max_output_bytes:
            raise OutputFullError(
                f"{waiting} bytes of output wait, more than "
                f"{self._max_output_bytes} may not"
            )

    def flush(self) -> None:
        """Send what waits, as far as the client takes it now.

        Notifications are written out when everything before them has gone: until
        then those for a slow client merge.

        :raises OSError: where the connection is broken
        """
        if self._output:
            self._write()
        if self._pending_bytes and not self._output and not self.is_busy:
            for label, ids in self._pending.items():
                if ids:
                    self._put(encode_message({label: list(ids)}))
            self._pending.clear()
            self._pending_bytes = 0
            self._write()
        if self._output or self.stale_bytes:
            self._note_what_is_left()

    def _note_what_is_left(self) -> None:
        self.stale_bytes = len(self._output)
        if not self.stale_bytes:
            self._is_long = False
        elif self.stale_bytes > self._max_output_bytes or self._is_paused:
            self._is_long = True

    @property
    def _is_paused(self) -> bool:
        """Does a reply go on only when the client has taken some of it?"""
        return self.is_busy and not self.has_room

    def _write(self) -> None:
        try:
            sent = self._socket.send(self._output)
        except (BlockingIOError, InterruptedError):
            return
        if self.stale_bytes:
            self.sent_bytes += sent
        if self._earlier_bytes:
            self._earlier_bytes = max(0, self._earlier_bytes - sent)
        if sent == len(self._output):
            self._output = b""
        else:
            self._output = self._output[sent:]

    @property
    def output_bytes(self) -> int:
        """How much output waits, in bytes, notifications not counted."""
        return len(self._output)

    @property
    def has_output(self) -> bool:
        """Is there anything that `flush` would try to send?"""
        return bool(self._output or self._pending_bytes)

    @property
    def held_bytes(self) -> int:
        """What is held because the client has not taken all of its output, in bytes."""
        return self.stale_bytes and (
            self.stale_bytes + self._pending_bytes + self._kept_bytes
        )

    @property
    def is_blocked(self) -> bool:
        """Does a long reply wait that the client has not taken all of?

        Until then its next commands are left alone: their replies would find the
        output full through no fault of the client.
        """
        return self._is_long

    # Both

    def is_quiet(self) -> bool:
        """Is there nothing to do but to wait for input?"""
        return not (
            self._output
            or self._pending_bytes
            or self.at_end
            or self.is_busy
            or self.has_line()
        )

    @property
    def events(self) -> int:
        """What to wait for: room for output that waits, input unless lines wait."""
        events = 0
        if self._output or (self._pending_bytes and not self.is_busy):
            events = POLLOUT
        if not (self.at_end or self.has_line() or self.is_blocked or self.is_busy):
            events |= POLLIN
        return events

    def close(self) -> None:
        """Close the connection. Output that waits is lost, what was sent is not."""
        # Unread input would turn the close into a reset, which can destroy what
        # the client has not read yet.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.recv(READ_BYTES)
        self._socket.close()


def _size(change: ChangeId) -> int:
    """How many bytes a change adds to a notification."""
    return len(json.dumps(change)) + 1
