"""Takes what happens to jobs out of the server's way, to where it is kept."""

from __future__ import annotations

import contextlib
import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final, Protocol

from spalloc_server.model.job_events import JobEvent
from spalloc_server.observe.observer import Observer

logger = logging.getLogger(__name__)

MOST_AT_ONCE: Final = 1000
"""How many events are passed on together."""

MOST_WAITING: Final = 50_000
"""How many events may wait for a disk that does not take them; some 50 MB."""

CLOSE_SECONDS: Final = 10.0
"""How long the end of the server waits for a disk that does not take them."""


class Consumer(Protocol):
    """Someone who keeps events; in one thread between opening and closing."""

    def open(self) -> None:
        """Get ready. May raise `OSError` to keep the server from starting."""

    def take(self, events: Sequence[JobEvent]) -> None:
        """Keep some events, which come in the order in which they happened."""

    def close(self) -> None:
        """There are no more events."""


class EventRecorder(Observer):
    """Passes what happens to jobs on to consumers, in a thread of its own.

    Their files may be slow or full without the server noticing, and a disk that hangs
    costs events, which are counted, but does not keep the server from ending.
    """

    def __init__(self, consumers: Sequence[Consumer]) -> None:
        self._consumers = consumers
        self._queue: queue.SimpleQueue[JobEvent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="History", daemon=True)
        self.on_job_event = self._put
        self._lost = 0
        # Of those that have been taken out of the queue. Belongs to the thread.
        self._under_way = 0

    def _put(self, event: JobEvent) -> None:
        """Queue an event. By any thread, with the controller's lock held."""
        if self._queue.qsize() < MOST_WAITING:
            self._queue.put(event)
            return
        if not self._lost:
            logger.error("Job history: the disk is too slow; events are lost")
        self._lost += 1

    def open(self) -> None:
        """Open all consumers, and start the thread."""
        with contextlib.ExitStack() as undo:
            for consumer in self._consumers:
                consumer.open()
                undo.callback(consumer.close)
            undo.pop_all()
        self._thread.start()

    def close(self) -> None:
        """Have the consumers take all there is, and close them; but not for ever."""
        self._queue.put(None)
        self._thread.join(CLOSE_SECONDS)
        if self._thread.is_alive():
            # The last in the queue is the end.
            waiting = self._queue.qsize() - 1 + self._under_way
            logger.error(
                "Job history: the disk has not responded for %g s; %d events are lost",
                CLOSE_SECONDS,
                max(0, waiting) + self._lost,
            )
        elif self._lost:
            logger.error("Job history: %d events are lost", self._lost)

    def _run(self) -> None:
        going_on = True
        while going_on:
            events = [self._queue.get()]
            with contextlib.suppress(queue.Empty):
                while len(events) < MOST_AT_ONCE:
                    events.append(self._queue.get_nowait())
            going_on = None not in events
            self._under_way = len(events) - (not going_on)
            self._pass_on([event for event in events if event is not None])
            self._under_way = 0
        for consumer in self._consumers:
            try:
                consumer.close()
            except Exception:
                logger.exception("Job history: unexpected error at the end")

    def _pass_on(self, events: Sequence[JobEvent]) -> None:
        for consumer in self._consumers:
            try:
                consumer.take(events)
            except Exception:
                # One that fails keeps nothing from the others.
                logger.exception("Job history: unexpected error")
