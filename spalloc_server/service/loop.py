"""The loop of the server: what is done in a turn, and for how long it waits for one."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from spalloc_server.configuration import Configuration
from spalloc_server.controller import Controller
from spalloc_server.observe.observer import Observer
from spalloc_server.observe.stats import ServerStats
from spalloc_server.polling_server_core import PollingServerCore
from spalloc_server.service.attention import Attention
from spalloc_server.service.config_source import ConfigSource
from spalloc_server.service.dispatcher import Dispatcher
from spalloc_server.service.operator_door import OperatorDoor
from spalloc_server.service.reception import Reception
from spalloc_server.service.timers import Timers
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.store import StateStore
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import Connection

STORE_SECONDS: Final = 0.002
"""How long the loop waits where changes have to."""

LOOK_SECONDS: Final = 1.0
"""How often the loop looks at files and addresses that may have been lost. It waits no
longer than that: whether the process was stopped in the meantime, and heard nobody,
shows only when a wait takes longer than it should."""


class Owner(Protocol):
    """The server, which the loop belongs to: what it does in each turn."""

    observer: Observer

    @property
    def timeout_check_interval(self) -> float:
        """Seconds between two looks at who has timed out."""

    def reload(self, configuration: Configuration) -> None:
        """Put a configuration in force that has been read again."""

    def _send_change_notifications(self) -> None:
        """Tell clients of what has changed."""

    def note_address(self) -> None:
        """The server has come to listen to another address."""


@dataclass(eq=False)
class Loop:
    """Turns for as long as there is a server. For the server's thread."""

    owner: Owner
    core: PollingServerCore
    """What is waited for."""
    clients: Clients
    reception: Reception
    operator_door: OperatorDoor
    config_source: ConfigSource
    dispatcher: Dispatcher
    controller: Controller
    store: StateStore
    state_lock: StateLock
    timers: Timers
    stats: ServerStats
    background_change = False
    """Has something changed on the hardware? Set by any thread, which then wakes the
    loop."""

    def __post_init__(self) -> None:
        self._attention = Attention()
        self._look_at = 0.0
        # As it was when the turn began.
        self._timers_due = 0.0

    def turn(self) -> None:
        """Wait until there is something to do, and do all of it once."""
        since = time.monotonic()
        timeout = self._seconds_to_wait(since)
        ready = self.core.ready_channels(timeout)
        # All that is looked at in this turn is looked at as if it were still then.
        now = time.monotonic()
        unheard = self._attention.waited(since, timeout, now)
        # What fails costs nothing but itself: the poll tells again of what is left.
        try:
            if unheard:
                self.controller.excuse_silence(unheard)
            for channel in self.clients.note_events(ready):
                self._note_news(channel)
        except Exception as e:
            self.stats.errors.note("channels", e)
        if now >= self._look_at:
            try:
                self._look_around(now)
            except Exception as e:
                self.stats.errors.note("look around", e)
        clients = self.clients.take_ready()
        self.dispatcher.take_turns(clients)
        # After the clients: one that has just sent a keepalive has not timed out.
        try:
            self._do_what_is_due(now, len(ready), clients)
        except Exception as e:
            self.stats.errors.note("what is due", e)
        try:
            configuration = self.config_source.poll()
            if configuration is not None:
                self.owner.reload(configuration)
        except Exception as e:
            self.stats.errors.note("configuration", e)
        try:
            self.owner._send_change_notifications()
        except Exception as e:
            self.stats.errors.note("notifications", e)
        try:
            self.store.commit_events(self.controller)
        except Exception as e:
            self.stats.errors.note("store", e)
            self.store.fail("internal error")
        # Nothing is sent before this.
        self.clients.finish_turn()
        self.stats.note_turn(now)
        try:
            self.owner.observer.turned()
        except Exception as e:
            self.stats.errors.note("observers", e)

    def _note_news(self, channel: Any) -> None:
        """Take note of what has come over a channel that is no client."""
        if self.reception.is_behind(channel):
            self.reception.accept()
            self._look_again_to_resume()
        elif self.operator_door.is_behind(channel):
            self.operator_door.accept()
        else:
            self.config_source.note_news(channel)

    def _look_around(self, now: float) -> None:
        """See to what nothing tells of by itself."""
        # Which bounds the waits in between, too.
        self._look_at = now + min(LOOK_SECONDS, self.owner.observer.longest_wait)
        self.reception.resume()
        self._look_again_to_resume()
        self.config_source.look()
        self.state_lock.look()
        self.operator_door.look()
        self.clients.look()
        if self.reception.look():
            self.owner.note_address()

    def _look_again_to_resume(self) -> None:
        """Look around when new connections are to be tried again, where they are."""
        resume_at = self.reception.resume_at
        if resume_at is not None and resume_at < self._look_at:
            self._look_at = resume_at

    def _seconds_to_wait(self, now: float) -> float:
        due = self._timers_due = self.timers.due
        if self.clients.any_ready():
            # Those may be waiting for all state to be written.
            return STORE_SECONDS if self.store.must_wait else 0.0
        if self._look_at < due:
            due = self._look_at
        for other in (self.store.retry_at, self.config_source.due):
            if other is not None and other < due:
                due = other
        wait = due - now
        return wait if wait > 0.0 else 0.0

    def _do_what_is_due(
        self, now: float, ready: int, clients: Sequence[Connection]
    ) -> None:
        """Do what is due without being asked.

        :param now: by the monotonic clock; the last wait ended then
        :param ready: how many channels the last wait has told of
        :param clients: those that have had their turn
        """
        timers = self.timers
        if self.background_change:
            self.background_change = False
            timers.hardware_changed(self.controller.seconds_before_free)
        elif now < self._timers_due:
            return
        if timers.is_check_due(now) and self._attention.has_heard_all(
            ready,
            self.clients.any_deferred() or any(c.has_line() for c in clients),
            len(self.clients),
        ):
            # Those who were silent until the wait ended; the process may have been
            # stopped since.
            timers.check(self.controller, self.owner.timeout_check_interval, now)
        timers.give_out_free_boards(self.controller, now)
