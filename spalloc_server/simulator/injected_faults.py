"""What can go wrong with a simulated frame, for tests."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from spalloc_server.simulator.scp import Result


@dataclass
class PowerFault:
    """Power commands that are not carried out."""

    boards: frozenset[int] | None
    """The fault strikes commands for any of these boards; None: for all."""

    on: bool | None
    """Whether it strikes power-on, power-off or (None) both."""

    result: int | None
    """Result code of the answer; None: there is no answer."""

    times: int | None
    """How many more commands it strikes; None: all."""


@dataclass
class _WrongFPGA:
    board: int
    fpga: int
    times: int | None


class Faults:
    """The faults of a frame: none at first. Any thread may set them at any time.

    :param seed: of the choice of packets that are dropped
    """

    def __init__(self, seed: int = 0) -> None:
        self.dropped_packets = 0.0
        """The share, of 1, of packets lost in each direction."""
        self.silent = False
        """Whether nothing is answered or done, as if the frame had no power."""
        self.delay = 0.0
        """Seconds that every answer is late."""
        self._lock = threading.Lock()
        self._random = random.Random(seed)
        self._power: list[PowerFault] = []
        self._wrong: list[_WrongFPGA] = []

    def fail_power(
        self,
        boards: Iterable[int] | None = None,
        *,
        on: bool | None = None,
        result: int | None = Result.DEAD,
        times: int | None = None,
    ) -> None:
        """Have power commands fail: see `PowerFault` for the parameters."""
        chosen = None if boards is None else frozenset(boards)
        with self._lock:
            self._power.append(PowerFault(chosen, on, result, times))

    def load_wrong_fpga(
        self, board: int, fpga: int = 0, times: int | None = None
    ) -> None:
        """Have an FPGA of a board come up with another's number.

        This happens at the next power-ons of the board, as many times as given, or at
        all of them.
        """
        with self._lock:
            self._wrong.append(_WrongFPGA(board, fpga, times))

    def clear(self) -> None:
        """Mend everything. Boards keep what they have until their next power-on."""
        with self._lock:
            self._power.clear()
            self._wrong.clear()
        self.dropped_packets = 0.0
        self.silent = False
        self.delay = 0.0

    def boards_at_fault(self) -> dict[str, list[int]]:
        """The boards that are going to fail, by what is wrong with them."""
        with self._lock:
            power = {
                board
                for fault in self._power
                if fault.times != 0
                for board in fault.boards or ()
            }
            fpgas = {fault.board for fault in self._wrong if fault.times != 0}
        found = {"power": sorted(power), "FPGAs": sorted(fpgas)}
        return {what: boards for what, boards in found.items() if boards}

    def drops_packet(self) -> bool:
        """Decide whether a packet is lost."""
        with self._lock:
            return self._random.random() < self.dropped_packets

    def take_power_fault(self, on: bool, boards: frozenset[int]) -> PowerFault | None:
        """Give the fault that strikes a power command, if any, and count it."""
        with self._lock:
            for fault in self._power:
                if fault.on not in (None, on) or fault.times == 0:
                    continue
                if fault.boards is None or fault.boards & boards:
                    if fault.times is not None:
                        fault.times -= 1
                    return fault
        return None

    def take_wrong_fpgas(self, board: int) -> set[int]:
        """Give the FPGAs that load wrongly at a power-on of a board, and count it."""
        wrong = set()
        with self._lock:
            for fault in self._wrong:
                if fault.board == board and fault.times != 0:
                    if fault.times is not None:
                        fault.times -= 1
                    wrong.add(fault.fpga)
        return wrong
