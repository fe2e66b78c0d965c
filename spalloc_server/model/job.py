"""What is known of a job inside the server."""

from __future__ import annotations

import time
from collections.abc import Set
from typing import Any, Final, NamedTuple

from spalloc_server.configuration import Machine
from spalloc_server.coordinates import (
    Board,
    BoardLink,
    Chip,
    WrapAround,
    board_to_chip,
    triad_dimensions_to_chips,
)
from spalloc_server.links import Links
from spalloc_server.model.job_events import JobEvent, Kind
from spalloc_server.model.job_tuples import (
    JobDetails,
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
)
from spalloc_server.scheduling.waiting import Waiting

NOTHING: Final[frozenset[Any]] = frozenset()
"""What jobs have none of. One for all: each empty set takes more than 200 bytes."""


class _Job:
    """A job that has not ended, or whose boards have not been powered off yet.

    Guarded by the lock of the controller that it belongs to.
    """

    __slots__ = (
        "allocated_at",
        "allocated_machine",
        "args",
        "boards",
        "connections",
        "failed_places",
        "failure",
        "faulty_boards",
        "heard_at",
        "height",
        "id",
        "keepalive",
        "keepalive_until",
        "kwargs",
        "lasthost",
        "machine_removed",
        "outstanding",
        "owner",
        "periphery",
        "power",
        "rank",
        "start_time",
        "state",
        "torus",
        "was_ready",
        "width",
    )

    def __init__(
        self,
        _id: int,
        owner: str,
        start_time: float | None = None,
        keepalive: float | None = 60.0,
        lasthost: str | None = None,
        state: JobState = JobState.queued,
        power: bool | None = None,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        allocated_machine: Machine | None = None,
        boards: set[Board] | None = None,
        periphery: set[BoardLink] | None = None,
        torus: WrapAround | None = None,
        width: int | None = None,
        height: int | None = None,
        connections: dict[Chip, str] | None = None,
        bmp_requests_until_ready: int = 0,
    ) -> None:
        """Describe a job; it counts as heard from just now.

        :param _id: the job's ID
        :param owner: who created it
        :param start_time: seconds since 1970 (UTC), None for now
        :param keepalive: seconds of silence after which it is destroyed, None for
            never
        :param lasthost: IP address of the host that last asked about it
        :param power: are the boards on, or going on?
        :param args: the size asked for
        :param kwargs: the demands made, which other jobs may have in common
        :param allocated_machine: what the boards belong to
        :param periphery: the links that leave the boards
        :param torus: the axes around which the boards wrap
        :param width: of the job's network, in chips
        :param height: of the job's network, in chips
        :param connections: hostnames by Ethernet chip
        :param bmp_requests_until_ready: requests to frames not answered yet
        """
        self.id = _id
        self.owner = owner
        self.start_time = time.time() if start_time is None else start_time
        self.keepalive = keepalive
        self.lasthost = lasthost
        self.state = state
        self.power = power
        self.args = args
        self.kwargs = {} if kwargs is None else kwargs
        self.allocated_machine = allocated_machine
        self.boards = boards
        self.periphery = periphery
        self.torus = torus
        self.width = width
        self.height = height
        self.connections = connections
        self.outstanding: Set[int] = NOTHING
        """The requests to frames that are not answered yet, by their numbers. One
        below 1 stands for some that nobody will answer: they are made again. Never
        changed, but replaced by others."""
        if bmp_requests_until_ready:
            self.outstanding = set(range(-bmp_requests_until_ready, 0))
        self.keepalive_until: float | None = None
        """When the job times out, by the monotonic clock; None for never."""
        self.allocated_at: float | None = None
        """When it was given its boards, in seconds since 1970 (UTC); None without
        boards, and where that is not known."""
        self.was_ready = False
        """Has it been ready before?"""
        self.failed_places = 0
        """In how many places its boards could not be powered on."""
        self.failure: str | None = None
        """What failed in the last of these places."""
        self.faulty_boards: Set[Board] = NOTHING
        """Of a job that has ended: boards that could not be powered off. Replaced by
        others likewise."""
        self.machine_removed = False
        """Of a job that has ended: was its machine removed meanwhile?"""
        self.rank = _id
        """Jobs wait in this order: first come first, but see `queued_again`."""
        self.update_keepalive(lasthost)

    def __repr__(self) -> str:
        return f"<_Job {self.id} {self.state.name}>"

    def update_keepalive(self, host: str | None) -> None:
        """Note that the job was asked about.

        :param host: the asker's IP address, None if it is not known
        """
        if host is not None:
            self.lasthost = host
        self.heard_at = time.monotonic()
        if self.keepalive is not None:
            self.keepalive_until = self.heard_at + self.keepalive

    def queued_again(self, rank: int) -> _Job:
        """The same job without boards.

        :param rank: below that of all others, to wait before them
        """
        job = _Job(
            self.id,
            self.owner,
            self.start_time,
            self.keepalive,
            self.lasthost,
            args=self.args,
            kwargs=self.kwargs,
        )
        job.heard_at = self.heard_at
        job.keepalive_until = self.keepalive_until
        job.rank = rank
        job.failed_places = self.failed_places
        job.failure = self.failure
        return job

    def give_boards(
        self,
        machine: Machine,
        boards: set[Board],
        periphery: set[BoardLink],
        torus: WrapAround,
    ) -> None:
        """Note the boards that the job was allocated."""
        self.allocated_machine = machine
        self.boards = boards
        self.periphery = periphery
        self.torus = torus
        left, bottom = self.corner
        if len(boards) == 1:
            # A board on its own is a network of 8 x 8 chips, wherever it stands.
            self.width = self.height = 8
            self.connections = {(0, 0): machine.spinnaker_ips[next(iter(boards))]}
        else:
            self.width, self.height = triad_dimensions_to_chips(
                max(x for x, _, _ in boards) - left + 1,
                max(y for _, y, _ in boards) - bottom + 1,
                torus,
            )
            self.connections = {
                board_to_chip(x - left, y - bottom, z): machine.spinnaker_ips[x, y, z]
                for x, y, z in boards
            }

    @property
    def bmp_requests_until_ready(self) -> int:
        """How many requests to frames are not answered yet."""
        return len(self.outstanding)

    @property
    def machine(self) -> Machine:
        """The machine that the boards belong to, of a job that has boards."""
        assert self.allocated_machine is not None
        return self.allocated_machine

    @property
    def corner(self) -> tuple[int, int]:
        """The bottom-left triad of the job's boards."""
        boards = self.boards or ()
        return min(x for x, _, _ in boards), min(y for _, y, _ in boards)

    @property
    def origin(self) -> Chip:
        """The chip of the machine that is chip (0, 0) of the job."""
        boards = self.boards or ()
        if len(boards) == 1:
            return board_to_chip(*next(iter(boards)))
        return board_to_chip(*self.corner, 0)

    def boards_by_frame(self) -> dict[tuple[int, int], FrameBoards]:
        """The job's boards and peripheral links, by (cabinet, frame)."""
        locations = self.machine.board_locations
        frames: dict[tuple[int, int], FrameBoards] = {}
        for board in sorted(self.boards or ()):
            cabinet, frame, number = locations[board]
            frames.setdefault((cabinet, frame), FrameBoards([], [])).boards.append(
                number
            )
        for x, y, z, link in sorted(self.periphery or ()):
            cabinet, frame, number = locations[x, y, z]
            frames[cabinet, frame].periphery.append((number, link))
        return frames

    def state_tuple(self) -> JobStateTuple:
        """What those who ask about the job are told."""
        return JobStateTuple(
            self.state,
            self.power,
            self.keepalive,
            None,
            self.start_time,
            self.lasthost,
        )

    def machine_info_tuple(self) -> JobMachineInfoTuple:
        """What those who ask about the boards are told, of a job that has boards."""
        return JobMachineInfoTuple(
            self.width, self.height, self.connections, self.machine.name, self.boards
        )

    def list_tuple(self) -> JobTuple:
        """What those who ask about all jobs are told."""
        machine = self.allocated_machine
        fields = (
            self.id,
            self.owner,
            self.start_time,
            self.keepalive,
            self.state,
            self.power,
            self.args,
            self.kwargs,
            None if machine is None else machine.name,
            self.boards,
            self.lasthost or "",
        )
        # All jobs are listed in one go, and by its own name it takes a third longer.
        return tuple.__new__(JobTuple, fields)

    def details(self, waiting: Waiting | None) -> JobDetails:
        """What those who only look on are told besides.

        :param waiting: what the job queue knows of it
        """
        places = () if waiting is None else waiting.places
        queues = tuple([place.machine for place in places])
        return JobDetails(
            self.heard_at, self.rank, queues, self.failure, waiting, self.allocated_at
        )

    def job_event(self, kind: Kind, wall_time: float, reason: str | None) -> JobEvent:
        """What those who keep a history are told of a change of the job.

        :param wall_time: seconds since 1970 (UTC)
        """
        machine = self.allocated_machine
        return JobEvent(
            kind,
            wall_time,
            self.id,
            self.owner,
            self.lasthost,
            self.args,
            self.kwargs,
            self.start_time,
            None if machine is None else machine.name,
            None if self.boards is None else frozenset(self.boards),
            self.power,
            reason,
        )


class FrameBoards(NamedTuple):
    """The part of a job's hardware that one BMP controls."""

    boards: list[int]
    """Numbers of the boards in their frame."""
    periphery: list[tuple[int, Links]]
    """The peripheral links of these boards."""
