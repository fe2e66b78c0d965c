"""Memory and routers of chips, by SCP: many packets under way, lost ones sent again."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import struct
from enum import IntEnum
from typing import Final

from spalloc_server_gateway.channels import Channel

SCP_PORT: Final = 17893
"""UDP port of SCAMP on every board."""

PIECE_BYTES: Final = 256
"""The most data in a packet."""

WINDOW: Final = 8
"""How many packets to a board are under way at most."""

REPLY_SECONDS: Final = 0.5
"""After how long a packet counts as lost."""

TRIES: Final = 6
"""How often a packet is sent before the chip is given up."""

_PACKET = struct.Struct("<2x8B2H3I")
_REPLY = struct.Struct("<2x8B2H")

_REPLY_EXPECTED: Final = 0x87
_NO_TAG: Final = 0xFF
_FROM_HOST: Final = 0xFF
"""Port 7 of processor 31, which stand for the host."""


class Command(IntEnum):
    """What SCAMP is asked for."""

    READ = 2
    WRITE = 3
    ROUTER = 29


class Result(IntEnum):
    """What SCAMP answers."""

    OK = 0x80
    BAD_LENGTH = 0x81
    TIMEOUT = 0x86
    NO_ROUTE = 0x87
    DEAD = 0x89
    NO_BUFFER = 0x8A
    NO_REPLY = 0x8B
    REJECTED = 0x8C
    BUSY = 0x8D
    CHIP_TIMEOUT = 0x8E


_TRY_AGAIN: Final = {
    *(Result.BAD_LENGTH, Result.TIMEOUT, Result.NO_BUFFER, Result.NO_REPLY),
    *(Result.REJECTED, Result.BUSY, Result.CHIP_TIMEOUT),
}
"""Answers that have to do with the traffic on the machine."""

_NOT_THERE: Final = {Result.NO_ROUTE, Result.DEAD, Result.NO_REPLY, Result.CHIP_TIMEOUT}


class SCPError(Exception):
    """A chip has not done what it was asked for; the message says why."""


class NoChipError(SCPError):
    """There is no such chip, or it is dead."""


class Board:
    """Talks to the chips of a job, by the Ethernet chip of one of its boards. For one
    event loop.
    """

    def __init__(self, address: str, port: int = SCP_PORT) -> None:
        """Open a socket to the board.

        :param address: its IP address
        :raises OSError: if that cannot be
        """
        self._channel = Channel(self._receive, to=(address, port))
        self._sequence = itertools.cycle(range(0x10000))
        self._replies: dict[int, asyncio.Future[tuple[int, bytes]]] = {}
        self._places = asyncio.Semaphore(WINDOW)
        self._is_closed = False

    def close(self) -> None:
        """Send nothing any more; who waits for a reply is told."""
        self._is_closed = True
        self._channel.close()
        for reply in self._replies.values():
            if not reply.done():
                reply.set_exception(SCPError("the job has other boards now"))

    async def read(self, chip: tuple[int, int], address: int, size: int) -> bytes:
        """Read memory, of one piece at most.

        :raises SCPError: if that fails
        """
        unit = _unit(address, size)
        data = await self._ask(chip, Command.READ, (address, size, unit))
        if len(data) < size:
            raise SCPError(f"chip {chip} has sent {len(data)} bytes instead of {size}")
        return data[:size]

    async def write(self, chip: tuple[int, int], address: int, data: bytes) -> None:
        """Write memory, of one piece at most.

        :raises SCPError: if that fails
        """
        arguments = address, len(data), _unit(address, len(data))
        await self._ask(chip, Command.WRITE, arguments, data)

    async def clear_routes(self, chip: tuple[int, int]) -> None:
        """Remove all multicast routes of a chip.

        :raises SCPError: if that fails
        """
        await self._ask(chip, Command.ROUTER, (0, 0, 0))

    async def _ask(
        self,
        chip: tuple[int, int],
        command: Command,
        arguments: tuple[int, int, int],
        data: bytes = b"",
    ) -> bytes:
        """Send a packet until it is answered.

        :return: the data of the reply
        """
        result = None
        async with self._places:
            for _ in range(TRIES):
                if self._is_closed:
                    raise SCPError("the job has other boards now")
                try:
                    result, payload = await self._try(chip, command, arguments, data)
                except asyncio.TimeoutError:
                    continue
                if result == Result.OK:
                    return payload
                if result not in _TRY_AGAIN:
                    break
                await asyncio.sleep(0.01)
        if result is None:
            raise SCPError(f"chip {chip} does not answer")
        problem = f"chip {chip} answers {command.name.lower()} with {_name(result)}"
        raise NoChipError(problem) if result in _NOT_THERE else SCPError(problem)

    async def _try(
        self,
        chip: tuple[int, int],
        command: Command,
        arguments: tuple[int, int, int],
        data: bytes,
    ) -> tuple[int, bytes]:
        sequence = next(self._sequence)
        x, y = chip
        to = (0, _FROM_HOST, y, x, 0, 0)
        packet = _PACKET.pack(
            _REPLY_EXPECTED, _NO_TAG, *to, command, sequence, *arguments
        )
        reply = asyncio.get_running_loop().create_future()
        self._replies[sequence] = reply
        try:
            self._channel.send(packet + data)
            return await asyncio.wait_for(reply, REPLY_SECONDS)
        finally:
            self._replies.pop(sequence, None)

    def _receive(self, packet: bytes) -> None:
        if len(packet) < _REPLY.size:
            return
        *_header, result, sequence = _REPLY.unpack_from(packet)
        reply = self._replies.get(sequence)
        if reply is not None and not reply.done():
            reply.set_result((result, packet[_REPLY.size :]))


def _unit(address: int, size: int) -> int:
    """In which units memory is read or written: 0 for bytes, 1 half words, 2 words."""
    both = address | size
    return 2 if both % 4 == 0 else 1 if both % 2 == 0 else 0


def _name(result: int) -> str:
    with contextlib.suppress(ValueError):
        return Result(result).name
    return f"{result:#x}"


def on_board(chip: tuple[int, int]) -> bool:
    """Is a chip, numbered from its Ethernet chip, on a board of 48 chips?"""
    x, y = chip
    return 0 <= x < 8 and 0 <= y < 8 and -3 <= x - y <= 4
