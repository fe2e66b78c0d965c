"""When jobs end because nobody has asked about them for too long."""

from __future__ import annotations

import contextlib

from spalloc_server.control.change_log import ChangeLog, EventFailedError
from spalloc_server.control.state import State
from spalloc_server.model.changes import TimedOut
from spalloc_server.model.job import _Job
from spalloc_server.model.keepalives import Keepalives


class Deadlines:
    """Ends jobs that nobody keeps alive. With the controller's lock held."""

    def __init__(self, state: State, log: ChangeLog) -> None:
        """Watch no job yet.

        :param state: has the jobs
        :param log: what happens goes through it
        """
        self._state = state
        self._log = log
        self._keepalives = Keepalives()

    def watch(self, job: _Job) -> None:
        """End a job when its time has come."""
        self._keepalives.watch(job)

    def watch_all_anew(self) -> None:
        """Watch all jobs, whichever were watched before."""
        self._keepalives = Keepalives()
        for job in self._state.jobs.values():
            self._keepalives.watch(job)

    def destroy_timed_out(self, heard_until: float) -> None:
        """Destroy the jobs that had not been heard of for too long at some time."""
        find = self._state.jobs.get
        ids: list[int] = []
        try:
            with self._log.in_order("keepalives"):
                for job in self._keepalives.timed_out(heard_until, find):
                    ids.append(job.id)
                if ids:
                    self._log.happen(TimedOut(ids))
        except EventFailedError:
            # One by one, so that none is kept alive by the trouble with another.
            for job_id in ids:
                if job_id in self._state.jobs:
                    with contextlib.suppress(EventFailedError):
                        self._log.happen(TimedOut([job_id]))

    def excuse_silence(self, seconds: float) -> None:
        """Have the last seconds not count for keepalives: nobody could be heard."""
        for job in self._state.jobs.values():
            if job.keepalive_until is not None:
                job.keepalive_until += seconds

    def time_out(self, change: TimedOut) -> None:
        """End jobs that have not been heard of for too long."""
        # As one change: the boards of one are not for the next of them.
        with self._state.job_queue as queue:
            for job_id in change.job_ids:
                job = self._state.jobs[job_id]
                queue.destroy_job(job.id, "Job timed out.")
