"""Everything that can change what is kept, as plain records: the one way in.

A change is checked before it is made, stored, and then done by the part of the
controller that it is for; after a crash it is read back and done again. *Commands* are
stored before they are done. *Events* are what no command explains (a result from the
hardware, a deadline, a new configuration), and are stored when they happen.

A stored change is a list, fit for JSON: its name, when it was (seconds since 1970,
UTC), and its fields. These lists are read by later versions: fields are only added,
at the end and with a default.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from spalloc_server.coordinates import Board

Record: TypeAlias = list[Any]
"""A change as it is stored."""

CHANGES: Final[dict[str, type[Any]]] = {}
"""Every kind of change, by the name under which it is stored."""

_NAMES: Final[dict[type[Any], str]] = {}

_Kind = TypeVar("_Kind", bound=type[Any])


class RefusedError(ValueError):
    """A command cannot be done as things are, and has changed nothing.

    It would be refused again in the same state, so a replay passes over it.
    """


class ReplayError(Exception):
    """A stored change cannot be done after those before it.

    :param done: how many changes were done before it
    """

    def __init__(self, done: int, problem: str) -> None:
        super().__init__(problem)
        self.done = done


def _stored_as(name: str) -> Callable[[_Kind], _Kind]:
    """Decorate a kind of change with the name under which it is stored."""

    def register(kind: _Kind) -> _Kind:
        CHANGES[name] = kind
        _NAMES[kind] = name
        return kind

    return register


# Commands


@_stored_as("create_job")
class CreateJob(NamedTuple):
    """Somebody asks for boards."""

    host: str | None
    """IP address of the host that asks; the same in all commands."""
    size: Sequence[int]
    """The positional arguments of the command."""
    options: Mapping[str, Any]
    """Its other arguments, ``owner`` and ``keepalive`` among them."""


@_stored_as("destroy_job")
class DestroyJob(NamedTuple):
    """A job is to end, and its boards are for others."""

    host: str | None
    job_id: int
    reason: str | None
    """For the people who ask what became of it."""


@_stored_as("power_on_job_boards")
class PowerOnJob(NamedTuple):
    """The boards of a job are to be powered on, or reset if they are on."""

    host: str | None
    job_id: int


@_stored_as("power_off_job_boards")
class PowerOffJob(NamedTuple):
    """The boards of a job are to be powered off."""

    host: str | None
    job_id: int


@_stored_as("report_problem")
class ReportProblem(NamedTuple):
    """Something is wrong with a board, says a user."""

    host: str | None
    ip_address: str
    """Of the board's Ethernet chip, as told to the job."""
    x: int | None
    """Chip on the board."""
    y: int | None
    p: int | None
    """Core of the chip."""
    description: str | None


@_stored_as("clear_problem")
class ClearProblem(NamedTuple):
    """All is well with a board, says an operator."""

    host: str | None
    machine_name: str
    x: int
    y: int
    z: int


# Orders of operators


@_stored_as("drain")
class Drain(NamedTuple):
    """No job is to be given some boards any more."""

    user: str
    """Who says so, by the name on the server's computer; the same in all orders."""
    machine_name: str
    boards: Sequence[Sequence[int]]
    reason: str | None
    """For people; the same in all orders."""
    now: bool
    """Are jobs that have some of them to end?"""


@_stored_as("resume")
class Resume(NamedTuple):
    """Jobs may be given boards again."""

    user: str
    machine_name: str
    boards: Sequence[Sequence[int]]
    reason: str | None


@_stored_as("clear boards")
class ClearBoards(NamedTuple):
    """All is well with some boards."""

    user: str
    machine_name: str
    boards: Sequence[Sequence[int]]
    reason: str | None


@_stored_as("close")
class Close(NamedTuple):
    """No job is to start on a machine, or on any."""

    user: str
    machine_name: str | None
    reason: str | None


@_stored_as("open")
class Open(NamedTuple):
    """Jobs may start on a machine again, or on all."""

    user: str
    machine_name: str | None
    reason: str | None


