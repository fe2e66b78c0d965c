"""The machines in force: what a new configuration changes, and what they are like."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping

from spalloc_server.config.changes import MachineChanges, compare_machines
from spalloc_server.configuration import Machine
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.coordinates import Board
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.board_states import BoardState, states_of_boards
from spalloc_server.model.job import MachineTuple, _Job


class MachineSet:
    """Keeps the machines, and all that knows them, in step with the configuration.

    For whoever holds the `Controller`'s lock.
    """

    def __init__(
        self,
        machines: OrderedDict[str, Machine],
        ending_jobs: Mapping[int, _Job],
        places: BoardIndex,
        job_queue: JobQueue,
        sick_boards: SickBoards,
        bmps: FrameControllers,
        start_bmps: Callable[[Machine], object],
    ) -> None:
        """Look after machines.

        :param machines: by name, highest priority first; only changed in here
        :param ending_jobs: those whose boards are being powered off
        :param start_bmps: makes the controllers of a new machine's BMPs
        """
        self._machines = machines
        self._ending_jobs = ending_jobs
        self._places = places
        self._job_queue = job_queue
        self._sick_boards = sick_boards
        self._bmps = bmps
        self._start_bmps = start_bmps

    def change(self, machines: Mapping[str, Machine]) -> MachineChanges:
        """Have other machines in force; jobs on those that are removed are destroyed.

        :param machines: by name, highest priority first
        """
        changes = compare_machines(self._machines, machines)
        with self._job_queue:
            for name in changes.removed:
                self._remove(name)
                if name not in machines:
                    self._sick_boards.forget_machine(name)
            for name in changes.added:
                self._add(machines[name])
            for name in changes.modified:
                machine = machines[name]
                self._job_queue.modify_machine(
                    name,
                    machine.tags,
                    self._sick_boards.dead_boards(machine),
                    machine.dead_links,
                )
            for name, machine in machines.items():
                self._job_queue.move_machine_to_end(name)
                self._machines[name] = machine
                self._machines.move_to_end(name)
            self._places.set_machines(machines.values())
        return changes

    def _add(self, machine: Machine) -> None:
        self._start_bmps(machine)
        self._job_queue.add_machine(
            machine.name,
            machine.width,
            machine.height,
            machine.tags,
            self._sick_boards.dead_boards(machine),
            machine.dead_links,
        )

    def _remove(self, name: str) -> None:
        """Remove a machine, destroying its jobs.

        The controllers of its BMPs first finish what they have to do.
        """
        self._job_queue.remove_machine(name)
        machine = self._machines.pop(name)
        for job in self._ending_jobs.values():
            if job.machine.name == name:
                job.machine_removed = True
        self._bmps.retire(machine)

    def tuples(self) -> list[MachineTuple]:
        """What those who ask about all machines are told."""
        return [
            MachineTuple(
                machine.name,
                machine.tags,
                machine.width,
                machine.height,
                self._sick_boards.dead_boards(machine),
                machine.dead_links,
            )
            for machine in self._machines.values()
        ]

    def board_states(self, name: str) -> dict[Board, BoardState]:
        """The state of every board of a machine.

        :raises KeyError: if there is no such machine
        """
        machine = self._machines[name]
        return states_of_boards(
            machine,
            self._sick_boards.boards_out(machine),
            self._job_queue.holdings(name),
            self._places,
            self._ending_jobs.values(),
        )
