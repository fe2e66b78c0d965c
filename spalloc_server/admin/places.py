"""The boards that operators mean, by whichever name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

from spalloc_server.controller import Controller
from spalloc_server.coordinates import Board, Physical
from spalloc_server.service import arguments


class _Way(NamedTuple):
    """A way to name boards of a machine, by some numbers."""

    length: int
    """How many numbers."""
    numbers_of: Callable[[Board, Physical], tuple[int, ...]]
    """Those of a board, given its coordinates and where it is plugged in."""
    text: str
    """What there is not, if no board has such numbers."""


_WAYS: Final = {
    "board": _Way(3, lambda board, _: board, "board ({}, {}, {})"),
    "physical": _Way(
        3, lambda _, place: place, "board at cabinet {}, frame {}, board {}"
    ),
    "frame": _Way(2, lambda _, place: place[:2], "frame at cabinet {}, frame {}"),
    "cabinet": _Way(1, lambda _, place: place[:1], "cabinet {}"),
}


def boards_of(controller: Controller, machine_name: Any, **place: Any) -> list[Board]:
    """The boards of a machine that are meant: all of them, if nothing else is said.

    :param place: one of ``board=[x, y, z]``, ``physical=[cabinet, frame, board]``,
        ``frame=[cabinet, frame]`` and ``cabinet=[cabinet]``; those that are None do not
        count
    :raises ValueError: if there is no such machine, cabinet, frame or board
    :raises TypeError: if it is no such thing, or more than one of them
    """
    machine = controller.machines.get(arguments.check_machine_name(machine_name))
    if machine is None:
        raise ValueError(f"there is no machine {machine_name!r}")
    for name in place.keys() - _WAYS.keys():
        raise TypeError(f"{name} does not name boards")
    given = [(name, value) for name, value in place.items() if value is not None]
    if not given:
        return sorted(machine.board_locations)
    if len(given) > 1:
        raise TypeError(f"only one of {', '.join(_WAYS)} may be given")
    ((name, value),) = given
    way = _WAYS[name]
    wanted = _numbers(name, value, way.length)
    found = [
        board
        for board, location in machine.board_locations.items()
        if way.numbers_of(board, location) == wanted
    ]
    if not found:
        raise ValueError(f"machine {machine_name!r} has no {way.text.format(*wanted)}")
    return sorted(found)


def _numbers(name: str, value: Any, length: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise TypeError(f"{name} must be a list of {length} integers, not {value!r}")
    return tuple(arguments.check_integer(name, number) for number in value)
