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


HELD_AFTERWARDS: Final = MAX_HELD_BYTES * 3 // 4
"""How much is left where it was more, so that this is not looked into all the time."""


@dataclass(slots=True)
class _Progress:
    """How far a client had got, by its `sent_bytes`."""

    began_at: float
    """When its present time of patience began, by the monotonic clock."""
    began_with: int
    """How much it had taken by then."""
    looked_with: int
    """How much it had taken when it was looked at last."""
    held: int
    """What was held for it when it was last seen, in bytes."""


class SlowReaders:
    """Knows the clients that have not taken all that was sent. Knows no clock.

    Those that take a long reply too slowly, or not at all, have to go. So do the
    slowest of all if too much is held for all of them together. For the server's
    thread only.
    """

    def __init__(self) -> None:
        self._progress: dict[Connection, _Progress] = {}
        self._held = 0

    def note(self, client: Connection, now: float) -> None:
        """Note how far a client is behind, if it is.

        :param now: by the monotonic clock
        """
        held = client.held_bytes
        if not held:
            self.forget(client)
            return
        progress = self._progress.get(client)
        if progress is None:
            sent = client.sent_bytes
            progress = self._progress[client] = _Progress(now, sent, sent, 0)
        self._held += held - progress.held
        progress.held = held

    def forget(self, client: Connection) -> None:
        """Forget a client: it is gone, or behind no more."""
        progress = self._progress.pop(client, None)
        if progress is not None:
            self._held -= progress.held

    @property
    def is_too_much(self) -> bool:
        """Is more held for all of them than may be?"""
        return self._held > MAX_HELD_BYTES

    def behind(self) -> list[Connection]:
        """The clients that were behind when they were last seen."""
        return list(self._progress)

    def who_has_to_go(self, now: float) -> dict[Connection, str]:
        """Look at all of them, after a try to send them more.

        :param now: by the monotonic clock
        :return: the clients to disconnect, and why
        """
        leaving: dict[Connection, str] = {}
        # How much each has taken since the last time, and whether it may stay.
        taken: dict[Connection, int] = {}
        held = self._held
        for client, progress in self._progress.items():
            sent = client.sent_bytes
            if sent - progress.began_with >= LEAST_BYTES or not client.is_blocked:
                progress.began_at, progress.began_with = now, sent
            elif now - progress.began_at >= PATIENCE_SECONDS:
                leaving[client] = (
                    f"it has taken {sent - progress.began_with} bytes of a long reply "
                    f"in {PATIENCE_SECONDS:.0f} s"
                )
                held -= progress.held
                continue
            taken[client] = sent - progress.looked_with
            progress.looked_with = sent
        if held > MAX_HELD_BYTES:

            def least_wanted(client: Connection) -> tuple[int, int]:
                return taken[client], -self._progress[client].held

            for client in sorted(taken, key=least_wanted):
                if held <= HELD_AFTERWARDS:
                    break
                held -= self._progress[client].held
                leaving[client] = (
                    f"{self._progress[client].held} bytes wait for it, and for all "
                    f"clients more than {MAX_HELD_BYTES}"
                )
        return leaving
