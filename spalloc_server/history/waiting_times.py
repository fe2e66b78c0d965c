"""How long jobs wait, as measured from their history."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, Final

from spalloc_server.model.job_events import JobEvent
from spalloc_server.model.load import boards_asked
from spalloc_server.observe.stats import JOB_SECONDS, Tally

_BOUNDS: Final = (1, 3, 12, 48, 192, 768)

SIZES: Final = (
    "1",
    *(f"{low + 1}-{high}" for low, high in pairwise(_BOUNDS)),
    f"over {_BOUNDS[-1]}",
)
"""Classes of size, in boards."""


def size_class(args: Sequence[Any]) -> str:
    """Of which class of `SIZES` a job is that asks for this."""
    return SIZES[bisect_left(_BOUNDS, boards_asked(args))]


class WaitingTimes:
    """Tallies of waiting; changed by one thread, read by any."""

    def __init__(
        self, on_wait: Callable[[JobEvent, float], object] | None = None
    ) -> None:
        """Start without any.

        :param on_wait: called with each event by which a job is given boards, and for
            how many seconds it has waited for them
        """
        self._on_wait = on_wait
        self.queued = Tally(JOB_SECONDS)
        """Seconds from the creation of jobs, or from when they lost faulty boards,
        until they were given boards."""
        self.queued_by_size = {size: Tally(JOB_SECONDS) for size in SIZES}
        """The same by how many boards were asked for."""
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
                waited = max(0.0, event.time - since)
                self.queued.add(waited)
                self.queued_by_size[size_class(event.args)].add(waited)
                if self._on_wait is not None:
                    self._on_wait(event, waited)
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
