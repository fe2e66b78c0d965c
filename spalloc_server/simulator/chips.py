"""Simulated chips of a board: SCAMP's memory and routers, as far as SCP shows them."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from typing import Final

from spalloc_server.simulator.injected_faults import Faults
from spalloc_server.simulator.scp import (
    SCP_DATA_BYTES,
    Answer,
    Command,
    Request,
    Result,
    answer_now,
    version_payload,
)

VERSION: Final = (4, 0, 0)
NAME: Final = "SC&MP/SpiNNaker"
"""What SCAMP says of itself."""

CHIP_OF_BOARD: Final = (255, 255)
"""Stands for the chip that has the Ethernet socket, wherever it is."""

PAGE_BYTES: Final = 4096
MEMORY_END: Final = 2**32

CLEAR_ROUTES: Final = 0
LOAD_ROUTES: Final = 2
"""What the router is to do, in the first byte of the first argument."""

Chip = tuple[int, int]
"""x and y, as seen by whoever sends the packet."""


class Memory:
    """Memory for any number of chips, so much that is written to; the rest is zero.

    All methods may be called from any thread.
    """

    def __init__(self, limit: int) -> None:
        """Begin with zeros everywhere.

        :param limit: how many bytes there may be that are more than that; counted in
            pages of `PAGE_BYTES`
        """
        self._free = limit // PAGE_BYTES
        self._lock = threading.Lock()
        self._pages: dict[tuple[object, int], bytearray] = {}

    def read(self, chip: object, address: int, size: int) -> bytes:
        """Give what is in the memory of a chip."""
        data = bytearray()
        with self._lock:
            while size:
                number, start = divmod(address, PAGE_BYTES)
                end = min(start + size, PAGE_BYTES)
                page = self._pages.get((chip, number))
                data += bytes(end - start) if page is None else page[start:end]
                address, size = address + end - start, size - (end - start)
        return bytes(data)

    def write(self, chip: object, address: int, data: bytes) -> bool:
        """Write, if there is room for it: was there?"""
        with self._lock:
            while data:
                number, start = divmod(address, PAGE_BYTES)
                piece = data[: PAGE_BYTES - start]
                page = self._pages.get((chip, number))
                if page is None:
                    if not self._free:
                        return False
                    self._free -= 1
                    page = self._pages[chip, number] = bytearray(PAGE_BYTES)
                page[start : start + len(piece)] = piece
                address, data = address + len(piece), data[len(piece) :]
        return True

    def forget(self, is_meant: Callable[[object], bool]) -> None:
        """Have the memory of some chips be zeros again."""
        with self._lock:
            gone = [key for key in self._pages if is_meant(key[0])]
            for key in gone:
                del self._pages[key]
            self._free += len(gone)


class SimulatedChips:
    """The chips that are reached by the Ethernet socket of one board, all of them by
    processor 0, which runs SCAMP.

    Which chips these are depends on how a job counts them, and that is not known here:
    so there are as many as packets can name, and each board has its own. Memory has no
    gaps, and is not lost but by power.

    Commands come from one thread. The other attributes may be used from any.
    """

    def __init__(self, memory: Memory) -> None:
        """Begin with chips that nothing was written to.

        :param memory: shared with other boards
        """
        self.faults = Faults()
        """What goes wrong; those of power do not count here."""
        self.dead_chips: set[Chip] = set()
        """Chips that no packet reaches."""
        self.routes: Counter[Chip] = Counter()
        """How many routes chips have."""
        self.cleared: Counter[Chip] = Counter()
        """How often the routes of chips were cleared."""
        self.written: set[Chip] = set()
        """Chips that were written to."""
        self.commands = 0
        """How many commands have come, with retransmissions."""
        self._memory = memory

    def switch_off(self) -> None:
        """Forget all that was written."""
        self._memory.forget(lambda key: isinstance(key, tuple) and key[0] is self)

    def read(self, chip: Chip, address: int, size: int) -> bytes:
        """Give what is in the memory of a chip."""
        return self._memory.read((self, chip), address, size)

    def handle(self, request: Request) -> Answer:
        """Take a command and say when and how it is answered."""
        self.commands += 1
        result, payload = self._answer(request)
        return answer_now(request, result, payload)

    def _answer(self, request: Request) -> tuple[int, bytes]:
        chip = (0, 0) if request.chip == CHIP_OF_BOARD else request.chip
        if request.arguments is None:
            return Result.BAD_LENGTH, b""
        if chip in self.dead_chips:
            return Result.NO_ROUTE, b""
        if request.board:
            return Result.BAD_CPU, b""
        if request.command == Command.VERSION:
            return Result.OK, version_payload((*chip, 0), VERSION, NAME)
        if request.command in (Command.READ, Command.WRITE):
            return self._access(request, chip, *request.arguments)
        if request.command == Command.ROUTER:
            return self._set_routes(chip, request.arguments[0]), b""
        return Result.BAD_COMMAND, b""

    def _access(
        self, request: Request, chip: Chip, address: int, size: int, unit: int
    ) -> tuple[int, bytes]:
        """Read or write memory, in units of bytes (0), half words (1) or words (2)."""
        if (
            not 0 < size <= SCP_DATA_BYTES
            or unit > 2
            or (address | size) % (1 << unit)
            or address + size > MEMORY_END
        ):
            return Result.BAD_ARGUMENT, b""
        key = (self, chip)
        if request.command == Command.READ:
            return Result.OK, self._memory.read(key, address, size)
        if len(request.data) < size:
            return Result.BAD_LENGTH, b""
        if not self._memory.write(key, address, request.data[:size]):
            return Result.NO_BUFFER, b""
        self.written.add(chip)
        return Result.OK, b""

    def _set_routes(self, chip: Chip, what: int) -> Result:
        """Clear the routes of a chip, or have it take some."""
        if what & 0xFF == CLEAR_ROUTES:
            del self.routes[chip]
            self.cleared[chip] += 1
        elif what & 0xFF == LOAD_ROUTES:
            self.routes[chip] += what >> 16
        else:
            return Result.BAD_ARGUMENT
        return Result.OK
