"""Put jobs in order after an internal error in the midst of a change."""

from __future__ import annotations

import logging
from typing import Final

from spalloc_server.control.deadlines import Deadlines
from spalloc_server.control.job_lifecycle import INTERNAL_ERROR, JobLifecycle
from spalloc_server.control.state import State
from spalloc_server.model.board_index import BoardIndex
from spalloc_server.model.job import _Job
from spalloc_server.model.job_tuples import JobState

logger = logging.getLogger(__name__)

MAX_TRIES: Final = 3
"""How often power is asked for again after internal errors that a job meets."""


class JobMender:
    """Knows what errors may leave of jobs. With the controller's lock held."""

    def __init__(self, state: State, jobs: JobLifecycle, deadlines: Deadlines) -> None:
        """Look after the jobs of a state.

        :param jobs: changes them
        :param deadlines: watches them
        """
        self._state = state
        self._jobs = jobs
        self._deadlines = deadlines
        # How often in a row it was of no use to ask for the power of a job again.
        self._tries: dict[int, int] = {}

    def mend(self) -> None:
        """Put in order what an error in the midst of a change has left.

        Every job then has its boards, waits for some, or has ended; and no boards
        belong to nobody. Takes time in proportion to all jobs.
        """
        state, queue = self._state, self._state.job_queue
        failed_starts = self._jobs.failed_starts
        self._deadlines.watch_all_anew()
        state.boards = BoardIndex(state.machines.values(), state.jobs.values())
        # What is under way with the boards of others is left alone.
        stuck = [job for job in state.jobs.values() if _is_stuck(job)]
        stuck_off = [job for job in state.ending_jobs.values() if _is_stuck_off(job)]
        stuck_ids = [job.id for job in (*stuck, *stuck_off)]
        self._tries = {job_id: self._tries.get(job_id, 0) + 1 for job_id in stuck_ids}
        for job_id, times in list(failed_starts.items()):
            if times == 1 and job_id in state.jobs:
                continue
            job = state.jobs.get(job_id)
            if job is not None and job.boards is None:
                self._jobs.give_up(job)
            del failed_starts[job_id]
        for job in stuck_off:
            if self._tries[job.id] > MAX_TRIES:
                logger.error("The boards of job %d are freed as they are", job.id)
                del state.ending_jobs[job.id]
        with queue:
            with_boards = {id: job.boards is not None for id, job in state.jobs.items()}
            known = queue.mend(with_boards, state.ending_jobs)
            for job_id in sorted(with_boards.keys() - known):
                if with_boards[job_id]:
                    self._jobs.end(job_id, INTERNAL_ERROR)
                else:
                    self._queue_anew(state.jobs[job_id])
            for job_id in state.ending_jobs.keys() - known:
                del state.ending_jobs[job_id]
            for job in stuck:
                if job.id not in state.jobs:
                    continue
                if self._tries[job.id] > MAX_TRIES:
                    queue.destroy_job(job.id, INTERNAL_ERROR)
                else:
                    self._jobs.ask_again(job)
            for job in stuck_off:
                if job.id in state.ending_jobs:
                    self._jobs.ask_again_off(job)

    def _queue_anew(self, job: _Job) -> None:
        """Put a job into the queue that was lost on its way there."""
        queue = self._state.job_queue
        queue.add_job(
            queue.make_job(*job.args, **job.kwargs, job_id=job.id, owner=job.owner)
        )


def _is_stuck(job: _Job) -> bool:
    """Does a job wait for boards to be powered that nobody was asked for?"""
    return (
        job.boards is not None
        and job.state is not JobState.ready
        and not job.outstanding
    )


def _is_stuck_off(job: _Job) -> bool:
    """Does a job that has ended wait for boards that nobody is powering off?"""
    return job.power is not False or not job.outstanding
