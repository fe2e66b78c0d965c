"""The file that keeps the server's state while it is stopped: a pickle, atomically.

A pickle is code for whoever loads it, so a file that someone else could have written
is refused, and nobody else may read or write the files made here.
"""

import contextlib
import fcntl
import logging
import os
import pickle
import stat
import time
from typing import TypeVar

State = TypeVar("State")

logger = logging.getLogger(__name__)


class StateFileError(Exception):
    """The state is refused, in use, or cannot be kept; the message names the file."""


class StateLock:
    """Keeps other servers from using the same state until it is released.

    The lock is the operating system's: it ends with the process in any case.
    Raises :py:exc:`StateFileError` naming the process that has the lock.
    """

    def __init__(self, filename: str) -> None:
        self._filename = filename
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while True:
            try:
                self._fd = os.open(filename, flags, 0o600)
            except OSError as e:
                raise StateFileError(
                    f"cannot write state file {filename}: {e.strerror}"
                ) from e
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self._fd, 100).decode("ascii", "replace").strip()
                os.close(self._fd)
                raise StateFileError(
                    f"state is in use by another server, process {holder or 'unknown'}"
                    f" (lock file {filename})"
                ) from None
            if self._is_still_in_place():
                break
            os.close(self._fd)  # its last holder removed it: take the new one
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode("ascii"), 0)

    def _is_still_in_place(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._fd), os.stat(self._filename))
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others use the state. The lock file goes away."""
        with contextlib.suppress(OSError):
            os.unlink(self._filename)
        os.close(self._fd)


def save(filename: str, state: object) -> None:
    """Replace the file by one that holds the state, in one step that survives a crash.

    Raises :py:exc:`OSError` where that cannot be done; the old file is kept then.
    """
    contents = pickle.dumps(state, protocol=pickle.HIGHEST_PROTOCOL)
    temporary = filename + ".new"
    # What a crash has left; nobody else may use the name, see StateLock.
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, filename)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(os.path.abspath(filename)))


def load(filename: str, kind: type[State]) -> State | None:
    """The saved state, an instance of ``kind``, or None where there is none.

    State that cannot be unpickled is moved aside, an error line names its new place,
    and None is returned. Raises :py:exc:`StateFileError` where the file cannot be
    read at all, belongs to another user, or others may write it.
    """
    try:
        file = open(filename, "rb")  # noqa: SIM115 (closed below, errors differ)
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StateFileError(f"cannot read state file {filename}: {e.strerror}") from e
    with file:
        check_owner(filename, os.fstat(file.fileno()))
        try:
            state = pickle.load(file)
            if not isinstance(state, kind):
                raise TypeError(f"holds no {kind.__name__}")
            return state
        except (OSError, MemoryError) as e:  # no fault of the file: keep it in place
            raise StateFileError(
                f"cannot restore the state in {filename}: {e or type(e).__name__}"
            ) from e
        except Exception as e:  # a damaged pickle may raise anything at all
            aside = move_aside(filename)
            logger.error(
                "State file %s cannot be read (%s: %s); it is kept as %s, and the "
                "server starts without it",
                filename,
                type(e).__name__,
                e,
                aside,
            )
            return None


def check_owner(filename: str, status: os.stat_result) -> None:
    """Refuse a file that someone else could have written.

    Raises :py:exc:`StateFileError` naming the file.
    """
    if not stat.S_ISREG(status.st_mode):
        raise StateFileError(f"state file {filename} is not a regular file")
    if status.st_uid != os.geteuid():
        raise StateFileError(
            f"state file {filename} is refused: it belongs to user {status.st_uid}, "
            f"not to user {os.geteuid()}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateFileError(
            f"state file {filename} is refused: others may write it "
            f"(mode {stat.S_IMODE(status.st_mode):04o}, expected 0600)"
        )


def move_aside(filename: str) -> str:
    """Rename a file, with no other file overwritten, and return its new name."""
    stem = time.strftime(f"{filename}.unreadable-%Y%m%d-%H%M%S")
    aside, attempt = stem, 1
    while True:
        try:
            # Unlike a rename, a link fails where the name is taken.
            os.link(filename, aside)
        except FileExistsError:
            attempt += 1
            aside = f"{stem}-{attempt}"
        except OSError as e:
            raise StateFileError(
                f"state file {filename} cannot be read, nor moved aside: {e.strerror}"
            ) from e
        else:
            os.unlink(filename)
            return aside


def _sync_folder(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
