"""Who uses some state, and up to where it has been promised to be kept.

A lock file has three lines: the process, how much it has promised, and facts that it
tells about itself. It is removed at an orderly end. What a process that was killed has
left says how much the next one has to find.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
from typing import Any, Final, NamedTuple

from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.lock_guards import HeldError, NameGuard, share_folder

logger = logging.getLogger(__name__)

_PID_WIDTH: Final = 20
_PROMISE: Final = b"%020d %020d\n"
_PROMISE_LENGTH: Final = len(_PROMISE % (0, 0))

_NO_PLACE: Final = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT}
"""Errors that say that the state cannot be written either, for now."""


class Promise(NamedTuple):
    """How much is on the disk for certain."""

    identity: int
    """Of the state file, 0 for none."""
    commits: int
    """The number of the last commit."""


_NOTHING = Promise(0, 0)


class StateLock:
    """Keeps other servers from using the same state until it is released.

    The lock is the operating system's: it ends with the process in any case. In a
    folder that cannot be written there may be no lock file; `ensure` makes it up. As it
    can be removed by hand, it is not the only guard: see
    :mod:`~spalloc_server.storage.lock_guards`.
    """

    def __init__(self, filename: str) -> None:
        """Take the lock.

        :raises StateFileError: naming the process that has it, or why it cannot be
            taken
        """
        self._filename = filename
        self._fd = -1
        self._facts: dict[str, Any] = {}
        self._problem = ""
        self._promised = _NOTHING
        self._is_released = False
        self.found = _NOTHING
        """What the last holder had promised, if it was killed."""
        with contextlib.ExitStack() as undo:
            try:
                try:
                    self._take()
                except OSError as e:
                    if e.errno not in _NO_PLACE:
                        raise
                undo.callback(self._close)
                folder, name = os.path.split(os.path.abspath(filename))
                self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                undo.callback(os.close, self._folder_fd)
                self._name_guard = NameGuard(filename, self._folder_fd)
                undo.callback(self._name_guard.release)
                share_folder(self._folder_fd, folder, name)
            except HeldError as e:
                raise self._in_use(str(e)) from None
            except OSError as e:
                raise StateFileError(
                    f"cannot write state file {filename}: {e.strerror}"
                ) from e
            undo.pop_all()

    def ensure(self) -> None:
        """Take the lock if that was not possible before.

        :raises OSError: if it still is not
        :raises StateFileError: if another process has taken it meanwhile
        """
        if self._fd < 0:
            self._take()

    def look(self) -> None:
        """See whether the lock file is still there, and make it again if it is not.

        To be called every few seconds. What is wrong is logged once, not raised.
        """
        if self._fd < 0 or self._is_in_place(self._fd):
            self._problem = ""
            return
        old = self._fd
        found, promised = self.found, self._promised
        try:
            self._take()
            self.promise(*promised)
            self.tell(self._facts)
        except (StateFileError, OSError) as e:
            problem = str(e)
            if problem != self._problem:
                logger.error(
                    "The lock file was removed and cannot be created again: %s", problem
                )
            self._problem = problem
            return
        finally:
            self.found = found
            if self._fd != old:
                os.close(old)
        self._problem = ""
        logger.error(
            "The lock file %s was removed; it has been created again", self._filename
        )

    def _in_use(self, by: str) -> StateFileError:
        return StateFileError(
            f"state is in use by another server, {by} (lock file {self._filename})"
        )

    def _take(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            fd = os.open(self._filename, flags, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, _PID_WIDTH).partition(b"\n")[0].strip()
                os.close(fd)
                pid = holder.decode("ascii", "replace") or "unknown"
                raise self._in_use(f"process {pid}") from None
            if self._is_in_place(fd):
                break
            os.close(fd)  # its last holder removed it: take the new one
        self._fd = fd
        self.found = _promise(os.pread(fd, 4096, 0))
        with contextlib.suppress(OSError):  # for want of room
            os.pwrite(fd, f"{os.getpid():<{_PID_WIDTH - 1}}\n".encode(), 0)
            if self.found == _NOTHING:
                self.promise(*_NOTHING)
            os.ftruncate(fd, _PID_WIDTH + _PROMISE_LENGTH)

    def _is_in_place(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._filename))
        except FileNotFoundError:
            return False

    def promise(self, identity: int, commits: int) -> None:
        """Note how much the next holder has to find.

        It is not synced: what it is for is to notice what a disk or a hand has lost
        though it was synced.
        """
        self._promised = Promise(identity, commits)
        with contextlib.suppress(OSError):
            os.pwrite(self._fd, _PROMISE % (identity, commits), _PID_WIDTH)

    def tell(self, facts: dict[str, Any]) -> None:
        """Put facts about the holder into the lock file, for `lock_holder`.

        :param facts: they have to be fit for JSON
        :raises OSError: if that cannot be done
        """
        self._facts = facts
        if self._fd >= 0:
            # In this order a reader may find old lines after the new ones, but never
            # half a line at the end.
            text = f"{json.dumps(facts)}\n".encode("ascii")
            begin = _PID_WIDTH + _PROMISE_LENGTH
            os.pwrite(self._fd, text, begin)
            os.ftruncate(self._fd, begin + len(text))

    def release(self) -> None:
        """Let others use the state. The lock file goes away. Done once only."""
        if self._is_released:
            return
        self._is_released = True
        with contextlib.suppress(OSError):
            if self._fd >= 0 and self._is_in_place(self._fd):
                os.unlink(self._filename)
        self._close()
        os.close(self._folder_fd)
        self._name_guard.release()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> StateLock:
        """Hold it for a block."""
        return self

    def __exit__(self, *_exception: object) -> None:
        self.release()


def _promise(contents: bytes) -> Promise:
    line = contents[_PID_WIDTH : _PID_WIDTH + _PROMISE_LENGTH]
    parts = line.split()
    if len(line) == _PROMISE_LENGTH and len(parts) == 2:
        with contextlib.suppress(ValueError):
            return Promise(*map(int, parts))
    return _NOTHING


class LockHolder(NamedTuple):
    """The process that uses some state."""

    pid: int
    facts: dict[str, Any]
    """What it has told about itself; empty while it starts."""


def lock_holder(filename: str) -> LockHolder | None:
    """Who holds a lock, None if nobody does. Takes no lock and changes nothing.

    :raises StateFileError: if that cannot be found out
    """
    try:
        with open(filename, encoding="ascii", errors="replace") as file:
            inode = os.fstat(file.fileno()).st_ino
            lines = file.read().split("\n")
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StateFileError(f"cannot read lock file {filename}: {e.strerror}") from e
    try:
        pid = int(lines[0])
        facts = json.loads(lines[2]) if lines[2:] and lines[2] else {}
    except ValueError as e:
        raise StateFileError(f"cannot understand lock file {filename}") from e
    return LockHolder(pid, facts) if _holds_lock(pid, inode) else None


def _holds_lock(pid: int, inode: int) -> bool:
    """Does the operating system list such a lock? Taking it to find out could stop a
    server that is just being started.
    """
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            # 1: FLOCK  ADVISORY  WRITE 4711 08:02:131586 0 EOF
            _, kind, _, _, holder, place, *_ = [*line.split(), *[""] * 7]
            own = kind == "FLOCK" and holder == str(pid)
            if own and place.rpartition(":")[2] == str(inode):
                return True
    return False
