"""The connections of web pages: how many there may be, and for how long.

They have a share of the process's descriptors, so that there are always some left for
clients of the server; and whoever sends or reads nothing makes room for others.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import resource
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Final, cast

from spalloc_server.web.complaints import Complaints

MAX_CONNECTIONS: Final = 2000
"""How many there may be, if there are descriptors enough."""

SHARE_OF_DESCRIPTORS: Final = 4
"""One descriptor in so many may be a connection of ours."""

KEPT_DESCRIPTORS: Final = 64
"""The last of all descriptors are for files and hardware."""

ACCEPTS_AT_ONCE: Final = 32

GRACE_SECONDS: Final = 0.5
"""For so long a connection without a whole request is safe where others want in."""

HEAD_SECONDS: Final = 10.0
"""How long the head of a request may take, from the connection or its first byte."""

IDLE_SECONDS: Final = 60.0
"""How long a connection is kept for another request."""

DEAF_SECONDS: Final = 60.0
"""How long nothing may be read of what waits for the other side."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked who has been too slow."""

NEW_SECONDS: Final = 1.0
"""For so long a connection counts as new, which is expected to ask for something."""

FINISH_LOOK_SECONDS: Final = 0.02
"""The same when all are to come to an end."""

RETRY_SECONDS: Final = 0.2
"""Pause where no connection can be taken in."""


