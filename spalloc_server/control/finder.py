"""Finds boards and chips by whatever they may be called by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board
from spalloc_server.model import where_is
from spalloc_server.model.job import _Job


class Finder:
    """For whoever holds the controller's lock; None is for what does not exist.

    What is told is that of `spalloc_server.model.where_is.describe_chip`.
    """

    def __init__(self, state: State) -> None:
        """Find what is in a state."""
        self._state = state

    def job_at(self, machine: Machine, x: int, y: int, z: int) -> _Job | None:
        """The job that has a board."""
        return self._state.boards.job_at(machine.name, (x, y, z))

    def board_at(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> Board | None:
        """The board (x, y, z) that is plugged in there."""
        place = cabinet, frame, board
        return self._state.boards.board_at(machine_name, place)

    def by_board(
        self, machine_name: str, x: int, y: int, z: int
    ) -> dict[str, Any] | None:
        """Find a board by its coordinates."""
        machine = self._state.machines.get(machine_name)
        if machine is None:
            return None
        return where_is.describe_board(machine, (x, y, z), self.job_at)

    def by_place(
        self, machine_name: str, cabinet: int, frame: int, board: int
    ) -> dict[str, Any] | None:
        """Find a board by where it is plugged in."""
        found = self.board_at(machine_name, cabinet, frame, board)
        return None if found is None else self.by_board(machine_name, *found)

    def by_chip(
        self, machine_name: str, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """Find a chip of a machine."""
        machine = self._state.machines.get(machine_name)
        if machine is None:
            return None
        return where_is.describe_chip(machine, (chip_x, chip_y), self.job_at)

    def by_job_chip(
        self, job_id: int, chip_x: int, chip_y: int
    ) -> dict[str, Any] | None:
        """Find a chip of a job."""
        job = self._state.jobs.get(job_id)
        if job is None:
            return None
        return where_is.describe_job_chip(job, (chip_x, chip_y), self.job_at)

    def by_address(self, ip_address: str) -> dict[str, Any] | None:
        """Find a board by the address of its Ethernet chip."""
        found = self._state.boards.board_of_ip(ip_address)
        return None if found is None else self.by_board(found[0], *found[1])

    def find(self, **kwargs: Any) -> dict[str, Any] | None:
        """Find by any of these; see `Controller.where_is`.

        :raises TypeError: if the arguments are no known set
        """
        finders: dict[str, Callable[..., dict[str, Any] | None]] = {
            "machine x y z": self.by_board,
            "machine cabinet frame board": self.by_place,
            "machine chip_x chip_y": self.by_chip,
            "job_id chip_x chip_y": self.by_job_chip,
            "ip_address": self.by_address,
        }
        for arguments, find in finders.items():
            names = arguments.split()
            if kwargs.keys() == set(names):
                return find(*(kwargs[name] for name in names))
        given = ", ".join(sorted(kwargs)) or "none"
        raise TypeError(f"where_is cannot find anything by these arguments: {given}")
