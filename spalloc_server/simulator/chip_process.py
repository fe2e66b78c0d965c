"""Simulated chips in a process of their own, so that they take no time of the server's.

It is told on its standard input which boards are switched on and off, and ends with it,
so together with whoever has started it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Mapping
from typing import Final, Protocol

from spalloc_server.simulator.udp import is_loopback

logger = logging.getLogger(__name__)

CHILD: Final = (
    "import sys; sys.path[:] = sys.argv[1:]; "
    "from spalloc_server.simulator.chip_server import serve; serve(sys.stdin)"
)

END_SECONDS: Final = 5.0
"""How long the process may take to end before it is killed."""


class MachineLike(Protocol):
    """The part of a `configuration.Machine` that matters here."""

    @property
    def bmp_ips(self) -> Mapping[tuple[int, int], str]:
        """The hostname of the BMP of each (cabinet, frame)."""

    @property
    def board_locations(self) -> Mapping[tuple[int, int, int], tuple[int, int, int]]:
        """The (cabinet, frame, board) of each board (x, y, z)."""

    @property
    def spinnaker_ips(self) -> Mapping[tuple[int, int, int], str]:
        """The hostname of each board (x, y, z)."""


class ConfigurationLike(Protocol):
    """The part of a `configuration.Configuration` that matters here."""

    @property
    def machines(self) -> Iterable[MachineLike]:
        """The machines to serve."""


class ChipProcess:
    """Has the chips of those boards answer that are on, at loopback addresses.

    A board with another address has no chips. All methods may be called from any
    thread; none of them waits for the process, but `close`.
    """

    def __init__(self) -> None:
        """Begin without a process: there is one from the first `serve` on."""
        self._addresses: dict[tuple[str, int], str] = {}
        self._on: dict[tuple[str, int], str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def serve(self, configuration: ConfigurationLike) -> None:
        """Note where the boards of a configuration are, and start the process.

        :raises OSError: if it cannot be started
        """
        addresses, others = {}, 0
        for machine in configuration.machines:
            for board, (cabinet, frame, number) in machine.board_locations.items():
                address = machine.spinnaker_ips[board]
                if is_loopback(address):
                    addresses[machine.bmp_ips[cabinet, frame], number] = address
                else:
                    others += 1
        if others:
            logger.warning(
                "No chips are simulated for %d of %d boards: they have no loopback "
                "address (127.x.y.z)",
                others,
                others + len(addresses),
            )
        with self._lock:
            self._addresses = addresses
            if self._process is None:
                self._start()

    def switch(self, bmp: str, boards: Iterable[int], on: bool) -> None:
        """Boards of a frame were switched on (or once more) or off.

        :param bmp: the hostname of the BMP of the frame
        :param boards: their numbers
        """
        with self._lock:
            for number in boards:
                before = self._on.pop((bmp, number), None)
                if before is not None:
                    self._tell(f"off {before}")
                if on and (address := self._addresses.get((bmp, number))) is not None:
                    self._on[bmp, number] = address
                    self._tell(f"on {address}")

    def close(self) -> None:
        """End the process, if there is one."""
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
        try:
            process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-c", CHILD),
                *(path for path in sys.path if isinstance(path, str)),
            ],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=2,
            # A Ctrl-C is not for it.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)

    def _tell(self, line: str) -> None:
        """Tell the process something; without it there are no chips any more."""
        if self._process is None:
            return
        assert self._process.stdin is not None
        # Short enough to be written in one piece or not at all.
        data = f"{line}\n".encode()
        try:
            if self._process.stdin.write(data) == len(data):
                return
        except OSError:
            pass
        logger.error("The simulator of chips has ended: no chips answer any more")
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process = None
