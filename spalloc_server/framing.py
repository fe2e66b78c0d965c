"""Splits a stream of bytes into lines. Knows no socket and no meaning of a line."""

from collections import deque

MAX_LINE_BYTES = 64 * 1024
"""The longest line that a client may send, in bytes, its newline not counted."""


class LineTooLongError(Exception):
    """The input holds more bytes without a newline than a line may have."""


class LineFramer:
    r"""Turns chunks of input, cut anywhere, into the lines that they make up.

    What is kept is bounded: the complete lines of what was fed and not yet taken,
    and at most one line's length of a line that has not ended. Not thread safe.
    """

    def __init__(self, max_line_bytes: int = MAX_LINE_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._lines: deque[bytes] = deque()
        self._unfinished = bytearray()
        self._too_long = False

    def feed(self, data: bytes) -> None:
        r"""Add the next bytes of the stream. Lines end at ``\n``; empty ones vanish.

        After a line that is too long nothing more is taken in.
        """
        if self._too_long:
            return
        lines = data.split(b"\n")
        rest = lines.pop()
        if lines and self._unfinished:
            lines[0] = bytes(self._unfinished) + lines[0]
            self._unfinished.clear()
        for line in lines:
            if len(line) > self._max_line_bytes:
                self._too_long = True
                return
            if line:
                self._lines.append(line)
        if not rest:
            return
        self._unfinished += rest
        if len(self._unfinished) > self._max_line_bytes:
            self._unfinished.clear()
            self._too_long = True

    def has_line(self) -> bool:
        """Is there anything for :py:meth:`next_line` to do but return None?"""
        return bool(self._lines) or self._too_long

    def next_line(self) -> bytes | None:
        """Take the next complete line, without its newline, or None if there is none.

        Raises :py:exc:`LineTooLongError` where, after all lines before it were
        taken, a line follows that is longer than allowed, whether or not it ended.
        """
        if self._lines:
            return self._lines.popleft()
        if self._too_long:
            raise LineTooLongError(
                f"a line is longer than {self._max_line_bytes} bytes"
            )
        return None
