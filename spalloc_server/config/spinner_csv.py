"""Reads the machine descriptions that SpiNNer's ``spinner-ethernet-chips`` writes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator

from spalloc_server.coordinates import (
    Board,
    Physical,
    WrapAround,
    board_to_chip,
    chip_to_board,
    triad_dimensions_to_chips,
)

_COLUMNS = ("cabinet", "frame", "board", "x", "y")


def board_locations_from_spinner(
    filename: str | os.PathLike[str],
) -> dict[Board, Physical]:
    """Read the places of a machine's boards from a CSV file of SpiNNer's.

    :param filename: a file written by ``spinner-ethernet-chips``. Its first line names
        the columns, among them 'board', 'cabinet', 'frame', 'x' and 'y' in any order; x
        and y are the coordinates of the board's Ethernet chip. In a config file, a
        relative name is looked up in the config file's folder first and then in the
        server's working directory.
    :return: the board locations, as `Machine` takes them
    :raises OSError: if the file cannot be read
    :raises ValueError: if it makes no sense. The message names the file and the line.
    """
    name = os.fspath(filename)
    with open(name, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        try:
            return _read_boards(reader)
        except UnicodeDecodeError:
            raise ValueError(f"{name}: not a text file in UTF-8") from None
        except (ValueError, csv.Error) as error:
            # An empty file has no line; say 1, where the columns should be.
            line = max(reader.line_num, 1)
            raise ValueError(f"{name}, line {line}: {error}") from None


def _read_boards(reader: Iterator[list[str]]) -> dict[Board, Physical]:
    """Turn the rows of the CSV file into board locations."""
    names = [name.strip() for name in next(reader, [])]
    missing = [column for column in _COLUMNS if column not in names]
    if missing:
        raise ValueError(f"there is no column called {' or '.join(map(repr, missing))}")
    indices = [(column, names.index(column)) for column in _COLUMNS]

    board_locations: dict[Board, Physical] = {}
    boards_by_location: dict[Physical, Board] = {}
    for row in reader:
        if not row:
            continue
        cabinet, frame, number, x, y = (
            _cell(row, column, index) for column, index in indices
        )
        board = _board_of_ethernet_chip(x, y)
        if board in board_locations:
            raise ValueError(f"the board with Ethernet chip ({x}, {y}) is given twice")
        location = (cabinet, frame, number)
        if location in boards_by_location:
            raise ValueError(
                f"boards {boards_by_location[location]} and {board} are both at "
                f"cabinet {cabinet}, frame {frame}, board {number}"
            )
        board_locations[board] = location
        boards_by_location[location] = board
    if not board_locations:
        raise ValueError("there are no boards")
    return board_locations


def _cell(row: list[str], column: str, index: int) -> int:
    """Read one cell, which must be a number from 0 up."""
    if index >= len(row):
        raise ValueError(f"there is no value for {column!r}")
    text = row[index].strip()
    if not (text.isascii() and text.isdigit()):
        raise ValueError(f"{column!r} should be a number from 0 up, not {text!r}")
    return int(text)


def _board_of_ethernet_chip(x: int, y: int) -> Board:
    """Find the board whose bottom-left chip is (x, y)."""
    # Any network large enough to have the chip will do.
    width, height = triad_dimensions_to_chips(x + 1, y + 1, WrapAround.both)
    board = chip_to_board(x, y, width, height)
    if board_to_chip(*board) != (x, y):
        raise ValueError(f"({x}, {y}) are not the coordinates of an Ethernet chip")
    return board
