"""The connected clients: who has something to do, to send or to leave in a turn."""

import itertools
import logging
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from select import POLLERR, POLLHUP, POLLIN, POLLNVAL
from typing import Any, Final

from spalloc_server.polling_server_core import PollingServerCore
from spalloc_server.wire.connection import Connection
from spalloc_server.wire.operator_connection import OperatorConnection
from spalloc_server.wire.slow_readers import SlowReaders

logger = logging.getLogger(__name__)

BROKEN: Final = POLLERR | POLLHUP | POLLNVAL
"""Events that say that a connection is of no use any more."""

NOTIFIED_PER_TURN: Final = 100
"""To how many clients notifications are sent before the others get their turn."""


class Clients:
    """All connections, kept registered with the poll loop for what they wait for.

    Within a turn of the loop output only gathers; `finish_turn` sends it and
    lets those leave who are to leave. For the server's thread only.
    """

    def __init__(
        self, core: PollingServerCore, on_leave: Callable[[Connection], object]
    ) -> None:
        """Start with no client; ``on_leave`` is called for each that is gone."""
        self._core = core
        self._on_leave = on_leave
        # All there are, with the events that the poll loop waits for.
        self._all: dict[Connection, int] = {}
        # Those whose turn it is; a dict, because the order is that of arrival.
        self._ready: dict[Connection, None] = {}
        # Those whose turn was put off; they come before all others next time.
        self._deferred: dict[Connection, None] = {}
        # Those with output, or whose events to wait for may have changed.
        self._touched: dict[Connection, None] = {}
        # Those with nothing but notifications to be sent.
        self._notified: dict[Connection, None] = {}
        # Those who leave when they have been sent all output, by the kind of reason.
        self._ending: dict[Connection, str] = {}
        # Those who leave at the end of the turn, and why if it is worth a warning.
        self._leaving: dict[Connection, tuple[str | None, str]] = {}
        self._slow = SlowReaders()
        self.disconnects: Counter[str] = Counter()
        """How many clients are gone, by the kind of reason."""

    def __len__(self) -> int:
        return len(self._all)

    def __contains__(self, client: object) -> bool:
        return client in self._all

    def any_deferred(self) -> bool:
        """Are there clients that should have had a turn in this one?"""
        return bool(self._deferred)

    def any_ready(self) -> bool:
        """Is there work for the next turn already, whatever happens?"""
        return bool(self._ready or self._notified)

    def add(self, client_socket: socket.socket) -> Connection | None:
        """Take in a new connection, None if it is broken already."""
        try:
            client = _connection(client_socket)
        except OSError:
            client_socket.close()
            return None
        self._all[client] = client.events
        self._core.register_channel(client, client.events)
        logger.debug("Client %r connected", client)
        return client

    def note_events(self, ready: Iterable[tuple[Any, int]]) -> list[Any]:
        """Note what the poll loop has found out about clients.

        :param ready: channels and their events
        :return: the channels that are no clients
        """
        clients, with_input = self._all, self._ready
        others = []
        for channel, events in ready:
            awaited = clients.get(channel)
            if awaited is None:
                others.append(channel)
            elif awaited & POLLIN:
                with_input[channel] = None
            elif events & BROKEN and not channel.has_line():
                # Nothing more will be read from it, and nobody is there to write to.
                self.leave(channel, None, "connection lost")
            else:
                self.touch(channel)
        return others

    def take_ready(self) -> list[Connection]:
        """The clients with something to read or to handle; each gets one turn."""
        self._touched.update(self._ready)
        for client in self._leaving:
            self._ready.pop(client, None)
        ready = list(self._ready)
        self._ready.clear()
        return ready

    def defer(self, client: Connection) -> None:
        """Put off the turn that a client is having: the next time it is the first."""
        self._deferred[client] = None

    def touch(self, client: Connection) -> None:
        """Look after a client's output and events at the end of the turn."""
        self._touched[client] = None

    def note_notified(self, clients: Mapping[Connection, None]) -> None:
        """Send clients the notifications that they have got, in this turn or soon.

        Where many are notified, it takes some turns until each has been sent its own.

        :param clients: in the order in which they are to be sent them
        """
        self._notified.update(clients)

    def leave(self, client: Connection, reason: str | None, kind: str) -> None:
        """Disconnect a client at the end of the turn, after a try to send its output.

        A reason is logged as a warning; None is for a client that just goes. The kind
        of the reason is counted.
        """
        self.touch(client)
        self._leaving.setdefault(client, (reason, kind))

    def leave_after_output(self, client: Connection, reason: str, kind: str) -> None:
        """Disconnect a client as soon as it has taken its output; it has no more say.

        :param reason: is logged as a warning, now
        """
        logger.warning("Client %r disconnected: %s", client, reason)
        client.end_input()
        self._ending[client] = kind
        self.touch(client)

    def finish_turn(self) -> None:
        """Send what has gathered, let go who leaves, see who is to go on."""
        touched = list(self._touched)
        self._touched.clear()
        for client in touched:
            if client in self._all:
                self._finish(client)
        if self._notified:
            for client in list(itertools.islice(self._notified, NOTIFIED_PER_TURN)):
                del self._notified[client]
                self._finish(client)
        self._leaving.clear()
        if self._slow.is_too_much:
            self._let_slow_ones_go()
        if self._deferred:
            self._ready = {**self._deferred, **self._ready}
            self._deferred.clear()

    def _finish(self, client: Connection) -> None:
        try:
            client.flush()
        except OSError as e:
            logger.debug("Client %r is gone: %s", client, e)
            self.remove(client, "connection lost")
            return
        except Exception:
            # Everybody else still has to be looked after.
            logger.exception("Unexpected error while client %r was sent to", client)
            self.remove(client, "internal error")
            return
        if client in self._leaving:
            reason, kind = self._leaving[client]
            if reason is not None:
                logger.warning("Client %r disconnected: %s", client, reason)
            self.remove(client, kind)
            return
        if client.is_quiet() and self._all[client] == POLLIN:
            return
        self._slow.note(client, time.monotonic())
        if client.at_end and not (
            client.has_line() or client.has_output or client.is_busy
        ):
            self.remove(client, self._ending.get(client, "closed by client"))
            return
        events = client.events
        if events != self._all[client]:
            self._all[client] = events
            self._core.register_channel(client, events)
        if client.is_busy:
            # One that has to read first comes up again when it has.
            if client.has_room:
                self._ready[client] = None
        elif client.has_line() and not client.is_blocked:
            self._ready[client] = None

    def look(self) -> None:
        """Disconnect those that take their output too slowly; now and then."""
        # What they have taken while the server was not listening counts.
        for client in self._slow.behind():
            self._finish(client)
        self._let_slow_ones_go()

    def _let_slow_ones_go(self) -> None:
        for client, reason in self._slow.who_has_to_go(time.monotonic()).items():
            logger.warning("Client %r disconnected: %s", client, reason)
            self.remove(client, "output not taken")

    def remove(self, client: Connection, kind: str) -> None:
        """Disconnect a client at once. Nothing happens if it is gone already."""
        if client not in self._all:
            return
        del self._all[client]
        self._ready.pop(client, None)
        self._deferred.pop(client, None)
        self._touched.pop(client, None)
        self._notified.pop(client, None)
        self._ending.pop(client, None)
        self._slow.forget(client)
        self.disconnects[kind] += 1
        self._core.unregister_channel(client)
        client.close()
        self._on_leave(client)
        logger.debug("Client %r disconnected", client)

    def remove_all(self) -> None:
        """Disconnect everybody."""
        for client in list(self._all):
            self.remove(client, "server stopped")


def _connection(client_socket: socket.socket) -> Connection:
    if client_socket.family == socket.AF_UNIX:
        return OperatorConnection(client_socket)
    return Connection(client_socket)
