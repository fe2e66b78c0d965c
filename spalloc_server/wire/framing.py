"""Splits a stream of bytes into lines. Knows no socket and no meaning of a line."""

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
        # The next one is the last. There is a list, or a buffer, only while there is
        # something in it: what a thousand connections have each is not in the cache.
        self._lines: list[bytes] | None = None
        self._unfinished: bytearray | None = None
        self._too_long = False

    def feed(self, data: bytes) -> None:
        r"""Add the next bytes of the stream. Lines end at ``\n``; empty ones vanish.

        After a line that is too long nothing more is taken in.
        """
        if self._too_long:
            return
        pieces = data.split(b"\n")
        rest = pieces.pop()
        if pieces and self._unfinished is not None:
            pieces[0] = bytes(self._unfinished) + pieces[0]
            self._unfinished = None
        lines = []
        for line in pieces:
            if len(line) > self._max_line_bytes:
                self._too_long = True
                break
            if line:
                lines.append(line)
        if lines:
            lines.reverse()
            self._lines = lines if self._lines is None else lines + self._lines
        if rest and not self._too_long:
            self._feed_unfinished(rest)

    def _feed_unfinished(self, rest: bytes) -> None:
        if self._unfinished is None:
            self._unfinished = bytearray()
        self._unfinished += rest
        if len(self._unfinished) > self._max_line_bytes:
            self._unfinished = None
            self._too_long = True

    def has_line(self) -> bool:
        """Is there anything for `next_line` to do but return None?"""
        return self._lines is not None or self._too_long

    def discard(self) -> None:
        """Forget all that has been fed and not been taken."""
        self._lines = self._unfinished = None
        self._too_long = False

    def put_back(self, line: bytes) -> None:
        """Undo `next_line`."""
        if self._lines is None:
            self._lines = []
        self._lines.append(line)

    def next_line(self) -> bytes | None:
        """Take the next complete line, without its newline, or None if there is none.

        :raises LineTooLongError: where, after all lines before it were taken, a line
            follows that is longer than allowed, whether or not it ended
        """
        lines = self._lines
        if lines is not None:
            line = lines.pop()
            if not lines:
                self._lines = None
            return line
        if self._too_long:
            raise LineTooLongError(
                f"a line is longer than {self._max_line_bytes} bytes"
            )
        return None
