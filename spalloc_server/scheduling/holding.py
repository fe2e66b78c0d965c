"""Which boards of a machine are not free, and why."""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum, auto

from spalloc_server.coordinates import Board
from spalloc_server.scheduling.machine import _Machine


class Holding(Enum):
    """Why a board is not free."""

    allocated = auto()
    """A job has it, or a rectangle that it lies in."""
    ending = auto()
    """It is not yet given back after the end of its job."""
    cooling = auto()
    """It is given back, and cools down."""


def holdings(machine: _Machine) -> Iterator[tuple[Board, Holding]]:
    """The boards of a machine that are not free, and why not."""
    for allocation_id, is_cooling, boards in machine.allocator.holdings():
        holder = machine.holders.get(allocation_id)
        if is_cooling:
            holding = Holding.cooling
        elif holder is not None and holder.ending:
            holding = Holding.ending
        else:
            holding = Holding.allocated
        for board in boards:
            yield board, holding
