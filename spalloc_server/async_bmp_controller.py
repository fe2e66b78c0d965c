"""Power and links of the boards of one frame, changed in the background.

Each frame has one `AsyncBMPController` with one thread, so that a slow or dead BMP
touches no other frame.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterable
from types import TracebackType

from spalloc_server.hardware import counts
from spalloc_server.hardware.performing import Performer
from spalloc_server.hardware.requests import AtomicRequests, Failure, LinkRequest
from spalloc_server.hardware.schedule import Schedule, Stage, Step, Task
from spalloc_server.hardware.transceiver import BMPError, BMPTransceiver
from spalloc_server.links import Links

__all__ = ["AsyncBMPController", "AtomicRequests", "Failure", "LinkRequest"]

logger = logging.getLogger(__name__)

_ASK = Step(Stage.CHECK, [])
"""Not a step of any task: ask the BMP whether it is there."""

_TELL = Step(Stage.LINKS, [])
"""Not a step of any task: only tell the results of what was overtaken."""


class AsyncBMPController:
    """Carries out requests to the boards of one frame in a thread of its own.

    The thread starts at once and runs until `stop`. It sends one command at a time, but
    waiting for boards to settle, and for a failed request to be tried again, takes
    nothing from other requests: see `spalloc_server.hardware.schedule` for how they are
    ordered and merged. Of the requests to power a board only the last one counts: what
    it overtakes ends at once, as a success. A request fails after two tries, with a
    `Failure` that names the boards at fault where they can be told from others; those
    are all boards of the request if the BMP does not do or answer a power command.

    Used as a context manager, it holds requests back until the context ends, so that
    those added within it start together. Every method may be called from any thread.

    :param hostname: hostname or IPv4 address of the BMP of the frame's board 0, looked
        up in `bmp_directory`. It need not resolve or answer: that is found out, and
        told to ``on_done``, when there is something to do.
    :param on_thread_start: called by the thread before anything else. It may block, for
        example until an earlier controller of the same frame has finished.
    """

    RETRY_SECONDS = 15.0
    """Pause before a failed request is tried again. Stopping cuts it short."""

    MERGE_SECONDS = 0.05
    """How long a power-on is held back so that others can be merged with it: very short
    beside the seconds that a power-on takes, long beside the time between the commands
    of clients that start together."""

    FIRST_PAUSE = 5.0
    """Seconds until a BMP that did not answer is asked again, see `watch`."""

    PAUSE_AFTER_ERROR = 1.0
    """Seconds after an internal error for which there was no request to blame."""

    LONGEST_PAUSE = 300.0
    """It is left for twice as long each time, but never longer than this."""

    STOP_SECONDS = 20.0
    """How long after `stop` commands are still sent, and answers waited for."""

    JOIN_SECONDS = 2.0
    """How much longer `join` waits for the thread: it may be looking up a name."""

    def __init__(
        self, hostname: str, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        self.hostname = hostname
        self._on_thread_start = on_thread_start
        self._transceiver = BMPTransceiver(hostname)
        self._give_up_at = math.inf
        self._performer = Performer(
            hostname,
            self._transceiver,
            retry_seconds=lambda: self.RETRY_SECONDS,
            gives_up=lambda: time.monotonic() >= self._give_up_at,
            is_watched=self._is_watched,
            on_silence=self._note_silence,
        )
        # The schedule belongs to the thread. What follows the condition is shared with
        # other threads under it.
        self._schedule = Schedule()
        # Those that have just got into it, or were to.
        self._taken_in: list[Task] = []
        self._condition = threading.Condition()
        self._incoming: list[tuple[float, Task]] = []
        self._held = 0
        self._on_answer: Callable[[str | None], object] | None = None
        # When to ask the BMP whether it is there, and how long to wait after that.
        self._ask_at: float | None = None
        self._pause = 0.0
        # Was `_on_answer` told that the BMP does not answer? Belongs to the thread.
        self._silence_told = False
        self._stopping = False
        self._abandoned = False
        self._ended = False
        self._thread = threading.Thread(
            target=self._run, name=f"BMP {hostname}", daemon=True
        )
        self._thread.start()

    def __enter__(self) -> AsyncBMPController:
        with self._condition:
            self._held += 1
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._condition:
            self._held -= 1
            self._condition.notify_all()

    def add_requests(self, atomic_requests: AtomicRequests) -> None:
        """Have a group of requests carried out.

        Its ``on_done`` is called exactly once, from the thread of this controller, and
        with no lock held; but not at all if `stop` left no time for it.

        :raises RuntimeError: if the controller has been stopped and its thread has
            ended
        """
        task = Task(atomic_requests)
        with self._condition:
            if self._ended:
                raise RuntimeError(f"the controller of BMP {self.hostname} has ended")
            self._incoming.append((time.monotonic() + self.MERGE_SECONDS, task))
            self._condition.notify_all()

    def watch(self, on_answer: Callable[[str | None], object]) -> None:
        """Find out whether the BMP answers: now, and when requests fail for silence.

        :param on_answer: called with what is wrong if the BMP twice did not answer, and
            with None as soon as it does answer. It runs in the thread of this
            controller, with no lock held, and before the result of a request that
            failed for that.
        """
        with self._condition:
            self._on_answer = on_answer
            self._ask_at = time.monotonic()
            self._condition.notify_all()

    def finish(self) -> None:
        """Have the thread end once everything asked for has been carried out.

        Returns at once. Requests that wait to be tried again are tried at once.
        """
        with self._condition:
            self._stopping = True
            self._condition.notify_all()

    def stop(self) -> None:
        """Have the thread end soon: as `finish`, but for no more than `STOP_SECONDS`.

        Returns at once. What has not been done by then is lost: nothing is told of it.
        """
        with self._condition:
            self._stopping = True
            limit = time.monotonic() + self.STOP_SECONDS
            self._give_up_at = min(self._give_up_at, limit)
            self._transceiver.give_up_at = self._give_up_at
            self._condition.notify_all()

    def join(self) -> None:
        """Wait until the thread has ended.

        One that does not end in time after `stop` is left to itself; it tells nothing
        more.
        """
        while self._thread.is_alive():
            # `stop` may be called meanwhile.
            if time.monotonic() > self._give_up_at + self.JOIN_SECONDS:
                self._abandoned = True
                logger.error("BMP %s: its thread does not end", self.hostname)
                break
            self._thread.join(0.5)

    @property
    def has_ended(self) -> bool:
        """Has the thread ended?"""
        return not self._thread.is_alive()

    def _run(self) -> None:
        """Carry out requests until stopped: the body of the thread."""
        if self._on_thread_start is not None:
            try:
                self._on_thread_start()
            except Exception:
                logger.exception(
                    "BMP %s: unexpected error while its thread was started",
                    self.hostname,
                )
        going_on = True
        while going_on:
            try:
                going_on = self._do_next()
            except Exception as error:
                # In the schedule itself, so none of its tasks can be relied on.
                logger.exception("BMP %s: internal error", self.hostname)
                going_on = self._give_up_all(f"internal error: {error!r}")
        self._transceiver.close()

    def _do_next(self) -> bool:
        """Do the next thing that there is to do; False when the thread is to end."""
        step = self._next_step()
        if step is None:
            return False
        if step is _ASK:
            self._ask()
            return True
        try:
            if step is not _TELL:
                self._performer.perform(step)
        except Exception as error:
            # A defect here must not leave jobs waiting for ever.
            logger.exception("BMP %s: internal error", self.hostname)
            for task in step.tasks:
                if task.result is None:
                    self._performer.fail(
                        task, f"internal error: {error!r}", task.boards
                    )
        self._report(self._schedule.take_ended())
        return True

    def _give_up_all(self, problem: str) -> bool:
        """Have all tasks of the schedule fail for good; False at the end."""
        tasks = self._schedule.abandon()
        tasks += [task for task in self._taken_in if task not in tasks]
        self._taken_in.clear()
        for task in tasks:
            if task.result is None:
                task.result = (False, Failure(problem, frozenset(task.boards)))
        self._report(tasks)
        with self._condition:
            if self._stopping and not self._incoming:
                self._ended = True
                return False
            if not tasks:  # it may happen again at once, so there is no hurry
                self._condition.wait(self.PAUSE_AFTER_ERROR)
        return True

    def _next_step(self) -> Step | None:
        """Wait for something to do; None when the thread is to end."""
        with self._condition:
            while True:
                self._taken_in.clear()
                while self._incoming and not self._held:
                    due, task = self._incoming.pop(0)
                    self._taken_in.append(task)
                    self._schedule.add(task, due)
                if self._stopping:
                    self._schedule.hurry()
                now = time.monotonic()
                if now >= self._give_up_at:
                    self._ended = True
                    self._tell_losses()
                    return None
                if self._schedule.has_ended_tasks:
                    return _TELL
                step = self._schedule.next_step(now)
                if step is not None:
                    return step
                if self._stopping and not self._schedule and not self._incoming:
                    self._ended = True
                    return None
                due_next = self._schedule.next_due()
                if self._ask_at is not None and not self._stopping:
                    if self._ask_at <= now:
                        return _ASK
                    due_next = min(self._ask_at, due_next or self._ask_at)
                if self._give_up_at < math.inf:
                    due_next = min(self._give_up_at, due_next or self._give_up_at)
                self._condition.wait(None if due_next is None else due_next - now)

    def _tell_losses(self) -> None:
        """Log what there was no time for. With the condition."""
        lost = len(self._schedule) + len(self._incoming)
        if lost:
            logger.warning(
                "BMP %s: stopped with %d requests not done", self.hostname, lost
            )

    def _ask(self) -> None:
        """Ask the BMP whether it is there, and tell what is news."""
        try:
            self._transceiver.version()
            problem = None
        except BMPError as error:
            problem = str(error)
        if problem is None:
            with self._condition:
                self._ask_at, self._pause = None, 0.0
            self._silence_told = False
            self._schedule.bmp_answers(time.monotonic())
            self._tell_answer(None)
        elif self._ask_again_later() and not self._silence_told:
            self._silence_told = True
            self._tell_answer(problem)

    def _ask_again_later(self) -> bool:
        """Put off asking the BMP whether it is there; tell if that was done before."""
        with self._condition:
            before = self._pause
            self._pause = min(max(self.FIRST_PAUSE, 2 * before), self.LONGEST_PAUSE)
            self._ask_at = time.monotonic() + self._pause
        return before > 0

    def _tell_answer(self, problem: str | None) -> None:
        with self._condition:
            on_answer = self._on_answer
        if on_answer is None or time.monotonic() >= self._give_up_at:
            return
        try:
            on_answer(problem)
        except Exception:
            logger.exception(
                "BMP %s: unexpected error while its answer was handled", self.hostname
            )
            # So that it is told again.
            self._silence_told = False
            self._ask_again_later()

    def _is_watched(self) -> bool:
        """Will the BMP be asked again until it answers, and that be told?"""
        with self._condition:
            return self._on_answer is not None and not self._stopping

    def _note_silence(self, problem: str) -> None:
        """Tell that the BMP, which has answered before, does not answer any more."""
        if self._is_watched() and not self._silence_told:
            self._silence_told = True
            self._ask_again_later()
            self._tell_answer(problem)

    def _set_link_state(
        self, link: Links, enable: bool, board: int | Iterable[int]
    ) -> None:
        """See `Performer.set_link_state`."""
        self._performer.set_link_state(link, enable, board)

    def _report(self, ended: list[Task]) -> None:
        """Tell the results of tasks that have ended."""
        for task in ended:
            assert task.result is not None
            if self._abandoned:
                return
            success, reason = task.result
            try:
                try:
                    counts.note_request(self.hostname, success)
                finally:
                    # In any case: somebody waits for it.
                    if success:
                        task.on_done(True)
                    else:
                        task.on_done(False, reason)
            except Exception:
                logger.exception(
                    "BMP %s: unexpected error while its result was handled",
                    self.hostname,
                )
