"""Where boards are plugged in, how they are addressed, and which job has them."""

from __future__ import annotations

from collections.abc import Iterable

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import Board, Physical
from spalloc_server.model.job import _Job


class BoardIndex:
    """An index over machines and jobs; for whoever holds the controller's lock."""

    def __init__(self, machines: Iterable[Machine] = (), jobs: Iterable[_Job] = ()):
        """Index machines and jobs that have boards."""
        self._job_of_board: dict[tuple[str, Board], _Job] = {}
        self.set_machines(machines)
        for job in jobs:
            self.occupy(job)

    def set_machines(self, machines: Iterable[Machine]) -> None:
        """Index these machines in place of those there were."""
        self._board_at: dict[str, dict[Physical, Board]] = {}
        self._board_of_ip: dict[str, tuple[str, Board]] = {}
        for machine in machines:
            self._board_at[machine.name] = {
                physical: board for board, physical in machine.board_locations.items()
            }
            for board, address in machine.spinnaker_ips.items():
                if board in machine.board_locations:
                    self._board_of_ip[address] = machine.name, board

    def occupy(self, job: _Job) -> None:
        """Note that a job has its boards."""
        if job.allocated_machine is not None:
            for board in job.boards or ():
                self._job_of_board[job.allocated_machine.name, board] = job

    def leave(self, job: _Job) -> None:
        """Note that a job no longer has its boards."""
        if job.allocated_machine is not None:
            for board in job.boards or ():
                del self._job_of_board[job.allocated_machine.name, board]

    def job_at(self, machine_name: str, board: Board) -> _Job | None:
        """The job that has a board, None if no job has it."""
        return self._job_of_board.get((machine_name, board))

    def board_at(self, machine_name: str, physical: Physical) -> Board | None:
        """The board plugged in somewhere, None if there is none."""
        return self._board_at.get(machine_name, {}).get(physical)

    def board_of_ip(self, address: str) -> tuple[str, Board] | None:
        """The machine and board of an Ethernet chip's address, None for no board."""
        return self._board_of_ip.get(address)


def describe_boards(machine: Machine, boards: Iterable[Board]) -> str:
    """Name boards for people who may have to go and look at them."""
    named = []
    for board in sorted(boards):
        cabinet, frame, number = machine.board_locations[board]
        named.append(f"{board} at cabinet {cabinet}, frame {frame}, board {number}")
    return f"machine {machine.name}, board{'s' * (len(named) > 1)} {'; '.join(named)}"
