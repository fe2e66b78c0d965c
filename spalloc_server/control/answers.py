"""What those are told who ask about jobs, of all that is known of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from spalloc_server.control.state import State
from spalloc_server.control.withheld_reasons import WithheldReasons
from spalloc_server.model.job import _Job
from spalloc_server.model.job_tuples import (
    JobDetails,
    JobMachineInfoTuple,
    JobState,
    JobStateTuple,
    JobTuple,
)
from spalloc_server.scheduling.waiting import Waiting

NO_BOARDS: Final = JobMachineInfoTuple(None, None, None, None, None)
"""What is told of the boards of a job that has none."""

_UNKNOWN_JOB: Final = JobStateTuple(JobState.unknown, None, None, None, None, None)


class Answers:
    """Tells of jobs, and changes nothing. With the controller's lock held."""

    def __init__(self, state: State, withheld_reasons: WithheldReasons) -> None:
        """Tell of the jobs of a state.

        :param withheld_reasons: knows why jobs wait for boards that are withheld
        """
        self._state = state
        self._withheld_reasons = withheld_reasons

    def ended_state(self, job_id: int) -> JobStateTuple:
        """The state of a job that has ended, or that there never was."""
        if job_id in self._state.retired_jobs:
            return _UNKNOWN_JOB._replace(
                state=JobState.destroyed, reason=self._state.retired_jobs[job_id]
            )
        return _UNKNOWN_JOB

    def boards(self, job: _Job | None) -> JobMachineInfoTuple:
        """The boards of a job; None for one that has ended."""
        if job is None or job.allocated_machine is None:
            return NO_BOARDS
        return job.machine_info_tuple()

    def all_of(
        self, job_id: int
    ) -> tuple[JobStateTuple, JobTuple | None, JobMachineInfoTuple]:
        """See `Controller.describe_job`."""
        job = self._state.jobs.get(job_id)
        if job is None:
            return self.ended_state(job_id), None, NO_BOARDS
        return job.state_tuple(), job.list_tuple(), self.boards(job)

    def waiting(self, job_id: int) -> Waiting | None:
        """Where a job stands and why it waits, None if it does not wait."""
        return self.waiting_of([job_id]).get(job_id)

    def waiting_of(self, job_ids: Iterable[int]) -> dict[int, Waiting]:
        """What `waiting` tells of those jobs of some that wait."""
        found = self._state.job_queue.waiting_of(job_ids)
        for job_id, waiting in found.items():
            if waiting.reason == "withheld":
                text = self._withheld_reasons.reason(self._state.jobs[job_id])
                found[job_id] = waiting._replace(text=text)
        return found

    def details(self, job_ids: Iterable[int]) -> dict[int, JobDetails]:
        """What `list_jobs` does not tell of those jobs of some that have not ended."""
        jobs = [job for job in map(self._state.jobs.get, job_ids) if job is not None]
        queued = [job.id for job in jobs if job.state is JobState.queued]
        waiting = self.waiting_of(queued).get
        return {job.id: job.details(waiting(job.id)) for job in jobs}
