"""A server of SCP: one thread for any number of sockets."""

from __future__ import annotations

import contextlib
import heapq
import ipaddress
import itertools
import logging
import selectors
import socket
import threading
import time
from collections.abc import Callable
from typing import Protocol

from spalloc_server.simulator.injected_faults import Faults
from spalloc_server.simulator.scp import Answer, MalformedPacket, Request

logger = logging.getLogger(__name__)

_MAX_DATAGRAM = 2048


class Answering(Protocol):
    """What is behind a socket. The thread of the server calls it."""

    @property
    def faults(self) -> Faults:
        """What goes wrong."""

    def handle(self, request: Request) -> Answer:
        """Take a command and say when and how it is answered."""


class UDPServer:
    """Answers the commands that come to its sockets.

    All methods may be called from any thread.
    """

    def __init__(self, name: str) -> None:
        """Begin without a socket, and without a thread.

        :param name: that of the thread, which is told in logs too
        """
        self._name = name
        self._sockets: set[socket.socket] = set()
        self._selector = selectors.DefaultSelector()
        self._pending: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        self._stopping = False
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to answer commands. This can be done once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, and close all sockets. To be called once."""
        self._stopping = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join()
        self._selector.close()
        for sock in (*self._sockets, self._waker, self._wakened):
            sock.close()

    def add(self, address: tuple[str, int], behind: Answering) -> socket.socket:
        """Open a socket.

        :param address: the IP address and port; port 0 stands for any free one
        :param behind: answers what comes to it
        :raises OSError: if that cannot be
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(address)
            sock.setblocking(False)
        except BaseException:
            sock.close()
            raise
        with self._lock:
            self._sockets.add(sock)
            self._selector.register(sock, selectors.EVENT_READ, behind)
        self._wake()
        return sock

    def remove(self, sock: socket.socket) -> None:
        """Close a socket that was opened here."""
        with self._lock:
            self._sockets.remove(sock)
            self._selector.unregister(sock)
            sock.close()

    def _wake(self) -> None:
        # Where the socket is full, there is more than enough to be wakened by.
        with contextlib.suppress(BlockingIOError):
            self._waker.send(b"\0")

    def _run(self) -> None:
        """Receive commands and send answers that are due, until stopped."""
        while not self._stopping:
            timeout = None
            if self._pending:
                timeout = max(0.0, self._pending[0][0] - time.monotonic())
            for key, _ in self._selector.select(timeout):
                sock = key.fileobj
                assert isinstance(sock, socket.socket)
                if key.data is None:
                    sock.recv(_MAX_DATAGRAM)
                else:
                    self._receive(sock, key.data)
            while self._pending and self._pending[0][0] <= time.monotonic():
                heapq.heappop(self._pending)[-1]()

    def _receive(self, sock: socket.socket, behind: Answering) -> None:
        """Take one datagram; select tells if there are more."""
        try:
            datagram, sender = sock.recvfrom(_MAX_DATAGRAM)
        except OSError as error:
            # An earlier answer found nobody there any more, or the socket was closed.
            logger.debug("%s: %s", self._name, error)
        else:
            self._handle(sock, behind, datagram, sender)

    def _handle(
        self,
        sock: socket.socket,
        behind: Answering,
        datagram: bytes,
        sender: tuple[str, int],
    ) -> None:
        faults = behind.faults
        if faults.silent or faults.drops_packet():
            return
        try:
            request = Request.unpack(datagram)
        except MalformedPacket as error:
            logger.debug("%s: dropped a packet of %s", self._name, error)
            return
        answer = behind.handle(request)

        def send(reply: bytes) -> None:
            try:
                sock.sendto(reply, sender)
            except OSError as error:
                logger.debug("%s: no answer sent: %s", self._name, error)

        def finish() -> None:
            reply = answer.finish()
            if reply is not None and not faults.drops_packet():
                self._later(faults.delay, lambda: send(reply))

        self._later(answer.delay, finish)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a time, or at once. Only for the server's thread."""
        if seconds <= 0:
            action()
        else:
            due = time.monotonic() + seconds
            heapq.heappush(self._pending, (due, next(self._order), action))


def is_loopback(address: str) -> bool:
    """Is this an IPv4 address of loopback, where something can be simulated?"""
    try:
        return ipaddress.IPv4Address(address).is_loopback
    except ValueError:
        return False
