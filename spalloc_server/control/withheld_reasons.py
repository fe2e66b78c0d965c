"""Why jobs wait for boards that they cannot be given for now."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Final

from spalloc_server.configuration import Machine
from spalloc_server.control.availability import Availability
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board
from spalloc_server.model.job import _Job

REASONS_NAMED: Final = 3
"""So many reasons are told, the others are only counted."""

_DAY: Final = 24 * 60 * 60.0


class WithheldReasons:
    """Tells why jobs wait for boards that are withheld. With the controller's lock."""

    def __init__(self, state: State, availability: Availability) -> None:
        """Tell what follows from a state.

        :param availability: counts when that changes
        """
        self._state = state
        self._availability = availability
        # What was found out since then; clients ask again and again.
        self._changes = 0
        self._told: dict[tuple[object, ...], str] = {}

    def reason(self, job: _Job) -> str:
        """Why a job that is held back cannot have boards when its turn comes."""
        if self._changes != self._availability.changes:
            self._changes = self._availability.changes
            self._told.clear()
        machines = self._state.job_queue.queues_of(job.id)
        board = job.args if len(job.args) == 3 else None
        key = (*machines, board)
        if key not in self._told:
            self._told[key] = self._describe(machines, board)
        return self._told[key]

    def _describe(self, machines: Iterable[str], board: tuple[int, ...] | None) -> str:
        reasons = list(self._reasons(machines, board))
        text = f"waiting: {'; '.join(reasons[:REASONS_NAMED])}"
        if len(reasons) > REASONS_NAMED:
            text += f"; and {len(reasons) - REASONS_NAMED} more"
        return text

    def _reasons(
        self, machines: Iterable[str], board: tuple[int, ...] | None
    ) -> Iterator[str]:
        names = list(machines)
        for name in names:
            machine = self._state.machines[name]
            closing = self._state.withheld.closing_of(name)
            if closing is not None:
                since = _time(closing.since)
                yield f"machine {name} is closed since {since}: {closing.describe()}"
                continue
            where = f" of machine {name}" if len(names) > 1 else ""
            found = self._why_not(machine, board)
            frames: dict[tuple[int, int], set[Board]] = {}
            for place, (cabinet, number, _) in machine.board_locations.items():
                if place not in machine.dead_boards:
                    frames.setdefault((cabinet, number), set()).add(place)
            for frame, boards in sorted(frames.items()):
                reasons = {found.get(each) for each in boards}
                if board is None and len(reasons) == 1 and None not in reasons:
                    yield f"frame {frame}{where} {reasons.pop()}"
                    continue
                for each in sorted(boards & found.keys()):
                    yield f"board {each}{where} {found[each]}"

    def _why_not(
        self, machine: Machine, board: tuple[int, ...] | None
    ) -> dict[Board, str]:
        """What is the matter with the boards of a machine, or with one of them."""
        found = {}
        for (name, each), order in self._state.withheld.drained.items():
            if name == machine.name and board in (None, each):
                since = _time(order.since)
                found[each] = f"is drained since {since}: {order.describe()}"
        health = self._state.health
        for key in health.boards(machine.name):
            (out, _), each = health.problems_of(key), key[1]
            if out is None or each in found or board not in (None, each):
                continue
            since = _time(out.since)
            found[each] = (
                f"does not answer since {since}"
                if out.waits_for_bmp
                else f"is out of service since {since}: {out.reason}"
            )
        return found


def _time(seconds: float) -> str:
    """A time for people, in the time zone of the server."""
    recent = abs(time.time() - seconds) < _DAY
    return time.strftime("%H:%M" if recent else "%Y-%m-%d", time.localtime(seconds))
