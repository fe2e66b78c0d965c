"""The file that keeps the server's state while it is stopped: a pickle, atomically.

A pickle is code for whoever loads it, so a file that someone else could have written
is refused, and nobody else may read or write the files made here.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import pickle
import socket
import stat
import struct
import time
from typing import Any, NamedTuple, TypeVar

State = TypeVar("State")

logger = logging.getLogger(__name__)


class StateFileError(Exception):
    """The state is refused, in use, or cannot be kept; the message names the file."""


class StateLock:
    """Keeps other servers from using the same state until it is released.

    It is held in three ways, by locks of the operating system that end with the process
    in any case. The lock file says who has it, also to :py:func:`lock_holder`; but it
    can be removed. So a name of the kernel is taken that stands for the folder and the
    file in it, which nobody can remove; but containers with networks of their own have
    such names of their own. So the folder is locked too, together with all other
    servers that keep state in it: where it is locked and no lock file in it is held,
    somebody's was removed.

    Raises :py:exc:`StateFileError` naming the process that has the lock.
    """

    def __init__(self, filename: str) -> None:
        self._filename = filename
        self._facts: dict[str, Any] = {}
        self._problem = ""
        with contextlib.ExitStack() as undo:
            folder = os.path.dirname(os.path.abspath(filename))
            try:
                self._folder_fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            except OSError as e:
                raise StateFileError(
                    f"cannot write state file {filename}: {e.strerror}"
                ) from e
            undo.callback(os.close, self._folder_fd)
            self._fd = self._open()
            undo.callback(lambda: os.close(self._fd))
            self._name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.callback(self._name.close)
            self._take_name()
            self._join_folder(folder)
            self._write(f"{os.getpid()}\n")
            undo.pop_all()

    def _open(self) -> int:
        """Open and lock the lock file."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        while True:
            try:
                fd = os.open(self._filename, flags, 0o600)
            except OSError as e:
                raise StateFileError(
                    f"cannot write state file {self._filename}: {e.strerror}"
                ) from e
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(fd, 100).partition(b"\n")[0]
                os.close(fd)
                pid = holder.decode("ascii", "replace") or "unknown"
                raise self._in_use(f"process {pid}") from None
            if self._is_in_place(fd):
                return fd
            os.close(fd)  # its last holder removed it: take the new one

    def _is_in_place(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self._filename))
        except FileNotFoundError:
            return False

    def _in_use(self, by: str) -> StateFileError:
        return StateFileError(
            f"state is in use by another server, {by} (lock file {self._filename})"
        )

    def _take_name(self) -> None:
        """Take the name that stands for the lock file, whether there is one or not."""
        status = os.fstat(self._folder_fd)
        name = os.path.basename(self._filename)
        digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:32]
        address = f"\0spalloc_server/{status.st_dev:x}/{status.st_ino:x}/{digest}"
        try:
            self._name.bind(address)
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise StateFileError(
                    f"cannot lock state file {self._filename}: {e.strerror}"
                ) from e
        else:
            self._name.listen(0)  # so that others can ask who has it
            return
        pid, uid = self._holder_of_name(address)
        if uid in (None, 0, os.geteuid(), status.st_uid):
            raise self._in_use(
                f"process {pid or 'unknown'}, whose lock file was removed"
            )
        logger.warning(
            "Process %d of user %d has the name that is to lock %s; it is done without",
            *(pid, uid, self._filename),
        )

    @staticmethod
    def _holder_of_name(address: str) -> tuple[int | None, int | None]:
        """The process and the user who have a name, None if they cannot be asked."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(address)
                # SO_PEERCRED: those of the moment when it began to listen
                data = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            except OSError:
                return None, None
        pid, uid, _ = struct.unpack("3i", data)
        return pid, uid

    def _join_folder(self, folder: str) -> None:
        """Lock the folder together with the other servers that keep state in it."""
        try:
            fcntl.flock(self._folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not self._others_hold_locks(folder):
                raise self._in_use("whose lock file was removed") from None
        except OSError:  # a file system without it
            return
        # For the moment in which another one that starts has it for itself.
        deadline = time.monotonic() + 1.0
        while True:
            try:
                fcntl.flock(self._folder_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                return
            except OSError:
                if time.monotonic() > deadline:
                    return  # it is held otherwise
                time.sleep(0.01)

    def _others_hold_locks(self, folder: str) -> bool:
        """Is there another server whose lock file is in the folder, and held?"""
        own = os.path.basename(self._filename)
        for name in os.listdir(folder):
            if name == own or not name.endswith(".state.lock"):
                continue
            try:
                fd = os.open(os.path.join(folder, name), os.O_RDONLY | os.O_NONBLOCK)
            except OSError:
                continue
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return True
            finally:
                os.close(fd)
        return False

    def tell(self, facts: dict[str, Any]) -> None:
        """Put facts about the holder into the lock file, for :py:func:`lock_holder`.

        They have to be fit for JSON. Raises :py:exc:`OSError` where that fails.
        """
        self._facts = facts
        self._write(f"{os.getpid()}\n{json.dumps(facts)}\n")

    def look(self) -> None:
        """See whether the lock file is still there, and write it again if it is not.

        To be called every few seconds. Raises nothing: what is wrong is logged, once.
        """
        try:
            if self._is_in_place(self._fd):
                self._problem = ""
                return
            fd = self._open()
            os.close(self._fd)
            self._fd = fd
            self.tell(self._facts)
        except (StateFileError, OSError) as e:
            problem = str(e)
            if problem != self._problem:
                logger.error("The lock file was removed, and is lost: %s", problem)
            self._problem = problem
            return
        self._problem = ""
        logger.error("Lock file %s was removed; it is there again", self._filename)

    def _write(self, text: str) -> None:
        # In this order a reader may find old lines after the new ones, but never
        # half a line at the end.
        os.pwrite(self._fd, text.encode("ascii"), 0)
        os.ftruncate(self._fd, len(text))

    def release(self) -> None:
        """Let others use the state. The lock file goes away."""
        with contextlib.suppress(OSError):
            if self._is_in_place(self._fd):
                os.unlink(self._filename)
        os.close(self._fd)
        os.close(self._folder_fd)
        self._name.close()


class LockHolder(NamedTuple):
    """The process that uses some state."""

    pid: int
    facts: dict[str, Any]
    """What it has told about itself; empty while it starts."""


def lock_holder(filename: str) -> LockHolder | None:
    """Who holds a lock, None if nobody does. Takes no lock and changes nothing.

    Raises :py:exc:`StateFileError` where that cannot be found out.
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
        facts = json.loads(lines[1]) if lines[1:] and lines[1] else {}
    except ValueError as e:
        raise StateFileError(f"cannot make sense of lock file {filename}") from e
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
