"""What an owner may have at a time, and what each owner has."""

from __future__ import annotations

from collections import Counter

from spalloc_server.scheduling.machine import _Job


class Limits:
    """Counts of boards and jobs by owner. Jobs without an owner are not counted.

    What is not limited is not counted, either.
    """

    def __init__(self, boards: int | None = None, jobs: int | None = None) -> None:
        """Start with nobody who has anything.

        :param boards: how many boards an owner may hold, None for any number
        :param jobs: how many jobs that have not ended an owner may have, None for any
            number
        """
        self.boards = boards
        self.jobs = jobs
        self._boards_held: Counter[str] = Counter()
        self._jobs_alive: Counter[str] = Counter()

    def take_on(self, job: _Job) -> str | None:
        """A job has been created; why its owner must not have it, None if it may be.

        It counts until it is discarded in any case.
        """
        if job.owner is None or self.jobs is self.boards is None:
            return None
        alive = self._jobs_alive[job.owner]
        self.add(job)
        if self.jobs is not None and alive >= self.jobs:
            return (
                f"{job.owner} has as many jobs as an owner may have at a time: "
                f"{self.jobs}."
            )
        if self.boards is not None and job.boards > self.boards:
            return (
                f"It takes {job.boards} boards, and an owner may hold "
                f"{self.boards} at a time."
            )
        return None

    def held_by(self, owner: str) -> int:
        """For how many boards the jobs of an owner count that have boards."""
        return self._boards_held[owner]

    def add(self, job: _Job) -> None:
        """A job has been created."""
        if self.jobs is not None:
            _count(self._jobs_alive, job.owner, 1)

    def discard(self, job: _Job) -> None:
        """A job has ended."""
        if self.jobs is not None:
            _count(self._jobs_alive, job.owner, -1)

    def hold(self, job: _Job) -> None:
        """A job has got its boards."""
        if self.boards is not None:
            _count(self._boards_held, job.owner, job.boards)

    def release(self, job: _Job) -> None:
        """A job has lost its boards, or has ended."""
        if self.boards is not None:
            _count(self._boards_held, job.owner, -job.boards)


def _count(counts: Counter[str], owner: str | None, number: int) -> None:
    if owner is not None:
        counts[owner] += number
        if not counts[owner]:
            del counts[owner]
