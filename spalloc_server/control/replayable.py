"""State that outlives its process: how it changes, is pickled, and is replayed.

A snapshot of the state is a pickle of it. What has happened since then is recorded, and
done again to the unpickled state, which leaves the hardware alone until that is done.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from typing import Any

#: Is a state that is unpickled now to leave the hardware alone?
_unpickled_dormant = ContextVar("_unpickled_dormant", default=False)


class ReplayError(Exception):
    """Recorded changes do not fit the state that they are said to have followed."""

    def __init__(self, reason: str, done: int) -> None:
        """Say what did not fit.

        :param done: how many changes were done before that
        """
        super().__init__(reason)
        self.done = done
        """How many changes were done before the one that did not fit."""


@contextlib.contextmanager
def unpickled_dormant() -> Iterator[None]:
    """Have controllers that are unpickled within wait for `KeptState.start`."""
    token = _unpickled_dormant.set(True)
    try:
        yield
    finally:
        _unpickled_dormant.reset(token)


class KeptState:
    """State that changes under a lock, by commands and by events.

    Commands are repeatable by themselves. Events are the changes that no command
    explains: a result from the hardware, a deadline, a test of a board. They are told
    to `on_event`, so that `replay` can do to an old state what was done to it.
    """

    lock: threading.RLock
    """Held by whoever changes anything; hold it over several calls to have nothing
    happen between them."""

    on_event: Callable[[list[Any]], object] | None
    """Told, with the lock held, of changes that no command explains. Not pickled."""

    on_background_state_change: Callable[[], object] | None
    """Called when something changes other than by a call of a method.

    It is called from any thread and must not call the controller. None for no call.
    Not pickled."""

    command_time: float | None
    """When the commands given now are said to be given, in seconds since 1970 (UTC);
    None for now. Not pickled."""

    _changers: Mapping[str, Callable[..., object]]
    """What does, or does again, each kind of event and stored command. Not pickled:
    to be made by `_init_dormant`."""

    def _init_dynamic_state(self) -> None:
        """Make what is not pickled, and take up the work on the hardware."""
        self._init_dormant()
        self.start()

    def _init_dormant(self) -> None:
        """Make what is not pickled, and leave the hardware alone."""
        # Re-entrant: a BMP controller may report from within `add_requests`.
        self.lock = threading.RLock()
        self.on_event = None
        self.on_background_state_change = None
        self.command_time = None
        self._dormant = True

    def start(self) -> None:
        """Take up the work on the hardware. Called only on a dormant state."""
        self._dormant = False

    def __getstate__(self) -> dict[str, Any]:
        """What is kept over a restart; to be called after `stop` and `join`."""
        with self.lock:
            return self._kept_state()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Go on from where the pickled controller was stopped.

        :raises PlainDataError: if this is no such state
        """
        self._take_state(state)
        if _unpickled_dormant.get():
            self._init_dormant()
        else:
            self._init_dynamic_state()

    def _kept_state(self) -> dict[str, Any]:
        """What is pickled, as plain data. Called with the lock held."""
        raise NotImplementedError

    def _take_state(self, data: dict[str, Any]) -> None:
        """Go on from what `_kept_state` gave.

        :raises PlainDataError: if this is no such state
        """
        raise NotImplementedError

    def wall_time(self) -> float:
        """When what happens now is said to happen, in seconds since 1970 (UTC)."""
        return time.time() if self.command_time is None else self.command_time

    def note_event(self, *event: Any) -> None:
        """Tell `on_event` of an event: its name, its time, its arguments.

        Called with the lock held, like `do_event`.
        """
        if self.on_event is not None:
            self.on_event(list(event))

    def do_event(self, name: str, *arguments: Any) -> None:
        """Have an event happen now, and tell of it."""
        self.note_event(name, self.wall_time(), *arguments)
        self._changers[name](*arguments)

    def wake(self) -> None:
        """Say that something has changed in the background. Without the lock."""
        callback = self.on_background_state_change
        if callback is not None:
            callback()

    def replay(self, records: Iterable[Sequence[Any]]) -> None:
        """Do again, on a dormant controller, what was done to this state before.

        A record is a list: the name of a command or event, when it was, and its
        arguments. Commands to hardware are not given; those that turn out not to
        have been finished are given by `start`.

        :raises ReplayError: if a record cannot follow those before it
        """
        for done, record in enumerate(records):
            try:
                name, self.command_time, *arguments = record
                self._changers[name](*arguments)
            except Exception as e:
                reason = f"{record}: {type(e).__name__}: {e}"
                raise ReplayError(reason, done) from e
            finally:
                self.command_time = None
