"""What stands in for boards with chips: SCAMP's memory and routers, over real UDP."""

import random
import struct
from collections import Counter

from tests.gateway.boards import UDPThread

SCP_PORT = 17893
VERSION, READ, WRITE, ROUTER = 0, 2, 3, 29
OK, BAD_COMMAND, NO_ROUTE = 0x80, 0x83, 0x87

Chip = tuple[int, int]


class Chips(UDPThread):
    """The board with the Ethernet chip of a job's board; it knows the other chips."""

    def __init__(self, address: str, seed: int = 1) -> None:
        self.memory: dict[Chip, dict[int, int]] = {}
        """Byte by byte, of each chip that was written to."""
        self.cleared: Counter[Chip] = Counter()
        """How often the routes of chips were cleared."""
        self.dead: set[Chip] = set()
        self.lose = 0.0
        """The share of packets, in both directions, that get lost."""
        self.is_silent = False
        self.asked = 0
        self.most_under_way = 0
        self._random = random.Random(seed)
        super().__init__(address, SCP_PORT)

    def reply_to(self, data: bytes, _sender: tuple[str, int]) -> bytes | None:
        if self.is_silent or self._random.random() < self.lose:
            return None
        reply = self._answer(data)
        return reply if self._random.random() >= self.lose else None

    def _answer(self, packet: bytes) -> bytes:
        self.asked += 1
        flags, tag, to, sender, y, x, from_y, from_x = packet[2:10]
        assert (flags, tag, to, sender, from_x, from_y) == (0x87, 255, 0, 255, 0, 0)
        command, sequence = struct.unpack_from("<2H", packet, 10)
        address, size, unit = struct.unpack_from("<3I", packet, 14)
        chip, data, result = (x, y), b"", OK
        memory = self.memory.setdefault(chip, {})
        if chip in self.dead:
            result = NO_ROUTE
        elif command in (READ, WRITE):
            assert 0 < size <= 256
            assert (address | size) % (1 << unit) == 0
            if command == WRITE:
                assert len(packet) == 26 + size
                memory.update(
                    zip(range(address, address + size), packet[26:], strict=True)
                )
            else:
                data = bytes(memory.get(address + i, 0) for i in range(size))
        elif command == ROUTER:
            self.cleared[chip] += 1
        else:
            result = BAD_COMMAND
        header = bytes([0, 0, 7, tag, sender, to, from_y, from_x, y, x])
        return header + struct.pack("<2H", result, sequence) + data

    def word(self, chip: Chip, address: int) -> int:
        """A word of a chip's memory."""
        memory = self.memory[chip]
        data = bytes(memory[address + i] for i in range(4))
        return int.from_bytes(data, "little")
