"""What each board of a machine is up to."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from enum import Enum

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board
from spalloc_server.job_queue import Holding
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.job import _Job


class BoardState(Enum):
    """What a board is up to; every board is in exactly one of these states."""

    free = "free"
    """It can be given to a job."""
    allocated = "allocated"
    """A job has it, or it lies within the rectangle of a job."""
    powering_off = "powering off"
    """Its job has ended, and it is not yet off."""
    cooling = "cooling"
    """It is off, and rests before it is given out again."""
    out_of_service = "out of service"
    """It failed, and is tried again by and by."""
    draining = "draining"
    """No job is given it any more, but one still has it, or it is not yet off."""
    drained = "drained"
    """An operator has taken it away from the jobs."""
    dead = "dead"
    """The configuration says that it does not work."""


_STATE_OF_HOLDING = {
    Holding.allocated: BoardState.allocated,
    Holding.ending: BoardState.powering_off,
    Holding.cooling: BoardState.cooling,
}


def states_of_boards(
    machine: Machine,
    out_of_service: Iterable[Board],
    holdings: Iterable[tuple[Board, Holding]],
    places: BoardIndex,
    ending_jobs: Iterable[_Job],
    drained: Collection[Board] = (),
) -> dict[Board, BoardState]:
    """The state of every board of a machine.

    :param holdings: of this machine, see `JobQueue.holdings`
    :param places: which living jobs have its boards
    :param ending_jobs: those whose boards are being powered off, on any machine
    :param drained: boards that operators have taken away, or want to
    """
    states = {
        (x, y, z): BoardState.free
        for x in range(machine.width)
        for y in range(machine.height)
        for z in range(3)
    }
    for board in out_of_service:
        states[board] = BoardState.out_of_service
    for board in drained:
        states[board] = BoardState.drained
    for board in machine.dead_boards:
        states[board] = BoardState.dead
    ending = _boards_of_ending_jobs(machine.name, ending_jobs)
    for board, holding in holdings:
        # Boards of a rectangle that no job could be given are not held.
        if (
            states[board] is BoardState.free
            or places.job_at(machine.name, board) is not None
            or board in ending
        ):
            if board not in drained:
                states[board] = _STATE_OF_HOLDING[holding]
            elif holding is not Holding.cooling:
                states[board] = BoardState.draining
    return states


def count_states(
    machine: Machine, states: Mapping[Board, BoardState]
) -> dict[BoardState, int]:
    """How many boards of a machine are in each state.

    Boards that are dead and plugged in nowhere, as two of the three of a single board's
    triad, do not count.

    :param states: of all boards, see `states_of_boards`
    """
    counts = dict.fromkeys(BoardState, 0)
    for board, state in states.items():
        if state is not BoardState.dead or board in machine.board_locations:
            counts[state] += 1
    return counts


def _boards_of_ending_jobs(machine_name: str, jobs: Iterable[_Job]) -> set[Board]:
    """The boards of a machine that are being powered off for good."""
    boards: set[Board] = set()
    for job in jobs:
        if job.machine.name == machine_name and not job.machine_removed:
            boards.update(job.boards or ())
    return boards
