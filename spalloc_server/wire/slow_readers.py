"""Clients that leave their output lying: how much, for how long, and who has to go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from spalloc_server.wire.connection import Connection

PATIENCE_SECONDS: Final = 30.0
"""In this time a client has to take..."""

LEAST_BYTES: Final = 64 * 1024
"""...so much of a long reply, or the rest of it."""

MAX_HELD_BYTES: Final = 256 * 1024 * 1024
"""How much may be held altogether for clients that are behind."""


@dataclass(slots=True)
class _Progress:
    """How far a client had got, by its `sent_bytes`."""

    began_at: float
    """When its present time of patience began, by the monotonic clock."""
    began_with: int
    """How much it had taken by then."""
    looked_with: int
    """How much it had taken when it was looked at last."""


class SlowReaders:
    """Knows the clients that have not taken all that was sent. Knows no clock.

    Those that take a long reply too slowly, or not at all, have to go. So do the
    slowest of all if too much is held for all of them together. For the server's
    thread only.
    """

    def __init__(self) -> None:
        self._progress: dict[Connection, _Progress] = {}

    def note(self, client: Connection, now: float) -> None:
        """Note that a client is behind.

        :param now: by the monotonic clock
        """
        if client not in self._progress:
            sent = client.sent_bytes
            self._progress[client] = _Progress(now, sent, sent)

    def forget(self, client: Connection) -> None:
        """Forget a client: it is gone."""
        self._progress.pop(client, None)

    def behind(self) -> list[Connection]:
        """The clients that were behind when they were last seen."""
        return list(self._progress)

    def who_has_to_go(self, now: float) -> dict[Connection, str]:
        """Look at all of them, after a try to send them more.

        :param now: by the monotonic clock
        :return: the clients to disconnect, and why
        """
        leaving: dict[Connection, str] = {}
        held = 0
        # How much each has taken since the last time, and whether it may stay.
        taken: dict[Connection, int] = {}
        for client, progress in list(self._progress.items()):
            sent = client.sent_bytes
            if not client.held_bytes:
                del self._progress[client]
                continue
            if sent - progress.began_with >= LEAST_BYTES or not client.is_blocked:
                progress.began_at, progress.began_with = now, sent
            elif now - progress.began_at >= PATIENCE_SECONDS:
                leaving[client] = (
                    f"it has taken {sent - progress.began_with} bytes of a long reply "
                    f"in {PATIENCE_SECONDS:.0f} s"
                )
                continue
            taken[client] = sent - progress.looked_with
            progress.looked_with = sent
            held += client.held_bytes
        if held > MAX_HELD_BYTES:
            most_first = sorted(taken, key=lambda each: (taken[each], -each.held_bytes))
            for client in most_first:
                if held <= MAX_HELD_BYTES:
                    break
                held -= client.held_bytes
                leaving[client] = (
                    f"{client.held_bytes} bytes wait for it, and for all clients more "
                    f"than {MAX_HELD_BYTES}"
                )
        return leaving
