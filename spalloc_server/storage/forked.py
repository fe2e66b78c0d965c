"""Have a child process pickle, while this one goes on with its work.

The child has the state as it was at one moment, for nothing but the time that the
operating system takes to copy the tables of the memory's pages. It only pickles, writes
to a pipe, and is gone: no file, no database, no lock of its parent is touched by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import os
import signal
import struct
import time
import warnings
import zlib
from collections.abc import Callable
from typing import Final

LONGEST: Final = 120.0
"""Seconds that a child may take."""

_PIPE_BYTES: Final = 1 << 20
"""So much can wait to be read."""

_HEADER: Final = struct.Struct("<QI")
"""Length and checksum of what follows."""

_PR_SET_PDEATHSIG: Final = 1
_F_SETPIPE_SZ: Final = 1031

_libc = ctypes.CDLL(None)


class ForkError(Exception):
    """The child could not be made, or has failed; the message says why."""


def fork(work: Callable[[], bytes]) -> ForkedWork:
    """Have a child do some work, with all memory as it is now.

    :param work: must touch no descriptor, log nothing and take no lock that any other
        thread may have
    :raises ForkError: if there can be no child
    """
    try:
        reader, writer = os.pipe2(os.O_CLOEXEC)
    except OSError as e:
        raise ForkError(e.strerror) from e
    with contextlib.suppress(OSError):  # beyond what a user may have
        fcntl.fcntl(writer, _F_SETPIPE_SZ, _PIPE_BYTES)
    parent = os.getpid()
    deadline = time.monotonic() + LONGEST
    try:
        with warnings.catch_warnings():
            # Python warns of forks beside other threads, whose locks may be held for
            # ever in the child: ours takes none but the controller's, which the forking
            # thread holds.
            warnings.simplefilter("ignore", DeprecationWarning)
            pid = os.fork()
    except OSError as e:
        os.close(reader)
        os.close(writer)
        raise ForkError(f"cannot fork: {e.strerror}") from e
    if pid == 0:
        _be_child(work, writer, parent)
    os.close(writer)
    os.set_blocking(reader, False)
    return ForkedWork(pid, reader, deadline)


class ForkedWork:
    """Bytes that a child process makes, see `fork`. For one thread."""

    def __init__(self, pid: int, reader: int, deadline: float) -> None:
        """Nothing has been read yet.

        :param pid: of the child
        :param reader: the end of the pipe that it writes to; does not block
        :param deadline: when it is given up, by the monotonic clock
        """
        self._pid = pid
        self._fd = reader
        self._deadline = deadline
        self._header = b""
        self._left: int | None = None
        self._expected = self._checksum = 0

    def read(self, most: int) -> bytes | None:
        """What has come since the last time, b"" for nothing, None for the end.

        It never blocks.

        :param most: how much to read at most
        :raises ForkError: if the child has failed, or takes too long
        """
        if time.monotonic() > self._deadline:
            raise ForkError(f"took more than {LONGEST:.0f} s")
        try:
            if self._left is None:
                piece = os.read(self._fd, _HEADER.size - len(self._header))
                self._header += piece
                if len(self._header) == _HEADER.size:
                    self._left, self._expected = _HEADER.unpack(self._header)
                elif not piece:
                    raise ForkError("the child process ended unexpectedly")
                return b""
            if self._left == 0:
                if self._checksum != self._expected:
                    raise ForkError(
                        "the data from the child process were damaged on the way"
                    )
                return None
            piece = os.read(self._fd, min(most, self._left))
        except BlockingIOError:
            return b""
        except OSError as e:
            raise ForkError(e.strerror) from e
        if not piece:
            raise ForkError("the child process ended unexpectedly")
        self._left -= len(piece)
        self._checksum = zlib.crc32(piece, self._checksum)
        return piece

    def close(self) -> None:
        """Make sure that there is no child any more."""
        os.close(self._fd)
        with contextlib.suppress(OSError):
            os.kill(self._pid, signal.SIGKILL)
        # It has been killed, so this takes no time.
        with contextlib.suppress(OSError):
            os.waitpid(self._pid, 0)


def _be_child(work: Callable[[], bytes], writer: int, parent: int) -> None:
    """Do the work and end, without anything that a process does at its end."""
    status = 1
    try:
        # What the parent has open is to end with the parent: its lock, its port.
        pipe = 3 if writer != 3 else 4
        os.dup2(writer, pipe, inheritable=False)
        for low, high in ((0, pipe), (pipe + 1, 1 << 20)):
            os.closerange(low, high)
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            gc.disable()
            data = work()
            _write(pipe, _HEADER.pack(len(data), zlib.crc32(data)))
            _write(pipe, data)
            status = 0
    finally:
        os._exit(status)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
