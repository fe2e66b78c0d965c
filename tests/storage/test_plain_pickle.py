"""No pickle gets anything executed, and only plain data comes out."""

from __future__ import annotations

import builtins
import copyreg
import os
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.controller import Controller
from spalloc_server.plain.shapes import PlainDataError
from spalloc_server.storage.legacy import load_schema_1
from spalloc_server.storage.plain_pickle import PickleRefusedError, load_data

READERS: list[Callable[[bytes], Any]] = [load_data, load_schema_1]


class Evil:
    """Is pickled as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self._call = function, arguments

    def __reduce__(self) -> Any:
        return self._call


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda file: Evil(os.system, f"touch {file}"),
        lambda file: Evil(builtins.eval, f"open({str(file)!r}, 'w')"),
        lambda file: Evil(builtins.exec, f"open({str(file)!r}, 'w')"),
        lambda file: Evil(builtins.open, str(file), "w"),
        lambda file: Evil(subprocess.Popen, ["touch", str(file)]),
        lambda file: Evil(copyreg._reconstructor, Path, object, None),  # type: ignore[attr-defined]
        lambda file: file,
    ],
)
def test_nothing_is_executed(
    tmp_path: Path,
    read: Callable[[bytes], Any],
    protocol: int,
    inside: bool,
    make: Callable[[Path], object],
) -> None:
    file = tmp_path / "made"
    evil: object = make(file)
    if inside:
        evil = {"schema": 2, "jobs": [evil]}
    contents = pickle.dumps(evil, protocol)
    with pytest.raises(PickleRefusedError):
        read(contents)
    assert not file.exists()


def assembled(*opcodes: bytes) -> bytes:
    return b"\x80\x04" + b"".join(opcodes) + b"."


CONTROLLER = b"cspalloc_server.controller\nController\n"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"nonsense",
        pickle.dumps("another type"),
        pickle.dumps({"schema": 2}),
        # Dotted names, which lead on from what is known.
        assembled(b"cspalloc_server.controller\nController.__init__.__globals__\n"),
        assembled(b"cspalloc_server.controller\nController.create_job\n"),
        # The extension registry, and persistent names.
        assembled(b"\x82\x01"),
        assembled(b"Vname\n", b"Q"),
        # The class itself, called with arguments, and without state.
        assembled(CONTROLLER),
        assembled(CONTROLLER, b"(I1\nI2\nt", b"R"),
        assembled(CONTROLLER, b")", b"\x81"),
        # A state that is no dictionary.
        assembled(CONTROLLER, b")", b"\x81", b"I1\n", b"b"),
        # A state for what has none.
        assembled(b"}", b"}", b"b"),
        pickle.dumps({"a": "x" * 100})[:-20],
    ],
)
def test_what_is_no_plain_controller_is_refused(
    read: Callable[[bytes], Any], contents: bytes
) -> None:
    with pytest.raises(PickleRefusedError):
        read(contents)


def test_a_controller_is_pickled_as_plain_data() -> None:
    controller = Controller(next_id=7)
    assert load_data(pickle.dumps(controller)) == controller.__getstate__()


@pytest.mark.parametrize("name", sorted(Controller().__getstate__()))
def test_every_field_that_is_missing_or_wrong_is_an_error_when_loaded(
    name: str,
) -> None:
    good = Controller().__getstate__()
    wrong: list[dict[str, Any]] = [
        {key: value for key, value in good.items() if key != name},
        {**good, "unknown": 1},
        {**good, name: None},
        {**good, name: object()},
        {**good, name: True},
    ]
    for state in wrong:
        with pytest.raises(PlainDataError):
            Controller.restored(state)
