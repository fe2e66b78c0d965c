"""Find a board or chip: in its machine, in its cabinet, and in the job that has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import (
    Board,
    Chip,
    WrapAround,
    board_to_chip,
    chip_to_board,
    triad_dimensions_to_chips,
)
from spalloc_server.model.job import _Job

#: Finds the job that has a board of a machine: ``f(machine, x, y, z)``.
JobFinder = Callable[[Machine, int, int, int], "_Job | None"]


def describe_board(
    machine: Machine, board: Board, find_job: JobFinder
) -> dict[str, Any] | None:
    """Describe a board by its Ethernet chip; None if there is no such board.

    Coordinates beyond the edge wrap around, as those of chips do.
    """
    x, y, z = board
    board = x % machine.width, y % machine.height, z
    if board not in machine.board_locations:
        return None
    return describe_chip(machine, board_to_chip(*board), find_job)


def describe_chip(
    machine: Machine, chip: Chip, find_job: JobFinder
) -> dict[str, Any] | None:
    """Describe a chip of a machine, which coordinates beyond the edge wrap around.

    :return: the ``machine`` name, the ``logical`` (x, y, z) and ``physical``
        (cabinet, frame, board) place of the board, the ``chip`` as it is called in
        the whole machine, on its board (``board_chip``) and in the job that has it
        (``job_chip``), and that job's ``job_id``; the last two are None for a board
        that no job has. None if there is no such board.
    """
    width, height = _chips(machine)
    chip_x, chip_y = chip[0] % width, chip[1] % height
    board = chip_to_board(chip_x, chip_y, width, height)
    physical = machine.board_locations.get(board)
    if physical is None:
        return None
    board_x, board_y = board_to_chip(*board)
    job = find_job(machine, *board)
    job_chip = None
    if job is not None:
        job_x, job_y = job.origin
        job_chip = (chip_x - job_x) % width, (chip_y - job_y) % height
    return {
        "machine": machine.name,
        "logical": board,
        "physical": physical,
        "chip": (chip_x, chip_y),
        "board_chip": ((chip_x - board_x) % width, (chip_y - board_y) % height),
        "job_id": None if job is None else job.id,
        "job_chip": job_chip,
    }


def describe_job_chip(
    job: _Job, chip: Chip, find_job: JobFinder
) -> dict[str, Any] | None:
    """Describe a chip of a job; None if it is on a board that the job has not got."""
    if job.allocated_machine is None or not job.boards:
        return None
    x, y = job.origin
    place = describe_chip(job.allocated_machine, (x + chip[0], y + chip[1]), find_job)
    if place is None or place["logical"] not in job.boards:
        return None
    return place


def _chips(machine: Machine) -> tuple[int, int]:
    return triad_dimensions_to_chips(machine.width, machine.height, WrapAround.both)