class Connections:
    """Takes connections in, and ends those that are too slow. For one event loop."""

    def __init__(
        self,
        listening: socket.socket,
        make_protocol: Callable[[], asyncio.BaseProtocol],
        complaints: Complaints,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Nothing is taken in before `run`.

        :param listening: the socket; stays that of the caller
        :param make_protocol: gives what speaks HTTP with one connection
        :param complaints: told when there are too many
        :param tls: None to speak plain HTTP
        """
        self._listening = listening
        self._make_protocol = make_protocol
        self._complaints = complaints
        self._tls = tls
        self._open: dict[asyncio.BaseTransport, _Connection] = {}
        self._coming: set[asyncio.Task[None]] = set()
        self._is_accepting = False
        self._is_ending = False

    async def run(self) -> None:
        """Serve until cancelled. Connections stay open then, see `finish`."""
        self._listening.setblocking(False)
        try:
            while True:
                with self._going_on():
                    self._resume()
                await asyncio.sleep(LOOK_SECONDS)
                now = time.monotonic()
                for connection in list(self._open.values()):
                    with self._going_on():
                        connection.look(now)
        finally:
            # For good: whoever comes now is left to the next who serves this socket.
            self._is_ending = True
            self._pause()

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Have an error within cost no more than what was to be done."""
        try:
            yield
        except Exception as e:
            self._complaints.note("connections cannot be looked after", exc_info=e)

    async def finish(self, seconds: float) -> None:
        """Wait until all requests that have begun are answered, but not longer.

        Whoever has just been taken in has the time to ask first.
        """
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end and (
            self._coming
            or any(
                connection.is_at_work or connection.is_new(now)
                for connection in self._open.values()
            )
        ):
            await asyncio.sleep(FINISH_LOOK_SECONDS)
        for task in self._coming:
            task.cancel()

    def request_began(self, transport: asyncio.BaseTransport | None) -> None:
        """The head of a request has arrived."""
        connection = None if transport is None else self._open.get(transport)
        if connection is not None:
            connection.request_began()

    def request_ended(self, transport: asyncio.BaseTransport | None) -> None:
        """It has been answered."""
        connection = None if transport is None else self._open.get(transport)
        if connection is not None:
            connection.request_ended()

    def _resume(self) -> None:
        if self._is_accepting or self._is_ending:
            return
        if not self._is_full() or self._least_useful():
            self._is_accepting = True
            loop = asyncio.get_running_loop()
            loop.add_reader(self._listening, self._accept)

    def _pause(self) -> None:
        if self._is_accepting:
            self._is_accepting = False
            asyncio.get_running_loop().remove_reader(self._listening)

    def _is_full(self) -> bool:
        return len(self._open) + len(self._coming) >= max_connections()

    def _accept(self) -> None:
        """Take in some of those that wait, as long as there is room."""
        for _ in range(ACCEPTS_AT_ONCE):
            if self._is_full() and not self._make_room():
                # Others wait until there is room: see `run`, and when one has gone.
                self._complaints.note("as many connections as there may be")
                self._pause()
                return
            try:
                taken, _address = self._listening.accept()
            except BlockingIOError:
                return
            except OSError as e:
                if e.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._complaints.note("no connection can be taken in", e.strerror)
                    self._pause()
                    loop = asyncio.get_running_loop()
                    loop.call_later(RETRY_SECONDS, self._resume)
                    return
                continue  # that one failed before it was taken in
            if taken.fileno() >= _descriptor_limit() - KEPT_DESCRIPTORS:
                taken.close()
                self._complaints.note("no connection can be taken in")
                continue
            task = asyncio.get_running_loop().create_task(self._connect(taken))
            self._coming.add(task)
            task.add_done_callback(self._coming.discard)

    async def _connect(self, taken: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(
                self._make_connection,
                taken,
                ssl=self._tls,
                ssl_handshake_timeout=None if self._tls is None else HEAD_SECONDS,
            )
        except OSError:
            taken.close()

    def _make_connection(self) -> _Connection:
        return _Connection(self._make_protocol(), self._open, self._resume)

    def _make_room(self) -> bool:
        """End the least useful connection, if there is one to spare."""
        connection = self._least_useful()
        if connection is None:
            return False
        connection.abort()
        return True

    def _least_useful(self) -> _Connection | None:
        """The connection that has been without a whole request for longest."""
        until = time.monotonic() - GRACE_SECONDS
        spare = ((c.waiting_since, c) for c in self._open.values())
        found = min(spare, key=lambda pair: pair[0], default=None)
        return found[1] if found is not None and found[0] <= until else None


class _Connection(asyncio.Protocol):
    """Stands between a transport and what speaks HTTP, and looks at the clock."""

    def __init__(
        self,
        inner: asyncio.BaseProtocol,
        register: dict[asyncio.BaseTransport, _Connection],
        on_gone: Callable[[], object],
    ) -> None:
        self._inner = cast(asyncio.Protocol, inner)
        self._register = register
        self._on_gone = on_gone
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self._head_since: float | None = time.monotonic()
        self._waiting_bytes = 0
        self._unread_since = 0.0
        self._idle_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._register[transport] = self
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        if not self._requests and self._head_since is None:
            self._head_since = time.monotonic()
            self._idle_since = None
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._register.pop(self._transport, None)
        self._inner.connection_lost(exc)
        self._on_gone()

    @property
    def is_at_work(self) -> bool:
        """Is there a request that is not answered, or has an answer not been sent?"""
        return bool(self._requests or self._unsent_bytes())

    def is_new(self, now: float) -> bool:
        """Has it been there for a moment only, and asked for nothing so far?"""
        return self._head_since is not None and now - self._head_since < NEW_SECONDS

    def _unsent_bytes(self) -> int:
        """How much waits for the other side."""
        assert self._transport is not None
        try:
            return self._transport.get_write_buffer_size()
        except AttributeError:
            # A transport of TLS cannot tell once it has been closed twice.
            return 0

    @property
    def waiting_since(self) -> float:
        """Since when there has been no whole request; never, if there is one."""
        for since in (self._head_since, self._idle_since):
            if since is not None:
                return since
        return math.inf

    def request_began(self) -> None:
        self._requests += 1
        self._head_since = self._idle_since = None

    def request_ended(self) -> None:
        self._requests -= 1
        if not self._requests:
            self._idle_since = time.monotonic()

    def look(self, now: float) -> None:
        """End it if it has been too slow."""
        waiting = self._unsent_bytes()
        if waiting != self._waiting_bytes or not waiting:
            self._waiting_bytes = waiting
            self._unread_since = now
        if (
            now - self._unread_since > DEAF_SECONDS
            or (self._head_since is not None and now - self._head_since > HEAD_SECONDS)
            or (self._idle_since is not None and now - self._idle_since > IDLE_SECONDS)
        ):
            self.abort()

    def abort(self) -> None:
        """End it at once; it counts as gone from now on."""
        assert self._transport is not None
        self._register.pop(self._transport, None)
        with contextlib.suppress(RuntimeError):
            self._transport.abort()


def max_connections() -> int:
    """How many connections there may be."""
    return min(_descriptor_limit() // SHARE_OF_DESCRIPTORS, MAX_CONNECTIONS)


def _descriptor_limit() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 - 1 if limit == resource.RLIM_INFINITY else limit
