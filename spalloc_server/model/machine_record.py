"""Machines as plain data that JSON can hold: as the journal and snapshots keep them."""

from __future__ import annotations

from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board
from spalloc_server.links import Links
from spalloc_server.plain.shapes import (
    INT,
    STR,
    PlainDataError,
    Shape,
    anything_plain,
    list_of,
    one_of,
    row_of,
)

_BOARD = row_of(INT, INT, INT)
_FRAME = row_of(INT, INT)

_RECORD: Shape = row_of(
    STR,
    list_of(STR),
    INT,
    INT,
    list_of(_BOARD),
    list_of(row_of(INT, INT, INT, one_of(*map(int, Links)))),
    list_of(row_of(_BOARD, _BOARD)),
    list_of(row_of(_FRAME, STR)),
    # See `machine_from_record` on what is no text.
    list_of(row_of(_BOARD, anything_plain)),
)


def machine_to_record(machine: Machine) -> list[Any]:
    """Give a machine in lists, numbers and texts; the same for equal machines."""
    return [
        str(machine.name),
        sorted(map(str, machine.tags)),
        machine.width,
        machine.height,
        [[*board] for board in sorted(machine.dead_boards)],
        [[x, y, z, int(link)] for x, y, z, link in sorted(machine.dead_links)],
        [[[*a], [*b]] for a, b in sorted(machine.board_locations.items())],
        [[[*frame], str(ip)] for frame, ip in sorted(machine.bmp_ips.items())],
        [[[*board], str(ip)] for board, ip in sorted(machine.spinnaker_ips.items())],
    ]


def machine_from_record(record: Any) -> Machine:
    """Make a machine from what `machine_to_record` gave.

    It was checked when it was configured. A check that has become stricter since must
    not make state unreadable, so it is not made again.

    :raises PlainDataError: if the record describes none
    """
    _RECORD(record, "machine")
    name, tags, width, height, dead_boards, dead_links, *dictionaries = record
    locations, bmp_ips, spinnaker_ips = dictionaries
    dead = frozenset(_board(board) for board in dead_boards)
    ips: dict[Board, str] = {}
    for board, ip in spinnaker_ips:
        if type(ip) is str:
            ips[_board(board)] = ip
        elif _board(board) not in dead:
            raise PlainDataError(
                f"machine {name}: the IP of board {board} is {ip!r}, not a text"
            )
        # Those of dead boards could be anything once.
    values = (
        *(name, frozenset(tags), width, height, dead),
        frozenset((x, y, z, Links(link)) for x, y, z, link in dead_links),
        {_board(board): _board(place) for board, place in locations},
        {(cabinet, frame): ip for (cabinet, frame), ip in bmp_ips},
        ips,
    )
    return tuple.__new__(Machine, values)


def _board(row: list[int]) -> tuple[int, int, int]:
    x, y, z = row
    return x, y, z
