"""The parts of the controller, put together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from spalloc_server.async_bmp_controller import AsyncBMPController
from spalloc_server.configuration import Machine
from spalloc_server.control.answers import Answers
from spalloc_server.control.availability import Availability
from spalloc_server.control.change_log import ChangeLog, EventFailedError
from spalloc_server.control.deadlines import Deadlines
from spalloc_server.control.finder import Finder
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.job_lifecycle import JobLifecycle
from spalloc_server.control.job_mending import JobMender
from spalloc_server.control.machine_set import MachineSet
from spalloc_server.control.orders import Orders
from spalloc_server.control.reports import Reports
from spalloc_server.control.sick_boards import SickBoards
from spalloc_server.control.state import PRESENT_RULES, State
from spalloc_server.control.withheld_reasons import WithheldReasons
from spalloc_server.model import changes


class Parts:
    """What knows and changes a state; none of it outlives the process.

    Nothing is done before `start`, but changes may be replayed.
    """

    def __init__(self, state: State, make_frames: Callable[[Machine], object]) -> None:
        """Put the parts together around a state.

        :param make_frames: makes the controllers of a machine's frames
        """
        self.state = state
        self.log = ChangeLog()
        self.frames = FrameControllers()
        self.availability = Availability(state)
        self.sick_boards = SickBoards(state, self.log, self.frames, self.availability)
        self.reports = Reports(state, self.log, self.sick_boards)
        self.deadlines = Deadlines(state, self.log)
        self.jobs = JobLifecycle(
            state, self.log, self.frames, self.sick_boards, self.deadlines
        )
        job_mender = JobMender(state, self.jobs, self.deadlines)
        self.machines = MachineSet(
            state,
            self.log,
            self.frames,
            self.sick_boards,
            self.availability,
            make_frames,
        )
        self.orders = Orders(state, self.log, self.availability)
        self.finder = Finder(state)
        self.withheld_reasons = WithheldReasons(state, self.availability)
        self.answers = Answers(state, self.withheld_reasons)
        self._make_frames = make_frames
        # What scheduling decides has to be decided again in a replay.
        state.job_queue.schedule_by(self.log.wall_time)
        # Which part does which change.
        self.log.connect(
            {
                changes.CreateJob: self.jobs.create,
                changes.DestroyJob: self.jobs.destroy,
                changes.PowerOnJob: self.jobs.power_on,
                changes.PowerOffJob: self.jobs.power_off,
                changes.TimedOut: self.deadlines.time_out,
                changes.Ready: self.jobs.ready,
                changes.Failed: self.jobs.fail,
                changes.Freed: self.jobs.free,
                changes.Cooled: self._give_out_cooled,
                changes.ReportProblem: self.reports.report,
                changes.ClearProblem: self.sick_boards.put_back,
                changes.ClearBoards: self.sick_boards.clear,
                changes.BoardIn: self.sick_boards.put_back,
                changes.BoardStillOut: self.sick_boards.leave_out,
                changes.BMPOut: self.sick_boards.take_frame_out,
                changes.BMPIn: self.sick_boards.put_frame_back,
                changes.Configured: self.machines.apply,
                changes.Drain: self.orders.drain,
                changes.Resume: self.orders.resume,
                changes.Close: self.orders.close,
                changes.Open: self.orders.open,
                changes.EndJobs: self.orders.end_jobs,
                changes.MoveJob: self.orders.move_job,
                changes.Rules: self._go_by_rules,
            },
            (self.machines.mend, self.sick_boards.mend, job_mender.mend),
        )

    def start(self) -> None:
        """Take up the work on the hardware, once."""
        # A frame may answer before the others have been asked.
        with self.log.lock:
            self.log.is_dormant = False
            self.sick_boards.schedule_tests()
            for machine in self.state.machines.values():
                self._make_frames(machine)
            self.jobs.start()
            if self.state.rules < PRESENT_RULES:
                self.log.happen(changes.Rules(PRESENT_RULES))
            for name in list(self.state.machines):
                self.machines.watch_frames(name)

    def _go_by_rules(self, change: changes.Rules) -> None:
        """Decide by other rules from now on."""
        self.state.rules = change.number
        with self.state.job_queue:
            for name in self.state.machines:
                self.availability.update(name)

    def all_frames(self) -> list[AsyncBMPController]:
        """The controllers of all frames that may still have something to do."""
        with self.log.lock:
            return self.frames.all()

    def look_after_boards(self) -> None:
        """Give out boards that have cooled down, and try those out of service again."""
        queue = self.state.job_queue
        with self.log.lock:
            # Noted before jobs get the boards, and so before what comes of that.
            with (
                contextlib.suppress(EventFailedError),
                self.log.in_order("cooled"),
                self.log.at_one_time(),
                queue,
            ):
                due = queue.is_due()
                freed = queue.check_free()
                if freed or due:
                    self.log.note(changes.Cooled(freed))
            with (
                contextlib.suppress(EventFailedError),
                self.log.in_order("tests of boards"),
            ):
                self.sick_boards.put_rested_back()
                self.sick_boards.test_boards()

    def _give_out_cooled(self, change: changes.Cooled) -> None:
        """Give out boards that had cooled down, in a replay."""
        self.state.job_queue.free_cooling(change.freed)
