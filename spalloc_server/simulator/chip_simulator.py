"""The server of simulated chips: boards with loopback addresses, while they are on."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Final

from spalloc_server.simulator.chips import Memory, SimulatedChips
from spalloc_server.simulator.scp import SCP_PORT
from spalloc_server.simulator.udp import UDPServer, is_loopback

MAX_MEMORY: Final = 512 * 1024 * 1024
"""How many bytes the chips of all boards remember together. The real ones have 128 MiB
each."""


class ChipSimulator:
    """Stands in for the chips of boards, on this computer only: at port 17893 of the
    loopback address of each board.

    A context manager: started at the beginning, stopped at the end. All methods may be
    called from any thread.
    """

    def __init__(self, max_memory: int = MAX_MEMORY) -> None:
        """Begin without any board.

        :param max_memory: how many bytes chips remember, in all
        """
        self._memory = Memory(max_memory)
        self._boards: dict[str, tuple[SimulatedChips, socket.socket]] = {}
        self._lock = threading.Lock()
        self._server = UDPServer("Chip simulator")

    def __enter__(self) -> ChipSimulator:
        self._server.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.stop()

    @property
    def boards(self) -> dict[str, SimulatedChips]:
        """The chips of the boards that are on, by their addresses."""
        with self._lock:
            return {address: chips for address, (chips, _) in self._boards.items()}

    def switch_on(self, address: str) -> SimulatedChips:
        """Have the chips of a board answer. Those of one that is on forget everything.

        :param address: of the board
        :raises ValueError: if it is no loopback address
        :raises OSError: if that cannot be
        """
        if not is_loopback(address):
            raise ValueError(f"{address} is no loopback address")
        self.switch_off(address)
        chips = SimulatedChips(self._memory)
        with self._lock:
            sock = self._server.add((address, SCP_PORT), chips)
            self._boards[address] = chips, sock
        return chips

    def switch_off(self, address: str) -> None:
        """Have the chips of a board answer no more, and forget everything."""
        with self._lock:
            chips, sock = self._boards.pop(address, (None, None))
            if chips is not None and sock is not None:
                self._server.remove(sock)
                chips.switch_off()
