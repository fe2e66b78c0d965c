"""Documents as JSON, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

DEPTH: Final = 4
"""Down to here containers are taken apart: to the boards of the machines of a list."""

_ENCODER: Final = json.JSONEncoder(separators=(",", ":"))


def encode(document: Any) -> bytes:
    """Encode a document.

    While the json module encodes something, no other thread of the process runs; the
    server's loop would notice the time that 1,200 boards take.
    """
    return "".join(_pieces(document, DEPTH)).encode()


def _pieces(document: Any, depth: int) -> Iterator[str]:
    if depth and document and isinstance(document, dict):
        start = "{"
        for key, value in document.items():
            yield f"{start}{_ENCODER.encode(str(key))}:"
            yield from _pieces(value, depth - 1)
            start = ","
        yield "}"
    elif depth and document and isinstance(document, (list, tuple)):
        start = "["
        for value in document:
            yield start
            yield from _pieces(value, depth - 1)
            start = ","
        yield "]"
    else:
        yield _ENCODER.encode(document)
