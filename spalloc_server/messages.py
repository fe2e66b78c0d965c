"""JSON messages of the wire: the one place where bytes become text and back."""

import json
from typing import Any, NamedTuple

import six


class Command(NamedTuple):
    """A command as a client sent it. Its name and arguments are not checked yet."""

    name: str
    args: list[Any]
    kwargs: dict[str, Any]


class MalformedLineError(IOError):
    """A line is not a JSON object that has the form of a command."""


def decode_command(line: bytes | str) -> Command:
    """Read one line. Missing ``args`` and ``kwargs`` are empty.

    Raises :py:exc:`MalformedLineError` saying what is wrong with the line.
    """
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


def encode_message(message: object) -> bytes:
    """Write one message as a line, its newline included."""
    line: bytes = six.ensure_binary(json.dumps(message, separators=(",", ":")))
    return line + b"\n"
