"""How long jobs wait, as measured from their history."""

from __future__ import annotations

from collections.abc import Sequence

from spalloc_server.model.job_events import JobEvent
from spalloc_server.observe.stats import JOB_SECONDS, Tally


class WaitingTimes:
    """Tallies of waiting; changed by one thread, read by any."""

    def __init__(self) -> None:
        self.queued = Tally(JOB_SECONDS)
        """Seconds from the creation of jobs, or from when they lost faulty boards,
        until they were given boards."""
        self.preparing = Tally(JOB_SECONDS)
        """Seconds from when jobs were given boards until these were ready."""
        self._requeued: dict[int, float] = {}
        self._allocated: dict[int, float] = {}

    def open(self) -> None:
        """Nothing is needed."""

    def take(self, events: Sequence[JobEvent]) -> None:
        """Measure what some events complete."""
        for event in events:
            if event.kind == "allocated":
                since = self._requeued.pop(event.job_id, event.start_time)
                self.queued.add(max(0.0, event.time - since))
                self._allocated[event.job_id] = event.time
            elif event.kind == "ready":
                # Later times are power cycles that the user asked for.
                allocated = self._allocated.pop(event.job_id, None)
                if allocated is not None:
                    self.preparing.add(max(0.0, event.time - allocated))
            elif event.kind == "requeued":
                self._allocated.pop(event.job_id, None)
                self._requeued[event.job_id] = event.time
            elif event.kind == "destroyed":
                self._allocated.pop(event.job_id, None)
                self._requeued.pop(event.job_id, None)

    def close(self) -> None:
        """Nothing is left open."""