@_stored_as("end jobs")
class EndJobs(NamedTuple):
    """Jobs are to end; those that have ended meanwhile are passed over."""

    user: str
    job_ids: Sequence[int]
    reason: str | None


@_stored_as("move job")
class MoveJob(NamedTuple):
    """A job that waits is to wait before all others."""

    user: str
    job_id: int
    reason: str | None


# Events


@_stored_as("configured")
class Configured(NamedTuple):
    """Settings, or machines, are others from now on."""

    settings: Mapping[str, Any]
    """Those that change, by their names in
    `spalloc_server.control.machine_set.Settings`."""
    machines: Sequence[Any] | None
    """All machines, highest priority first, as `machine_to_record` gives them; None
    where they stay."""


@_stored_as("timed out")
class TimedOut(NamedTuple):
    """Jobs have not been heard of for too long."""

    job_ids: Sequence[int]


@_stored_as("ready")
class Ready(NamedTuple):
    """All frames have done what they were asked for on behalf of a job."""

    job_id: int


@_stored_as("failed")
class Failed(NamedTuple):
    """Boards of a job could not be powered, or cut off from their surroundings."""

    job_id: int
    boards: Sequence[Sequence[int]]
    reason: str


@_stored_as("freed")
class Freed(NamedTuple):
    """The boards of an ended job are off, but for those that are at fault."""

    job_id: int
    faulty: Sequence[Sequence[int]]
    reason: str | None
    """What is wrong with those at fault."""


@_stored_as("cooled")
class Cooled(NamedTuple):
    """Boards have cooled down, or time has passed for those who wait."""

    freed: Mapping[str, int]
    """By machine, how many of the allocations that cool longest are free now; none
    where a part of a machine is to be kept for somebody now."""


@_stored_as("board in")
class BoardIn(NamedTuple):
    """A board has passed its test, and is in service again."""

    machine_name: str
    board: Sequence[int]


@_stored_as("board still out")
class BoardStillOut(NamedTuple):
    """A board has failed its test, and is left alone for longer."""

    machine_name: str
    board: Sequence[int]


@_stored_as("bmp out")
class BMPOut(NamedTuple):
    """A BMP does not answer: the boards of its frame are out of service."""

    machine_name: str
    frame: Sequence[int]
    """(cabinet, frame)"""
    reason: str


@_stored_as("bmp in")
class BMPIn(NamedTuple):
    """A BMP answers again, and so do the boards that only waited for that."""

    machine_name: str
    frame: Sequence[int]


@_stored_as("rules")
class Rules(NamedTuple):
    """The server decides by the rules of another version from now on."""

    number: int
    """See `spalloc_server.control.state.PRESENT_RULES`."""


Change: TypeAlias = (
    CreateJob
    | DestroyJob
    | PowerOnJob
    | PowerOffJob
    | ReportProblem
    | ClearProblem
    | Drain
    | Resume
    | ClearBoards
    | Close
    | Open
    | EndJobs
    | MoveJob
    | Rules
    | Configured
    | TimedOut
    | Ready
    | Failed
    | Freed
    | Cooled
    | BoardIn
    | BoardStillOut
    | BMPOut
    | BMPIn
)


def name_of(change: Change) -> str:
    """The name under which changes of its kind are stored."""
    return _NAMES[type(change)]


def to_record(change: Change, at: float) -> Record:
    """Give a change the form in which it is stored.

    :param at: when it is made, in seconds since 1970 (UTC)
    """
    return [_NAMES[type(change)], at, *change]


def from_record(record: Sequence[Any]) -> tuple[Change, float]:
    """Read a stored change.

    :return: the change, and when it was made, in seconds since 1970 (UTC)
    :raises ValueError: if the record is none
    :raises KeyError: if there is no such kind of change
    :raises TypeError: if its fields are not those of its kind
    """
    name, at, *fields = record
    return CHANGES[name](*fields), float(at)


def as_board(coordinates: Sequence[int]) -> Board:
    """Read the coordinates of a board, which come back from storage as a list."""
    x, y, z = coordinates
    return x, y, z
