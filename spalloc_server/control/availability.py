"""Which boards jobs may be given: all, but those that fail, are drained or closed."""

from __future__ import annotations

from spalloc_server.configuration import Machine
from spalloc_server.control.state import PRESENT_RULES, State
from spalloc_server.coordinates import Board


class Availability:
    """Adds up what keeps boards from jobs, and tells the job queue of it.

    A job is impossible only where the configuration says so. What fails, is drained or
    closed is so for now, and jobs wait for it. With the controller's lock held.
    """

    def __init__(self, state: State) -> None:
        """Add up what is in a state."""
        self._state = state
        self.changes = 0
        """How often something of it may have changed."""

    def boards_out(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are out of service."""
        # Not those that it had before it was wired anew.
        out = self._state.health.boards_out(machine.name)
        return out & machine.board_locations.keys()

    def drained(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that are drained."""
        drained = self._state.withheld.drained_boards(machine.name)
        return drained & machine.board_locations.keys()

    def dead_boards(self, machine: Machine) -> frozenset[Board]:
        """The boards of a machine that clients see as dead, for whatever reason."""
        return machine.dead_boards | self.boards_out(machine) | self.drained(machine)

    def dead_and_withheld(
        self, machine: Machine
    ) -> tuple[frozenset[Board], frozenset[Board]]:
        """The boards of a machine that never work, and those to be kept for now.

        To be asked for whenever that may have changed.
        """
        self.changes += 1
        if self._state.rules < PRESENT_RULES:
            return machine.dead_boards | self.boards_out(machine), frozenset()
        if self._state.withheld.closing_of(machine.name) is not None:
            return machine.dead_boards, frozenset(machine.board_locations)
        return machine.dead_boards, self.boards_out(machine) | self.drained(machine)

    def update(self, machine_name: str) -> None:
        """Tell the job queue what has changed of a machine, if it is still there."""
        machine = self._state.machines.get(machine_name)
        if machine is not None:
            self._state.changed_machines.add(machine_name)
            dead, withheld = self.dead_and_withheld(machine)
            with self._state.job_queue as queue:
                queue.modify_machine(machine_name, dead_boards=dead)
                queue.withhold(machine_name, withheld)
