import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.wire.messages import (
    Command,
    MalformedLineError,
    decode_command,
    encode_message,
)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (
            b'{"command": "f", "args": [1, "a"], "kwargs": {"b": null}}',
            Command("f", [1, "a"], {"b": None}),
        ),
        ('{"command": "f", "args": [], "kwargs": {}}', Command("f", [], {})),
        (b' {"command": "f"}\r', Command("f", [], {})),
        (b'{"command": "\xc3\xa9", "extra": 1}', Command("é", [], {})),
        (b'{"command": "f", "command": "g"}', Command("g", [], {})),
        (b'{"command": "f", "args": [1e999]}', Command("f", [float("inf")], {})),
    ],
)
def test_commands(line: bytes | str, command: Command) -> None:
    assert decode_command(line) == command


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b" ", "not JSON"),
        (b"x", "not JSON"),
        (b'{"command": "f"', "not JSON"),
        (b'{"command": "f"} {}', "not JSON"),
        (b'{"command": "\xff"}', "not UTF-8"),
        (b"[" * 60_000, "nested too deeply|not JSON"),
        (b"1" * 60_000, "not (JSON|a JSON object)"),
        (b"[]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "no command name"),
        (b'{"command": 3}', "no command name"),
        (b'{"command": null, "args": []}', "no command name"),
        (b'{"command": "f", "args": null}', "args is not an array"),
        (b'{"command": "f", "args": {}}', "args is not an array"),
        (b'{"command": "f", "kwargs": []}', "kwargs is not an object"),
        (b'{"command": "f", "kwargs": null}', "kwargs is not an object"),
    ],
)
def test_what_is_no_command_is_an_io_error(line: bytes, problem: str) -> None:
    with pytest.raises(MalformedLineError, match=problem) as caught:
        decode_command(line)
    assert isinstance(caught.value, IOError)


@given(st.binary())
def test_any_bytes_are_a_command_or_malformed(line: bytes) -> None:
    with contextlib.suppress(MalformedLineError):
        decode_command(line)


@given(st.recursive(st.none() | st.text() | st.integers(), st.lists))
def test_messages_are_one_line_each(message: object) -> None:
    line = encode_message(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert json.loads(line) == message


def test_messages_are_compact() -> None:
    assert encode_message({"return": [1, None]}) == b'{"return":[1,null]}\n'
