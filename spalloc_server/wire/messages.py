"""JSON messages of the wire: the one place where bytes become text and back."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, NamedTuple

import six

REPEATED_LINE_BYTES: Final = 128
"""Lines up to this length are remembered: clients ask the same again and again."""


@dataclass(slots=True)
class Command:
    """A command as a client sent it. Its name and arguments are not checked yet.

    Not to be changed: it may be handed out again for the next such line.
    """

    name: str
    args: list[Any]
    kwargs: dict[str, Any]


class LongReply(NamedTuple):
    """A reply that is made piece by piece, as its client takes it."""

    pieces: Iterator[bytes]
    kept_bytes: int
    """About how much has to be kept until it is made, in bytes."""


class MalformedLineError(IOError):
    """A line is not a JSON object that has the form of a command."""


def decode_command(line: bytes | str) -> Command:
    """Read one line. Missing ``args`` and ``kwargs`` are empty.

    :raises MalformedLineError: saying what is wrong with the line
    """
    if len(line) <= REPEATED_LINE_BYTES:
        return _decode_repeated(line)
    return _decode(line)


def _decode(line: bytes | str) -> Command:
    try:
        message = json.loads(six.ensure_text(line))
    except UnicodeDecodeError as e:
        raise MalformedLineError(f"not UTF-8: {e.reason}") from e
    except RecursionError as e:
        raise MalformedLineError("nested too deeply") from e
    except ValueError as e:
        raise MalformedLineError(f"not JSON: {e}") from e
    if not isinstance(message, dict):
        raise MalformedLineError("not a JSON object")
    name = message.get("command")
    if not isinstance(name, str):
        raise MalformedLineError("no command name given")
    args = message.get("args", [])
    if not isinstance(args, list):
        raise MalformedLineError("args is not an array")
    kwargs = message.get("kwargs", {})
    if not isinstance(kwargs, dict):
        raise MalformedLineError("kwargs is not an object")
    return Command(name, args, kwargs)


_decode_repeated = lru_cache(4096)(_decode)

to_json: Final = json.JSONEncoder(separators=(",", ":")).encode
"""Writes a value as it stands in messages."""

quoted: Final = json.encoder.encode_basestring_ascii
"""Does the same for a string, in less time."""


def encode_message(message: object) -> bytes:
    """Write one message as a line, its newline included."""
    return to_json(message).encode() + b"\n"


NOTHING_RETURNED: Final = encode_message({"return": None})
"""The reply, encoded, to a command that returns nothing."""


def encode_return(returned: object) -> bytes:
    """Write the reply to a command that has returned something."""
    if type(returned) is int:
        # As jobs are created: without the encoder, which takes longer to set up.
        return b'{"return":%d}\n' % returned
    return encode_message({"return": returned})
