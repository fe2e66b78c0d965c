"""What the thread of a frame does next: the order and merging of board requests.

Nothing here talks to a BMP, waits or looks at a clock. The rules are:

- A group of requests (`Task`) goes through its stages one after the other: power on,
  check (after the settling wait), links, power off. Any number of tasks may be under
  way at a time, as long as they are about different boards; so while some boards settle
  or wait to be tried again, others go on.
- Of each board only the last power request counts. Whatever earlier tasks still wanted
  of it, they leave out: power, checks, links (whose registers are reset anyway), and
  further tries. A task that has nothing left ends at once, as a success: it was
  overtaken. So a task never waits for the power commands of an earlier one, and what is
  waiting is bounded by the boards of the frame.
- Links are changed after the power command that came before them for their board.
- All tasks whose next stage is the same power command are put into one command.
- Power commands, and the small ones, have their turns, so that nobody who toggles a
  board without end keeps others from going on.
- A task that fails is tried a second time after a pause. Where boards were to be
  powered off and the BMP does not answer at all, that waits until it does: nobody else
  gets them before they have been off.
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Final, NamedTuple, TypeAlias

from spalloc_server.hardware.requests import (
    AtomicRequests,
    Failure,
    LinkRequest,
)

IDENTITY_TRIES = 3
"""How often a board is powered on in the hope that its FPGAs load well."""

TASK_TRIES = 2
"""How often a group of requests is tried."""


class Stage(Enum):
    """What a task needs next."""

    POWER_ON = auto()
    CHECK = auto()
    LINKS = auto()
    POWER_OFF = auto()


class Task:
    """A group of requests on its way. Owned by the thread of its frame.

    :param requests: what to do; later changes to it have no effect
    """

    def __init__(self, requests: AtomicRequests) -> None:
        self.on_done = requests.on_done
        self.power_on_boards = frozenset(requests.power_on_boards)
        self.power_off_boards = frozenset(requests.power_off_boards)
        self._link_requests = requests.link_requests
        self.boards = self._find_boards()
        """The boards that the task is about."""
        self.failures = 0
        self.result: tuple[bool, Failure | None] | None = None
        """Set once the task has ended: success, and the reason where it failed."""
        self.alone = False
        """Whether its power command must not be merged with those of others, because a
        merged one has failed."""
        self._begin(0.0)

    def _begin(self, due: float) -> None:
        self.due = due
        self.to_power_on = set(self.power_on_boards)
        self.to_check: list[int] = []
        self._wrong: dict[int, str] = {}
        self._identity_tries = 0
        self._links = list(reversed(self._link_requests))
        self.stage = Stage.POWER_ON if self.power_on_boards else self._stage_of_links()
        self.started = False
        """Whether a command has been sent in this try."""

    def _stage_of_links(self) -> Stage:
        """Give the stage LINKS, or the next one if there is no link to change.

        A power-off that is to be merged must not wait for nothing. A task with nothing
        more to do ends in the stage LINKS.
        """
        if self._links or not self.power_off_boards:
            return Stage.LINKS
        return Stage.POWER_OFF

    def _find_boards(self) -> frozenset[int]:
        linked = (request.board for request in self._link_requests)
        return self.power_on_boards | self.power_off_boards | frozenset(linked)

    @property
    def next_link(self) -> LinkRequest | None:
        """The next link to change in the stage LINKS."""
        return self._links[-1] if self._links else None

    def to_power(self) -> frozenset[int]:
        """Give the boards for the power command of the present stage."""
        if self.stage is Stage.POWER_ON:
            return frozenset(self.to_power_on)
        return self.power_off_boards

    def repeats(self, other: Task) -> bool:
        """Tell whether this asks for the power change that another is to try again."""
        return (
            other.failures > 0
            and not other.started
            and bool(self.power_on_boards or self.power_off_boards)
            and self.power_on_boards == other.power_on_boards
            and self.power_off_boards == other.power_off_boards
        )

    def take_place_of(self, other: Task) -> None:
        """Take over the tries, and the pause before the next one, of another task."""
        self.failures = other.failures
        self.due = other.due

    def leave_out(self, boards: frozenset[int]) -> None:
        """Leave boards to a later task, which says what becomes of them.

        The task ends, as a success, where that was all there was to do.
        """
        if self.result is not None or self.boards.isdisjoint(boards):
            return
        self.power_on_boards -= boards
        self.power_off_boards -= boards
        self.to_power_on -= boards
        self.to_check = [board for board in self.to_check if board not in boards]
        for board in boards:
            self._wrong.pop(board, None)
        self._link_requests = [r for r in self._link_requests if r.board not in boards]
        self._links = [r for r in self._links if r.board not in boards]
        self.boards = self._find_boards()
        if not self.boards:
            self.result = (True, None)
        elif self.stage is Stage.CHECK and not self.to_check and self._wrong:
            # The last one to be checked is gone: another one takes its place.
            self.to_check = [min(self._wrong)]
            del self._wrong[self.to_check[0]]
        elif self.stage is Stage.POWER_OFF:
            if not self.power_off_boards:
                self.result = (True, None)
        elif not (self.to_power_on or self.to_check):
            self.stage = self._stage_of_links()

    def powered_on(self, settled: float) -> None:
        """Note that the boards have been powered on and will have settled at a time."""
        self.alone = False
        self.to_check = sorted(self.to_power_on)
        self.to_power_on = set()
        self._wrong = {}
        self._identity_tries += 1
        self.stage = Stage.CHECK
        self.due = settled

    def checked(self, problem: str | None, now: float, retry_at: float) -> None:
        """Note that the first board of ``to_check`` is sound, or what is wrong with it.

        After the last board, bad ones are powered on again while tries are left.
        """
        board = self.to_check.pop(0)
        if problem is not None:
            self._wrong[board] = problem
        if self.to_check:
            return
        if not self._wrong:
            self.stage = self._stage_of_links()
        elif self._identity_tries < IDENTITY_TRIES:
            self.to_power_on = set(self._wrong)
            self.stage = Stage.POWER_ON
            self.due = now
        else:
            text = "; ".join(self._wrong[board] for board in sorted(self._wrong))
            self.failed(Failure(text, frozenset(self._wrong)), retry_at)

    def link_done(self) -> None:
        """Note that ``next_link`` has been changed, or that there was none left."""
        if self._links:
            self._links.pop()
        if not self._links:
            if self.power_off_boards:
                self.stage = Stage.POWER_OFF
            else:
                self.result = (True, None)

    def powered_off(self) -> None:
        """Note that the boards have been powered off, which is the end."""
        self.result = (True, None)

    def failed(self, reason: Failure, retry_at: float) -> None:
        """Note a failure: the task starts again at a time, or has failed for good."""
        self.failures += 1
        if self.failures < TASK_TRIES:
            self._begin(retry_at)
        else:
            self.result = (False, reason)

    def put_off(self) -> None:
        """Note that the BMP does not answer: the task starts again when it does."""
        self.failures += 1
        self._begin(math.inf)

    def bmp_answers(self, now: float) -> None:
        """Start again, with all tries, if that was put off until now."""
        if self.due == math.inf:
            self.failures = 0
            self.due = now


class Step(NamedTuple):
    """The next thing to do: one command, for one task or for several merged."""

    stage: Stage
    tasks: list[Task]


_Turn: TypeAlias = tuple[Stage, bool] | None
"""A kind of step: a power command, either merged or of one task alone; or, if None, a
small command."""

_TURNS: Final[tuple[_Turn, ...]] = (
    (Stage.POWER_ON, False),
    (Stage.POWER_OFF, False),
    (Stage.POWER_ON, True),
    (Stage.POWER_OFF, True),
    None,
)


class Schedule:
    """The tasks of one frame in order of arrival. Owned by the thread of the frame."""

    def __init__(self) -> None:
        self._tasks: list[Task] = []
        self._hurrying = False
        # Whose turn is next: the one that was longest ago.
        self._turns: list[_Turn] = list(_TURNS)

    def add(self, task: Task, due: float) -> None:
        """Take in a task; a power-on is held back until a time, to be merged.

        Earlier tasks leave out the boards that it powers on or off, and may thereby
        have ended.
        """
        task.due = due if task.power_on_boards else 0.0
        powered = task.power_on_boards | task.power_off_boards
        for earlier in self._tasks:
            if task.repeats(earlier):
                task.take_place_of(earlier)
            earlier.leave_out(powered)
        self._tasks.append(task)

    @property
    def has_ended_tasks(self) -> bool:
        """Is there anything for `take_ended`?"""
        return any(task.result is not None for task in self._tasks)

    def bmp_answers(self, now: float) -> None:
        """Go on with what was put off until the BMP answers."""
        for task in self._tasks:
            task.bmp_answers(now)

    def hurry(self) -> None:
        """Put nothing off any longer, apart from waiting for boards to settle."""
        self._hurrying = True

    def take_ended(self) -> list[Task]:
        """Remove the tasks that have ended and give them in order of arrival."""
        ended = [task for task in self._tasks if task.result is not None]
        self._tasks = [task for task in self._tasks if task.result is None]
        return ended

    def __len__(self) -> int:
        return len(self._tasks)

    def abandon(self) -> list[Task]:
        """Remove all tasks, whatever has become of them, and give them."""
        tasks, self._tasks = self._tasks, []
        return tasks

    def next_due(self) -> float | None:
        """Give the time when `next_step` may next have something.

        None if only a new task, or an answer of the BMP, can change that.
        """
        due = min((self._due(task) for task in self._allowed()), default=math.inf)
        return None if due == math.inf else due

    def next_step(self, now: float) -> Step | None:
        """Give what is to be done now, or None.

        A new power request waits for no more than one turn of the small commands of
        others, and one power command of each kind.
        """
        allowed = self._allowed()
        ready = [task for task in allowed if self._due(task) <= now]
        for turn in self._turns:
            tasks = self._tasks_of_turn(turn, ready, allowed)
            if tasks:
                self._turns.remove(turn)
                self._turns.append(turn)
                for task in tasks:
                    task.started = True
                return Step(tasks[0].stage, tasks)
        return None

    @staticmethod
    def _tasks_of_turn(
        turn: _Turn, ready: list[Task], allowed: list[Task]
    ) -> list[Task]:
        """Choose the tasks for one command."""
        if turn is None:
            small = (Stage.CHECK, Stage.LINKS)
            return [task for task in ready if task.stage in small][:1]
        stage, alone = turn
        tasks = [t for t in ready if t.stage is stage and t.alone == alone]
        if alone or not tasks:
            return tasks[:1]
        # New tasks that are only held back to be merged with something come along.
        waiting = (
            task
            for task in allowed
            if task.stage is stage and not task.started and not task.failures
        )
        return tasks + [task for task in waiting if task not in tasks]

    def _allowed(self) -> list[Task]:
        """Give the tasks that no earlier task keeps from going on."""
        allowed: list[Task] = []
        taken: set[int] = set()
        for task in self._tasks:
            if task.result is None:
                if taken.isdisjoint(task.boards):
                    allowed.append(task)
                taken |= task.boards
        return allowed

    def _due(self, task: Task) -> float:
        if self._hurrying and task.stage is not Stage.CHECK:
            return 0.0
        return task.due
