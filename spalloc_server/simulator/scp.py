"""SCP, the command protocol of SpiNNaker, as it travels in UDP datagrams.

A datagram is two bytes of padding, the eight bytes of the SDP header and then SCP:
command (or result code) and sequence number, up to three arguments, and data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

SCP_PORT = 17893
"""UDP port of BMPs, and of boards."""

SCP_DATA_BYTES = 256
"""The most data bytes in a command or reply."""

REPLY_FLAGS = 0x07
"""SDP flags of a datagram that wants no reply, as replies themselves do not."""

REPLY_EXPECTED = 0x80
"""Bit of the SDP flags that asks for a reply."""

CPU_MASK = 0x1F
"""Bits of the byte of SDP port and CPU with the CPU, which for BMPs is the board."""

_HEADER = struct.Struct("<2x8B2H")
_ARGUMENTS = struct.Struct("<3I")


class Command(IntEnum):
    """The commands that a BMP or, of its own, a chip knows."""

    VERSION = 0
    READ = 2
    WRITE = 3
    FPGA_READ = 17
    FPGA_WRITE = 18
    LED = 25
    ROUTER = 29
    BMP_INFO = 48
    POWER = 57


class Result(IntEnum):
    """The result codes that the simulator uses."""

    OK = 0x80
    BAD_LENGTH = 0x81
    BAD_COMMAND = 0x83
    BAD_ARGUMENT = 0x84
    NO_ROUTE = 0x87
    BAD_CPU = 0x88
    DEAD = 0x89
    """Something that the BMP needs for the command does not work."""
    NO_BUFFER = 0x8A


class LEDAction(IntEnum):
    """What to do with an LED: two bits for each in the argument of the LED command."""

    NONE = 0
    TOGGLE = 1
    OFF = 2
    ON = 3


class MalformedPacket(Exception):
    """A datagram is too short for the headers, so no reply is possible."""


@dataclass(frozen=True)
class Request:
    """A command to a board's BMP, or to a chip."""

    board: int
    """The board; to a chip, the number of the processor."""
    command: int
    sequence: int
    arguments: tuple[int, int, int] | None
    """None if the datagram was too short to hold them."""
    data: bytes
    reply_expected: bool
    header: tuple[int, ...]
    """The bytes of the SDP header, for the reply."""

    @property
    def chip(self) -> tuple[int, int]:
        """The chip that it is for; BMPs do not look at that."""
        return self.header[5], self.header[4]

    @classmethod
    def unpack(cls, datagram: bytes) -> Request:
        """Take a datagram apart.

        :raises MalformedPacket: if that fails
        """
        if len(datagram) < _HEADER.size:
            raise MalformedPacket(f"{len(datagram)} bytes")
        *header, command, sequence = _HEADER.unpack_from(datagram)
        body = datagram[_HEADER.size :]
        complete = len(body) >= _ARGUMENTS.size
        return cls(
            board=header[2] & CPU_MASK,
            command=command,
            sequence=sequence,
            arguments=_ARGUMENTS.unpack_from(body) if complete else None,
            data=body[_ARGUMENTS.size :],
            reply_expected=bool(header[0] & REPLY_EXPECTED),
            header=tuple(header),
        )

    def reply(self, result: int, payload: bytes = b"") -> bytes:
        """Make the datagram of a reply; the payload follows the sequence number."""
        (_, tag, to_cpu, from_cpu, to_y, to_x, from_y, from_x) = self.header
        return (
            _HEADER.pack(
                REPLY_FLAGS,
                tag,
                from_cpu,
                to_cpu,
                from_y,
                from_x,
                to_y,
                to_x,
                result,
                self.sequence,
            )
            + payload
        )

    def answer(self, result: int, payload: bytes = b"") -> bytes | None:
        """The datagram of a reply, None if none is wanted."""
        return self.reply(result, payload) if self.reply_expected else None


class Answer(NamedTuple):
    """What is to follow a command."""

    delay: float
    """Seconds until then."""

    finish: Callable[[], bytes | None]
    """Makes the change and gives the datagram to send back, if any."""


def answer_now(request: Request, result: int, payload: bytes = b"") -> Answer:
    """Answer a command at once."""
    reply = request.answer(result, payload)
    return Answer(0.0, lambda: reply)


def version_payload(
    location: tuple[int, int, int],
    version: tuple[int, int, int],
    name: str = "BC&MP/Spin5-BMP",
    build_date: int = 0,
) -> bytes:
    """Make the reply to the version command of a board at (cabinet, frame, board).

    Versions before 2 are a decimal number in the reply. Later ones put 0xFFFF in its
    place and the version in the text, after the name.
    """
    cabinet, frame, board = location
    place = cabinet << 24 | frame << 16 | board << 8 | board
    major, minor, patch = version
    if major < 2:
        number = major * 100 + minor
        text = f"{name}\0"
    else:
        number = 0xFFFF
        text = f"{name}\0{major}.{minor}.{patch}\0"
    arguments = _ARGUMENTS.pack(place, number << 16 | SCP_DATA_BYTES, build_date)
    return arguments + text.encode("ascii")
