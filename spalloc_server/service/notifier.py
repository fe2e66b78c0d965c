"""Who watches which jobs and machines, and how they are told of changes."""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import Any, Final, TypeAlias

from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import ChangeId, Connection, OutputFullError
from spalloc_server.wire.messages import encode_message

logger = logging.getLogger(__name__)

MAX_WATCHES: Final = 10_000
"""How many jobs, and how many machines, one client may watch one by one."""

MAX_WATCHED_BYTES: Final = 256 * 1024
"""How long the names of the machines that one client watches may be altogether."""

JOBS_CHANGED: Final = "jobs_changed"
MACHINES_CHANGED: Final = "machines_changed"

Watches: TypeAlias = dict[Connection, set[Any] | None]
"""What each client watches: a set of IDs or names, None for all there are."""


class Notifier:
    """Tells clients of the changes that they watch. For the server's thread."""

    def __init__(self, clients: Clients) -> None:
        """Start with nobody who watches anything.

        :param clients: is told who has been sent something, and who does not take it
        """
        self._clients = clients
        self.job_watches: Watches = {}
        self.machine_watches: Watches = {}
        # Of those who watch machines one by one.
        self._name_bytes: dict[Connection, int] = {}

    def watch(
        self, client: Connection | None, watches: Watches, change: ChangeId | None
    ) -> None:
        """Have a client watch something.

        :param client: None, as programs call commands that have no connection, cannot
            be told anything, and watches nothing
        :param watches: the watches of its kind
        :param change: the ID or name, None for everything of its kind
        :raises ValueError: if the client watches too much
        """
        if client is None:
            return
        watched = watches.setdefault(client, set())
        if change is None:
            watches[client] = None
            if watches is self.machine_watches:
                self._name_bytes.pop(client, None)
        elif watched is not None and change not in watched:
            if len(watched) >= MAX_WATCHES:
                raise ValueError(f"more than {MAX_WATCHES} watched one by one")
            if isinstance(change, str):
                length = self._name_bytes.get(client, 0) + len(change.encode())
                if length > MAX_WATCHED_BYTES:
                    raise ValueError(
                        f"names of more than {MAX_WATCHED_BYTES} bytes watched"
                    )
                self._name_bytes[client] = length
            watched.add(change)

    def unwatch(
        self, client: Connection | None, watches: Watches, change: ChangeId | None
    ) -> None:
        """Undo `watch`, for None all of it. A single one cannot be taken out of all."""
        if client is None:
            return
        watched = watches.get(client, set())
        if watches is self.machine_watches and change is None:
            self._name_bytes.pop(client, None)
        if change is None:
            watches.pop(client, None)
        elif watched is not None:
            if isinstance(change, str) and change in watched:
                self._name_bytes[client] -= len(change.encode())
            watched.discard(change)
            if not watched:
                watches.pop(client, None)
        else:
            return
        # Changes that the client has been too slow to hear of.
        is_job = watches is self.job_watches
        client.forget_changes(JOBS_CHANGED if is_job else MACHINES_CHANGED, change)

    def forget(self, client: Connection) -> None:
        """Have a client watch nothing: it is gone."""
        self.job_watches.pop(client, None)
        self.machine_watches.pop(client, None)
        self._name_bytes.pop(client, None)

    def send(self, label: str, changes: Collection[ChangeId], watches: Watches) -> None:
        """Notify each client, under a label, of those changes that it watches."""
        if not watches:
            return
        ordered = sorted(changes)
        # Most clients watch everything, and are told the same.
        line = encode_message({label: ordered})
        notified: dict[Connection, None] = {}
        for client, watched in list(watches.items()):
            try:
                if watched is None:
                    client.notify(label, ordered, line)
                elif seen := [change for change in ordered if change in watched]:
                    client.notify(label, seen)
                else:
                    continue
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            except Exception:
                # One that has missed a change must not go on as if it had not.
                logger.exception(
                    "Unexpected error while client %r was notified", client
                )
                self._clients.leave(client, "unexpected error", "internal error")
            notified[client] = None
        self._clients.note_notified(notified)
