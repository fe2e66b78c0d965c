"""The server of simulated BMPs: one thread for any number of frames."""

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
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.simulator.frame import SimulatedFrame
from spalloc_server.simulator.scp import SCP_PORT, MalformedPacket, Request

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

_MAX_DATAGRAM = 2048


class MachineLike(Protocol):
    """The part of a `configuration.Machine` that matters here."""

    @property
    def bmp_ips(self) -> Mapping[tuple[int, int], str]:
        """The hostname of the BMP of each (cabinet, frame)."""


class ConfigurationLike(Protocol):
    """The part of a `configuration.Configuration` that matters here."""

    @property
    def machines(self) -> Iterable[MachineLike]:
        """The machines to serve."""


class BMPSimulator:
    """Stands in for the BMPs of any number of frames, on this computer only.

    Each frame is served at an address of its own, which is registered in
    `bmp_directory` with no settling wait until the simulator is stopped: at port 17893
    of the host itself if that is a loopback address (or ``localhost``), else at a free
    port of 127.0.0.1. Hostnames are never looked up.

    A context manager: started at the beginning, stopped at the end. All methods may be
    called from any thread.
    """

    def __init__(self) -> None:
        self._frames: dict[str, SimulatedFrame] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._sockets: list[socket.socket] = []
        self._lock = threading.RLock()
        self._selector = selectors.DefaultSelector()
        self._pending: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._waker, self._wakened = socket.socketpair()
        self._waker.setblocking(False)
        self._wakened.setblocking(False)
        self._selector.register(self._wakened, selectors.EVENT_READ, None)
        self._stopping = False
        self._thread = threading.Thread(
            target=self._run, name="BMP simulator", daemon=True
        )

    def __enter__(self) -> BMPSimulator:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to answer commands. A simulator can be started once."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread, close all sockets and take the frames from the directory.

        Only the first call does anything.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        if self._thread.is_alive():
            self._wake()
            self._thread.join()
        for hostname in self._frames:
            directory.forget(hostname)
        self._selector.close()
        for sock in (*self._sockets, self._waker, self._wakened):
            sock.close()

    @property
    def frames(self) -> dict[str, SimulatedFrame]:
        """The frames by the hostname of their BMP."""
        with self._lock:
            return dict(self._frames)

    def address(self, hostname: str) -> tuple[str, int]:
        """Give the (IP address, port) where a frame is served."""
        with self._lock:
            return self._addresses[hostname]

    def serve(self, configuration: ConfigurationLike) -> None:
        """Add every frame of a configuration that is not there already.

        Machines that name the same BMP share the frame. Frames that the configuration
        has no longer stay, because their boards may still have to be powered off.

        :raises OSError: if the address of a BMP cannot be bound; the message names it
        """
        for machine in configuration.machines:
            for (cabinet, frame), hostname in machine.bmp_ips.items():
                if hostname not in self.frames:
                    self.add_frame(hostname, cabinet, frame)

    def add_frame(
        self,
        hostname: str,
        cabinet: int = 0,
        frame: int = 0,
        *,
        settle_seconds: float = 0.0,
    ) -> SimulatedFrame:
        """Add the frame of one BMP and serve it; see `serve` for the errors.

        :param hostname: the BMP, as the configuration names it
        :param cabinet: its position, which the BMP tells
        :param frame: see ``cabinet``
        :param settle_seconds: how long users of the directory are told to wait after a
            power-on
        """
        address = _address_for(hostname)
        simulated = SimulatedFrame(cabinet, frame)
        with self._lock:
            if hostname in self._frames:
                raise ValueError(f"BMP {hostname} is there already")
            # Two spellings of one address, such as localhost and 127.0.0.1.
            for other, served in self._addresses.items():
                if served == address:
                    simulated = self._frames[other]
                    break
            else:
                address = self._open(hostname, address, simulated)
            self._frames[hostname] = simulated
            self._addresses[hostname] = address
        directory.register(hostname, BMPAddress(*address, settle_seconds))
        logger.info("Simulating BMP %s at %s port %d", hostname, *address)
        return simulated

    def _open(
        self, hostname: str, address: tuple[str, int], frame: SimulatedFrame
    ) -> tuple[str, int]:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            sock.bind(address)
        except OSError as error:
            sock.close()
            raise OSError(
                error.errno,
                f"cannot simulate BMP {hostname} at {address[0]} port {address[1]}: "
                f"{error.strerror}",
            ) from error
        sock.setblocking(False)
        self._sockets.append(sock)
        self._selector.register(sock, selectors.EVENT_READ, frame)
        self._wake()
        host, port = sock.getsockname()
        return host, port

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

    def _receive(self, sock: socket.socket, frame: SimulatedFrame) -> None:
        """Take one datagram for a frame; select tells if there are more."""
        try:
            datagram, sender = sock.recvfrom(_MAX_DATAGRAM)
        except OSError as error:
            # An earlier answer found nobody there any more.
            logger.debug("Simulated BMP: %s", error)
        else:
            self._handle(sock, frame, datagram, sender)

    def _handle(
        self,
        sock: socket.socket,
        frame: SimulatedFrame,
        datagram: bytes,
        sender: tuple[str, int],
    ) -> None:
        faults = frame.faults
        if faults.silent or faults.drops_packet():
            return
        try:
            request = Request.unpack(datagram)
        except MalformedPacket as error:
            logger.debug("Simulated BMP: dropped a packet of %s", error)
            return
        answer = frame.handle(request)

        def send(reply: bytes) -> None:
            try:
                sock.sendto(reply, sender)
            except OSError as error:
                logger.debug("Simulated BMP: no answer sent: %s", error)

        def finish() -> None:
            reply = answer.finish()
            if reply is not None and not faults.drops_packet():
                self._later(faults.delay, lambda: send(reply))

        self._later(answer.delay, finish)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a time, or at once. Only for the simulator's thread."""
        if seconds <= 0:
            action()
        else:
            due = time.monotonic() + seconds
            heapq.heappush(self._pending, (due, next(self._order), action))


def _address_for(hostname: str) -> tuple[str, int]:
    """Choose where a BMP is served; port 0 stands for any free port."""
    if hostname == "localhost":
        return LOOPBACK, SCP_PORT
    try:
        address = ipaddress.IPv4Address(hostname)
    except ValueError:
        return LOOPBACK, 0
    return (hostname, SCP_PORT) if address.is_loopback else (LOOPBACK, 0)
