"""The server of simulated BMPs: one thread for any number of frames."""

from __future__ import annotations

import functools
import ipaddress
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Protocol

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.simulator.frame import SimulatedFrame
from spalloc_server.simulator.scp import SCP_PORT
from spalloc_server.simulator.udp import UDPServer

logger = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"


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

    def __init__(
        self,
        on_power: Callable[[str, frozenset[int], bool], object] | None = None,
    ) -> None:
        """Begin without a frame.

        :param on_power: told the hostname of a BMP, which of its boards were switched,
            and whether on or off; in the thread of the simulator
        """
        self._on_power = on_power
        self._frames: dict[str, SimulatedFrame] = {}
        self._addresses: dict[str, tuple[str, int]] = {}
        self._lock = threading.RLock()
        self._server = UDPServer("BMP simulator")
        self._stopping = False

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
        self._server.start()

    def stop(self) -> None:
        """End the thread, close all sockets and take the frames from the directory.

        Only the first call does anything.
        """
        with self._lock:
            if self._stopping:
                return
            self._stopping = True
        self._server.stop()
        for hostname in self._frames:
            directory.forget(hostname)

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
            if self._on_power is not None:
                tell = functools.partial(self._on_power, hostname)
                simulated.on_power.append(tell)
            self._frames[hostname] = simulated
            self._addresses[hostname] = address
        directory.register(hostname, BMPAddress(*address, settle_seconds))
        logger.info("Simulating BMP %s at %s port %d", hostname, *address)
        return simulated

    def _open(
        self, hostname: str, address: tuple[str, int], frame: SimulatedFrame
    ) -> tuple[str, int]:
        try:
            sock = self._server.add(address, frame)
        except OSError as error:
            raise OSError(
                error.errno,
                f"cannot simulate BMP {hostname} at {address[0]} port {address[1]}: "
                f"{error.strerror}",
            ) from error
        host, port = sock.getsockname()
        return host, port


def _address_for(hostname: str) -> tuple[str, int]:
    """Choose where a BMP is served; port 0 stands for any free port."""
    if hostname == "localhost":
        return LOOPBACK, SCP_PORT
    try:
        address = ipaddress.IPv4Address(hostname)
    except ValueError:
        return LOOPBACK, 0
    return (hostname, SCP_PORT) if address.is_loopback else (LOOPBACK, 0)
