"""Write all state anew without holding up the loop."""

from __future__ import annotations

from typing import Final

from spalloc_server.storage.forked import ForkedWork

BYTES_AT_ONCE: Final = 1 << 20
"""How much of what a child process has made is taken in a turn."""


class Rewriting:
    """A snapshot that a child process makes of the state as it was at one moment."""

    def __init__(self, work: ForkedWork) -> None:
        """Nothing of it has come yet.

        :param work: makes the compressed snapshot
        """
        self._work = work
        self._pieces: list[bytes] = []

    def go_on(self) -> bytes | None:
        """Take what has come since the last time. Never blocks.

        :return: the snapshot, None if there is more to come
        :raises ForkError: if the child process has failed
        """
        left = BYTES_AT_ONCE
        while left > 0:
            piece = self._work.read(left)
            if piece is None:
                return b"".join(self._pieces)
            if not piece:
                # Nothing, or only how much there will be.
                return None
            self._pieces.append(piece)
            left -= len(piece)
        return None

    def close(self) -> None:
        """Give it up, or let go of what it needed."""
        self._work.close()
