"""The power of a job's boards: requests to the frames, and the boards at fault."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial

from spalloc_server.configuration import Machine
from spalloc_server.control.frames import Frame, FrameControllers
from spalloc_server.coordinates import Board
from spalloc_server.hardware.requests import AtomicRequests
from spalloc_server.model.job import _Job


class FaultyBoards(str):
    """Why boards failed, with the boards in question."""

    boards: frozenset[Board]

    def __new__(cls, reason: object, boards: Iterable[Board]) -> FaultyBoards:
        """Make one from any reason."""
        faulty = super().__new__(cls, reason)
        faulty.boards = frozenset(boards)
        return faulty


class JobPower:
    """Asks the frames of a job to change the power and the links of its boards."""

    def __init__(
        self,
        bmps: FrameControllers,
        on_done: Callable[[_Job, bool, FaultyBoards | None], object],
    ) -> None:
        """Send requests to BMPs.

        :param bmps: of all machines
        :param on_done: ``f(job, success, reason)``, called once for each frame of each
            request, by the frame's thread and without a lock
        """
        self._bmps = bmps
        self._on_done = on_done

    def request(self, job: _Job, power: bool, link_enable: bool | None) -> None:
        """Have the boards of a job powered on or off. With the controller's lock.

        :param link_enable: open the links (True), close them (False), or leave them
            as they are (None)
        """
        name = job.machine.name
        frames = job.boards_by_frame()
        # All are counted before one can report.
        job.bmp_requests_until_ready += len(frames)
        for frame, part in frames.items():
            done = partial(self._frame_done, job, frame, part.boards)
            requests = AtomicRequests(done)
            for board in part.boards:
                requests.power(board, power)
            if link_enable is not None:
                for board, link in part.periphery:
                    requests.link(board, link, link_enable)
            # One that is lost still counts as not answered, so that it is made after
            # the restart.
            self._bmps.add_requests(name, frame, requests)

    def _frame_done(
        self,
        job: _Job,
        frame: Frame,
        numbers: Iterable[int],
        success: bool,
        reason: str | None = None,
    ) -> None:
        """Take the result of a request to one frame. Called by that frame's thread.

        :param numbers: the boards that the request was about
        :param reason: why it failed; may say which boards are at fault, else all are
        """
        faulty = None
        if not success:
            at_fault = getattr(reason, "boards", None) or numbers
            boards = {
                location: board
                for board, location in job.machine.board_locations.items()
            }
            cabinet, row = frame
            faulty = FaultyBoards(
                reason, (boards[cabinet, row, number] for number in at_fault)
            )
        self._on_done(job, success, faulty)


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
