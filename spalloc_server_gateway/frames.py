"""The binary frames that go over a proxy's WebSocket. No network in here.

All numbers are unsigned words of 32 bits, least byte first.
"""

from __future__ import annotations

import ipaddress
import struct
from enum import IntEnum
from typing import Final

MAX_PAYLOAD: Final = 64 * 1024
"""The longest UDP payload there can be, in bytes, and a little more."""

LONGEST_ERROR: Final = 1000
"""In bytes."""

_WORDS: Final = tuple(struct.Struct(f"<{n}I") for n in range(6))
_HEAD = struct.Struct("<II")
_UNBOUND = struct.Struct("<III4sI")


class Op(IntEnum):
    """What a frame is for."""

    OPEN = 0
    CLOSE = 1
    MESSAGE = 2
    OPEN_UNBOUND = 3
    MESSAGE_TO = 4
    ERROR = 5


CALLS: Final = {Op.OPEN: 5, Op.CLOSE: 3, Op.OPEN_UNBOUND: 2}
"""Frames that are answered, and of how many words they are."""

MESSAGE_BYTES: Final = _HEAD.size
MESSAGE_TO_BYTES: Final = _WORDS[5].size
"""How much of a frame is before the payload."""


def words(frame: bytes, number: int) -> tuple[int, ...]:
    """The first words of a frame that has that many."""
    return _WORDS[number].unpack_from(frame)


def reply(op: Op, correlation: int, handle: int) -> bytes:
    """The answer to `Op.OPEN` and `Op.CLOSE`."""
    return _WORDS[3].pack(op, correlation, handle)


def unbound_reply(correlation: int, handle: int, address: str, port: int) -> bytes:
    """The answer to `Op.OPEN_UNBOUND`.

    :param address: of our end, an IPv4 address
    """
    packed = ipaddress.IPv4Address(address).packed
    return _UNBOUND.pack(Op.OPEN_UNBOUND, correlation, handle, packed, port)


def error(correlation: int, text: str) -> bytes:
    """The answer to a call that fails."""
    return _HEAD.pack(Op.ERROR, correlation) + text.encode()[:LONGEST_ERROR]


def message(handle: int, payload: bytes) -> bytes:
    """What has come from a board."""
    return _HEAD.pack(Op.MESSAGE, handle) + payload
