"""Which jobs have not been heard of for too long."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Final

from spalloc_server.model.job import _Job

_LEAST_TO_TIDY: Final = 1000


class Keepalives:
    """Finds the jobs that have timed out without looking at all the others.

    Keeping a job alive costs nothing here: its old deadline is found to be out of
    date when it comes up, and replaced.
    """

    def __init__(self) -> None:
        self._deadlines: list[tuple[float, int]] = []
        self._tidy_at = _LEAST_TO_TIDY
        self._watched: set[int] = set()

    def watch(self, job: _Job) -> None:
        """Watch a job from now on, if it can time out at all and is not watched."""
        if job.keepalive_until is not None and job.id not in self._watched:
            self._watched.add(job.id)
            heapq.heappush(self._deadlines, (job.keepalive_until, job.id))

    def timed_out(
        self, now: float, find_job: Callable[[int], _Job | None]
    ) -> Iterator[_Job]:
        """The jobs that have timed out; they are no longer watched.

        :param now: by the monotonic clock
        :param find_job: gives the job of an ID, None if it has ended
        """
        if len(self._deadlines) > self._tidy_at:
            self._tidy(find_job)
        while self._deadlines and self._deadlines[0][0] <= now:
            _, job_id = heapq.heappop(self._deadlines)
            self._watched.remove(job_id)
            job = find_job(job_id)
            if job is None or job.keepalive_until is None:
                continue
            if job.keepalive_until <= now:
                yield job
            else:
                self.watch(job)

    def _tidy(self, find_job: Callable[[int], _Job | None]) -> None:
        """Forget jobs that have ended before their deadlines, which may be far off."""
        self._deadlines = [d for d in self._deadlines if find_job(d[1]) is not None]
        heapq.heapify(self._deadlines)
        self._watched = {job_id for _, job_id in self._deadlines}
        self._tidy_at = max(_LEAST_TO_TIDY, 2 * len(self._deadlines))
