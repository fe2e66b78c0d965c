"""What operators order: boards drained, machines closed, jobs ended and moved."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from spalloc_server.control.availability import Availability
from spalloc_server.control.change_log import ChangeLog
from spalloc_server.control.state import State
from spalloc_server.coordinates import Board
from spalloc_server.model.board_index import describe_boards
from spalloc_server.model.changes import (
    Close,
    Drain,
    EndJobs,
    MoveJob,
    Open,
    RefusedError,
    Resume,
    as_board,
)
from spalloc_server.model.job_tuples import JobState
from spalloc_server.model.withheld import Order

logger = logging.getLogger(__name__)

BOARDS_NAMED = 3
"""So many boards are named in the log, else they are only counted."""


class Orders:
    """Does what operators order, and logs who it was.

    Methods are called with the controller's lock held. What cannot be done raises
    `RefusedError`, with a line for the operator.
    """

    def __init__(
        self, state: State, log: ChangeLog, availability: Availability
    ) -> None:
        """Take orders.

        :param state: its `withheld` is only changed in here
        :param log: knows what time it is
        :param availability: is told of what jobs may have from now on
        """
        self._state = state
        self._log = log
        self._availability = availability

    # Boards

    def drain(self, change: Drain) -> dict[str, object]:
        """Keep boards from jobs, and end the jobs that have them if that is wanted.

        :return: how many boards that are, and the jobs that had to end, or still have
            some of them
        """
        name = change.machine_name
        boards = self._boards(name, change.boards)
        order = Order(change.reason, self._log.wall_time(), change.user)
        jobs = self._jobs_on(name, boards)
        self._tell(change.user, "drains", self._describe(name, boards), change.reason)
        with self._state.job_queue:
            for board in boards:
                self._state.withheld.drained[name, board] = order
            self._availability.update(name)
            if change.now:
                self._end(jobs, change.reason or f"Boards drained by {change.user}.")
        return {"boards": len(boards), "ended" if change.now else "held_by": jobs}

    def resume(self, change: Resume) -> dict[str, object]:
        """Let jobs have boards again.

        :return: how many of them were drained
        """
        name, drained = change.machine_name, self._state.withheld.drained
        asked = self._boards(name, change.boards)
        boards = [board for board in asked if drained.pop((name, board), None)]
        if boards:
            what = self._describe(name, boards)
            self._tell(change.user, "resumes", what, change.reason)
            self._availability.update(name)
        return {"boards": len(boards)}

    def _boards(self, name: str, given: Iterable[Sequence[int]]) -> list[Board]:
        machine = self._state.machines.get(name)
        if machine is None:
            raise RefusedError(f"there is no machine {name!r}")
        boards = [as_board(board) for board in given]
        for board in boards:
            if board not in machine.board_locations:
                raise RefusedError(f"machine {name!r} has no board {board}")
        return boards

    def _jobs_on(self, name: str, boards: Iterable[Board]) -> list[int]:
        found = (self._state.boards.job_at(name, board) for board in boards)
        return sorted({job.id for job in found if job is not None})

    def _describe(self, name: str, boards: Sequence[Board]) -> str:
        if len(boards) <= BOARDS_NAMED:
            return describe_boards(self._state.machines[name], boards)
        return f"{len(boards)} boards of machine {name}"

    # Machines

    def close(self, change: Close) -> None:
        """Start no more jobs on a machine, or on any."""
        order = Order(change.reason, self._log.wall_time(), change.user)
        name, withheld = change.machine_name, self._state.withheld
        if name is None:
            withheld.all_closed = order
        else:
            self._check_machine(name)
            withheld.closed[name] = order
        self._tell(change.user, "closes", _machine(name), change.reason)
        self._update([name] if name is not None else self._state.machines)

    def open(self, change: Open) -> None:
        """Start jobs again on a machine, or on all."""
        name, withheld = change.machine_name, self._state.withheld
        if name is None:
            withheld.all_closed = None
            withheld.closed.clear()
        else:
            self._check_machine(name)
            if withheld.all_closed is not None:
                # All others stay closed.
                everything = dict.fromkeys(self._state.machines, withheld.all_closed)
                withheld.closed = {**everything, **withheld.closed}
                withheld.all_closed = None
            withheld.closed.pop(name, None)
        self._tell(change.user, "opens", _machine(name), change.reason)
        self._update([name] if name is not None else self._state.machines)

    def _check_machine(self, name: str) -> None:
        if name not in self._state.machines:
            raise RefusedError(f"there is no machine {name!r}")

    def _update(self, names: Iterable[str]) -> None:
        with self._state.job_queue:
            for name in names:
                self._availability.update(name)

    # Jobs

    def end_jobs(self, change: EndJobs) -> list[int]:
        """End jobs.

        :return: those that had not ended already
        """
        jobs = [job_id for job_id in change.job_ids if job_id in self._state.jobs]
        if jobs:
            numbers = ", ".join(map(str, jobs))
            self._tell(change.user, "destroys", f"jobs {numbers}", change.reason)
            with self._state.job_queue:
                self._end(jobs, change.reason or f"Destroyed by {change.user}.")
        return jobs

    def _end(self, jobs: Iterable[int], reason: str) -> None:
        for job_id in jobs:
            self._state.job_queue.destroy_job(job_id, reason)

    def move_job(self, change: MoveJob) -> None:
        """Have a job wait before all others."""
        state = self._state
        job = state.jobs.get(change.job_id)
        if job is None:
            raise RefusedError(f"there is no job {change.job_id}")
        if job.state is not JobState.queued:
            raise RefusedError(f"job {job.id} does not wait for boards")
        what = f"job {job.id} of {job.owner}, which is the next now"
        self._tell(change.user, "moves", what, change.reason)
        job.rank = state.next_holder_id
        state.next_holder_id -= 1
        state.changed_jobs.add(job.id)
        state.job_queue.move_to_head(job.id)

    def _tell(self, user: str, does: str, what: str, reason: str | None) -> None:
        if not self._log.is_dormant:
            because = f": {reason}" if reason else ""
            logger.warning("Operator %s %s %s%s", user, does, what, because)


def _machine(name: str | None) -> str:
    return "all machines" if name is None else f"machine {name}"
