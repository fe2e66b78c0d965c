"""The power of jobs' boards: requests to frames, their results, and boards at fault."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from spalloc_server.configuration import Machine
from spalloc_server.control.frames import Frame, FrameControllers
from spalloc_server.coordinates import Board
from spalloc_server.hardware.requests import AtomicRequests
from spalloc_server.model.job import _Job


@dataclass(frozen=True, slots=True)
class FrameResult:
    """How a request to one frame on behalf of a job has ended."""

    job: _Job
    problem: str | None = None
    """What is wrong, for people; None if all was done."""
    at_fault: Callable[[], frozenset[Board]] = frozenset
    """Finds the boards, as coordinates in the machine, that it is wrong with."""
    silent: bool = False
    """Is it only that their BMP does not answer?"""

    @property
    def success(self) -> bool:
        """Was all done?"""
        return self.problem is None


class JobPower:
    """Asks the frames of jobs to change the power and the links of their boards."""

    def __init__(
        self, frames: FrameControllers, on_done: Callable[[int, FrameResult], object]
    ) -> None:
        """Send requests to frames.

        :param frames: of all machines
        :param on_done: ``f(number, result)``, called once for each request, by the
            frame's thread and without a lock. The number is the one that `request`
            has put into the job's `outstanding`.
        """
        self._frames = frames
        self._on_done = on_done
        self._numbers = itertools.count(1)

    def request(self, job: _Job, power: bool, link_enable: bool | None) -> None:
        """Have the boards of a job powered on or off. With the controller's lock.

        :param link_enable: open the links (True), close them (False), or leave them
            as they are (None)
        """
        name = job.machine.name
        parts = job.boards_by_frame()
        numbers = [next(self._numbers) for _ in parts]
        # All are outstanding before one can report.
        job.outstanding = {*job.outstanding, *numbers}
        for number, (frame, part) in zip(numbers, parts.items(), strict=True):
            done = partial(self._frame_done, number, job, frame, part.boards)
            requests = AtomicRequests(done)
            for board in part.boards:
                requests.power(board, power)
            if link_enable is not None:
                for board, link in part.periphery:
                    requests.link(board, link, link_enable)
            # One that is lost still counts as not answered, so that it is made after
            # the restart.
            self._frames.add_requests(name, frame, requests)

    def _frame_done(
        self,
        number: int,
        job: _Job,
        frame: Frame,
        boards: Iterable[int],
        success: bool,
        reason: object = None,
    ) -> None:
        """Take the result of a request to one frame. Called by that frame's thread.

        :param boards: what the request was about, as numbers in the frame
        :param reason: why it failed; may say which boards are at fault, else all are
        """
        result = FrameResult(job)
        if not success:
            numbers = getattr(reason, "boards", None) or boards
            at_fault = partial(_boards_at, job, frame, numbers)
            silent = getattr(reason, "silent", False)
            result = FrameResult(job, str(reason), at_fault, silent)
        self._on_done(number, result)


def _boards_at(job: _Job, frame: Frame, numbers: Iterable[int]) -> frozenset[Board]:
    """The boards of a job with certain numbers in a frame.

    Numbers of others are left out: a job answers for its own boards only.
    """
    cabinet, row = frame
    locations = job.machine.board_locations
    at = {locations[board]: board for board in job.boards or ()}
    places = ((cabinet, row, number) for number in numbers)
    return frozenset(at[place] for place in places if place in at)


def boards_still_there(job: _Job, machines: Mapping[str, Machine]) -> list[Board]:
    """The faulty boards of an ended job, in order, as far as they can be found.

    :param machines: those there are now; the job's may be another one of its name
    """
    if not job.machine_removed:
        return sorted(job.faulty_boards)
    old = job.machine
    new = machines.get(old.name)
    if new is None:
        return []
    return [
        board
        for board in sorted(job.faulty_boards)
        if new.board_locations.get(board) == (place := old.board_locations[board])
        and new.bmp_ips.get(place[:2]) == old.bmp_ips[place[:2]]
    ]
