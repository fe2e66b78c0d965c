"""Gets snapshots out of the server, and pushes what changes to those who listen."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Final

from spalloc_server.web.complaints import Complaints
from spalloc_server.web.encoding import encode
from spalloc_server.web.snapshot import Snapshot, State, changes_between, to_state

INTERVAL: Final = 0.5
"""Seconds from one look for changes to the next, at least."""

IDLE_FACTOR: Final = 10.0
"""This thread rests so many times longer than the last round has kept it busy, to
leave the interpreter to the server's loop."""

LONGEST_REST: Final = 3.0
"""But never longer than so many seconds: when a thousand pages have come at once, they
do not have to wait until that has been rested from."""

SLICE: Final = 20
"""So many listeners are given a change at once; then the server's loop has a chance."""

SLICE_PAUSE: Final = 0.002
"""Seconds between two slices."""

MAX_WAITING: Final = 50
"""So many messages may wait for a listener. One that is slower gets the whole state
again when it is ready for it."""

HEARD_INTERVAL: Final = 5.0
"""Seconds from one time that pages are told which jobs were asked about to the next:
in a busy server some job is, all the time."""

ABOUT_INTERVAL: Final = 30.0
"""Seconds from one time that pages are told when jobs may start to the next: each job
that starts says something about all that wait."""

ABOUT_SHARE: Final = 0.1
"""And only of those for which it has changed by such a share of the time until then."""

PING_INTERVAL: Final = 15.0
"""Seconds of silence after which a listener is told that all is well."""

PING: Final = b"event: ping\ndata: {}\n\n"

PATIENCE: Final = 5.0
"""Seconds after which the server's loop counts as stuck."""


class NoSnapshotError(TimeoutError):
    """The server's state is not known at present; the message says why."""


