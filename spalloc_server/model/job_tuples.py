"""What those are told who ask about jobs and machines."""

from __future__ import annotations

from enum import IntEnum
from typing import Any, NamedTuple

from spalloc_server.coordinates import Board, BoardLink, Chip
from spalloc_server.scheduling.waiting import Waiting


class JobState(IntEnum):
    """The states of a job; clients know them by their numbers."""

    unknown = 0
    """There is no such job, or it was forgotten long after it ended."""
    queued = 1
    """The job waits for boards."""
    power = 2
    """The job has boards; they are being powered on or off."""
    ready = 3
    """The job has boards and their power is not changing."""
    destroyed = 4
    """The job has ended."""


class JobStateTuple(NamedTuple):
    """The answer of `Controller.get_job_state`. None is for what does not apply."""

    state: JobState
    """The job's state."""
    power: bool | None
    """Are the boards on, or going on?"""
    keepalive: float | None
    """Seconds of silence after which the job is destroyed, None for never."""
    reason: str | None
    """Why the job was destroyed."""
    start_time: float | None
    """When the job was created, in seconds since 1970 (UTC)."""
    keepalivehost: str | None
    """IP address of the host that last asked about the job."""


class JobMachineInfoTuple(NamedTuple):
    """The answer of `Controller.get_job_machine_info`; all None without boards."""

    width: int | None
    """Width of the job's network, in chips."""
    height: int | None
    """Height of the job's network, in chips."""
    connections: dict[Chip, str] | None
    """Hostname of each Ethernet chip, by its coordinates in the job."""
    machine_name: str | None
    """The machine that the boards belong to."""
    boards: set[Board] | None
    """The boards, as coordinates in the machine."""


class JobTuple(NamedTuple):
    """A job in the answer of `Controller.list_jobs`."""

    job_id: int
    owner: str
    """Who created the job, by convention an e-mail address."""
    start_time: float
    """When the job was created, in seconds since 1970 (UTC)."""
    keepalive: float | None
    """Seconds of silence after which the job is destroyed, None for never."""
    state: JobState
    power: bool | None
    """Are the boards on, or going on? None without boards."""
    args: tuple[Any, ...]
    """The size asked for."""
    kwargs: dict[str, Any]
    """The demands made."""
    allocated_machine_name: str | None
    """The machine that the job's boards belong to, None without boards."""
    boards: set[Board] | None
    """The job's boards, None without."""
    keepalivehost: str
    """IP address of the host that last asked about the job, "" where unknown."""


class JobDetails(NamedTuple):
    """What `JobTuple` does not tell of a job."""

    heard_at: float
    """When somebody last asked about the job, by the monotonic clock."""
    rank: int
    """Of two jobs in a queue, the one with the lower rank is before the other."""
    queues: tuple[str, ...]
    """The machines in whose queues the job stands, highest priority first."""
    failure: str | None
    """What failed in the last place where it had boards."""
    waiting: Waiting | None = None
    """Where it stands and why it waits, if it does."""
    allocated_at: float | None = None
    """When it was given its boards, in seconds since 1970 (UTC); None without boards,
    and where that is not known."""


class MachineTuple(NamedTuple):
    """A machine in the answer of `Controller.list_machines`."""

    name: str
    tags: frozenset[str]
    width: int
    """In triads."""
    height: int
    """In triads."""
    dead_boards: frozenset[Board]
    dead_links: frozenset[BoardLink]
    """Dead links, each named from the board that sends."""
