"""Which of several truths about a board is told."""

from __future__ import annotations

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board, WrapAround
from spalloc_server.job_queue import Holding
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.board_states import BoardState, states_of_boards
from spalloc_server.model.job import _Job
from tests.recorded_bmps import machine

BOARD: Board = (0, 0, 0)


def job_on(place: Machine, board: Board) -> _Job:
    job = _Job(1, "me")
    job.give_boards(place, {board}, set(), WrapAround.none)
    return job


@pytest.mark.parametrize("sick", [BoardState.out_of_service, BoardState.dead])
@pytest.mark.parametrize(
    ("has_job", "holding", "expected"),
    [
        (None, None, None),
        (None, Holding.cooling, None),
        # In the rectangle of a job that was not given it.
        (None, Holding.allocated, None),
        ("living", Holding.allocated, BoardState.allocated),
        ("ending", Holding.ending, BoardState.powering_off),
        ("removed", None, None),
    ],
)
def test_a_sick_board_is_so_unless_a_job_has_it(
    sick: BoardState,
    has_job: str | None,
    holding: Holding | None,
    expected: BoardState | None,
) -> None:
    dead = sick is BoardState.dead
    place = machine(dead_boards=frozenset({BOARD} if dead else ()))
    job = job_on(place, BOARD)
    job.machine_removed = has_job == "removed"
    states = states_of_boards(
        place,
        set() if dead else {BOARD},
        [] if holding is None else [(BOARD, holding)],
        BoardIndex([place], [job] if has_job == "living" else []),
        [job] if has_job in ("ending", "removed") else [],
    )
    assert states == {
        BOARD: expected or sick,
        (0, 0, 1): BoardState.free,
        (0, 0, 2): BoardState.free,
    }


def test_jobs_on_other_machines_are_no_concern() -> None:
    place = machine()
    other = job_on(machine("n"), BOARD)
    states = states_of_boards(
        place,
        {BOARD},
        [(BOARD, Holding.cooling)],
        BoardIndex([place], [other]),
        [other],
    )
    assert states[BOARD] is BoardState.out_of_service


def test_holdings_of_sound_boards() -> None:
    place = machine()
    holdings = zip([(0, 0, 0), (0, 0, 1), (0, 0, 2)], Holding, strict=True)
    states = states_of_boards(place, (), holdings, BoardIndex([place]), ())
    assert list(states.values()) == [
        BoardState.allocated,
        BoardState.powering_off,
        BoardState.cooling,
    ]
