"""The boards that operators mean, by whichever name."""

from __future__ import annotations

from typing import Any

from spalloc_server.controller import Controller
from spalloc_server.coordinates import Board
from spalloc_server.service import arguments


def boards_of(
    controller: Controller,
    machine_name: Any,
    board: Any = None,
    physical: Any = None,
    frame: Any = None,
) -> list[Board]:
    """The boards of a machine that are meant: all of them, if nothing else is said.

    :param board: (x, y, z)
    :param physical: (cabinet, frame, board)
    :param frame: (cabinet, frame)
    :raises ValueError: if there is no such machine, frame or board
    :raises TypeError: if it is no such thing, or more than one of them
    """
    machine = controller.machines.get(arguments.check_machine_name(machine_name))
    if machine is None:
        raise ValueError(f"there is no machine {machine_name!r}")
    if sum(place is not None for place in (board, physical, frame)) > 1:
        raise TypeError("only one of board, physical and frame may be given")
    places = machine.board_locations
    if board is not None:
        wanted = _numbers("board", board, 3)
        found = [place for place in places if place == wanted]
        what = f"board {wanted}"
    elif physical is not None:
        wanted = _numbers("physical", physical, 3)
        found = [place for place, where in places.items() if where == wanted]
        what = "board at cabinet {}, frame {}, board {}".format(*wanted)
    elif frame is not None:
        wanted = _numbers("frame", frame, 2)
        found = [place for place, where in places.items() if where[:2] == wanted]
        what = "frame at cabinet {}, frame {}".format(*wanted)
    else:
        return sorted(places)
    if not found:
        raise ValueError(f"machine {machine_name!r} has no {what}")
    return sorted(found)


def _numbers(name: str, value: Any, length: int) -> tuple[int, ...]:
    if not isinstance(value, list) or len(value) != length:
        raise TypeError(f"{name} must be a list of {length} integers, not {value!r}")
    return tuple(arguments.check_integer(name, number) for number in value)