class Feed:
    """For the web thread's event loop, but for what it calls."""

    def __init__(
        self,
        request_snapshot: Callable[[], object],
        complaints: Complaints | None = None,
    ) -> None:
        """Start without a snapshot.

        :param request_snapshot: has `deliver` or `fail` called soon,
            in the event loop
        :param complaints: told of what goes wrong
        """
        self._complaints = Complaints() if complaints is None else complaints
        self._request_snapshot = request_snapshot
        self._snapshot: Snapshot | None = None
        self._taken_at = 0.0
        self._pending: asyncio.Future[Snapshot] | None = None
        self._state: State | None = None
        self._number = 0
        self._listeners: set[_Listener] = set()
        self._somebody_listens = asyncio.Event()
        self._whole: bytes | None = None
        self._tell_heard_at = 0.0
        self._tell_about_at = 0.0
        self._pushed_at = time.monotonic()

    def deliver(self, snapshot: Snapshot) -> None:
        """Take in a snapshot."""
        self._snapshot = snapshot
        self._taken_at = time.monotonic()
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.set_result(snapshot)

    def fail(self, reason: str) -> None:
        """There is no snapshot this time; say why to those who wait for it."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.set_exception(NoSnapshotError(reason))
            pending.exception()  # is not missed where nobody waits any more

    async def latest(self, max_age: float = INTERVAL) -> Snapshot:
        """A snapshot that is not older than some seconds.

        Whoever comes after a failure has another one asked for.

        :raises NoSnapshotError: where the server's loop does not answer, or fails
        """
        if self._snapshot is not None and (
            time.monotonic() - self._taken_at <= max_age
        ):
            return self._snapshot
        if self._pending is None:
            self._pending = asyncio.get_running_loop().create_future()
            try:
                self._request_snapshot()
            except Exception as e:
                self.fail(f"the server cannot be asked: {e}")
                raise NoSnapshotError("the server cannot be asked") from e
        pending = self._pending
        try:
            return await asyncio.wait_for(asyncio.shield(pending), PATIENCE)
        except NoSnapshotError:
            raise
        except asyncio.TimeoutError:  # not the same as the built-in one before 3.11
            if self._pending is pending:
                self._pending = None
            raise NoSnapshotError("the server does not answer") from None

    async def run(self) -> None:
        """Look for changes while somebody listens. Runs until cancelled."""
        busy_until = time.thread_time()
        while True:
            await self._somebody_listens.wait()
            try:
                await self._look()
            except NoSnapshotError:
                pass
            except Exception as e:
                # The next look may well succeed.
                self._complaints.note("changes cannot be told", exc_info=e)
            # With what has been sent since the last round.
            busy, busy_until = time.thread_time() - busy_until, time.thread_time()
            rest = min(IDLE_FACTOR * busy, LONGEST_REST)
            await asyncio.sleep(max(INTERVAL, rest))

    async def _look(self) -> None:
        """Push what has changed, if anything has."""
        state = self._without_haste(to_state(await self.latest(0.0)))
        changes = changes_between(self._state, state)
        if changes is not None:
            message = _message("change", self._number + 1, changes)
            self._state = state
            self._number += 1
            self._whole = None
            await self._push(message)
        elif time.monotonic() - self._pushed_at >= PING_INTERVAL:
            await self._push(PING)

    def _without_haste(self, state: State) -> State:
        """The state, but of what changes all the time only now and then the latest.

        That is when jobs were asked about, and when they may start. That of new jobs is
        there always.
        """
        told = self._state
        if told is None or state.clock >= self._tell_heard_at:
            self._tell_heard_at = state.clock + HEARD_INTERVAL
        else:
            heard = {i: told.heard.get(i, at) for i, at in state.heard.items()}
            state = state._replace(heard=heard)
        if told is not None:
            tells = state.clock >= self._tell_about_at
            about = {
                i: told.about[i]
                if i in told.about
                and not (tells and _differ(told.about[i], at, state.time))
                else at
                for i, at in state.about.items()
            }
            state = state._replace(about=about)
        if told is None or state.clock >= self._tell_about_at:
            self._tell_about_at = state.clock + ABOUT_INTERVAL
        return state

    async def _push(self, message: bytes) -> None:
        self._pushed_at = time.monotonic()
        number = self._number + (message is PING)
        for i, listener in enumerate(list(self._listeners)):
            # One that has come meanwhile was given this with all the rest.
            if listener.since < number:
                listener.put(message)
            if i % SLICE == SLICE - 1:
                await asyncio.sleep(SLICE_PAUSE)

    @contextlib.contextmanager
    def _listening(self) -> Iterator[_Listener]:
        listener = _Listener()
        self._listeners.add(listener)
        self._somebody_listens.set()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._somebody_listens.clear()

    async def messages(self) -> AsyncGenerator[bytes, None]:
        """Server-sent events, encoded: first the whole state, then what changes.

        The first is of the type ``state``, the others ``change``; their data are
        documents as `.changes_between` makes them. Where a listener is too
        slow for the changes, another ``state`` comes in their place. In quiet times
        there is a ``ping`` now and then, so that dead connections are noticed.
        """
        with self._listening() as listener:
            while True:
                if listener.behind:
                    whole = await self._whole_state()
                    listener.catch_up(self._number)
                    yield whole
                message = await listener.get()
                if message is not None:
                    yield message

    async def _whole_state(self) -> bytes:
        if self._state is None:
            self._state = to_state(await self.latest())
            self._number += 1
        if self._whole is None:
            document = changes_between(None, self._state)
            assert document is not None
            self._whole = _message("state", self._number, document)
        return self._whole


def _differ(
    told: tuple[int, int] | None, now_known: tuple[int, int] | None, now: float
) -> bool:
    """Is what is known by now of when a job may start another thing than was told?"""
    if told is None or now_known is None:
        return told is not now_known
    return any(
        abs(new - old) > max(1.0, ABOUT_SHARE * (new - now))
        for old, new in zip(told, now_known, strict=True)
    )


class _Listener:
    """The messages that wait for one page."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque()
        self._news = asyncio.Event()
        self.behind = True
        self.since = 0

    def put(self, message: bytes) -> None:
        if self.behind:
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.clear()
            self.behind = True
        else:
            self._waiting.append(message)
        self._news.set()

    async def get(self) -> bytes | None:
        """Wait for a message, None where all that waited has been dropped."""
        await self._news.wait()
        message = self._waiting.popleft() if self._waiting else None
        if not self._waiting:
            self._news.clear()
        return message

    def catch_up(self, number: int) -> None:
        self._waiting.clear()
        self._news.clear()
        self.behind = False
        self.since = number


def _message(kind: str, number: int, document: object) -> bytes:
    return b"event: %s\nid: %d\ndata: %s\n\n" % (
        kind.encode(),
        number,
        encode(document),
    )
