"""Read a pickled `Controller` without executing anything that the file says.

A pickle names classes and has them called. Here one name alone is known, that of the
controller, and even that leads to something that only holds its data.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Final

_CONTROLLER: Final = ("spalloc_server.controller", "Controller")


class PickleRefusedError(Exception):
    """The pickle is no plain data; the message says why."""


class _Kept:
    """Stands in for the controller: holds what is to become its state."""

    __slots__ = ("data",)

    def __new__(cls) -> _Kept:
        kept = super().__new__(cls)
        kept.data = None
        return kept

    def __setstate__(self, data: Any) -> None:
        self.data = data


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == _CONTROLLER:
            return _Kept
        raise PickleRefusedError(f"{module}.{name} is no part of saved state")

    def persistent_load(self, _pid: Any) -> Any:
        raise PickleRefusedError("refers to something outside")


def load_data(contents: bytes) -> Any:
    """What the `Controller` of a pickle keeps, as `Controller.__getstate__` gave it.

    The data has not been checked.

    :raises PickleRefusedError: if it is no such pickle, or is damaged
    """
    try:
        kept = _Unpickler(io.BytesIO(contents)).load()
    except PickleRefusedError:
        raise
    except Exception as e:  # a damaged pickle may raise anything at all
        raise PickleRefusedError(f"{type(e).__name__}: {e}") from e
    if type(kept) is not _Kept or type(kept.data) is not dict:
        raise PickleRefusedError("holds no Controller")
    return kept.data
