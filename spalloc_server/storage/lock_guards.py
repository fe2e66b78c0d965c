"""What keeps a second server out where somebody has removed the lock file.

Both are locks of the operating system, and end with the process in any case.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import struct
import time
import zlib
from typing import Final

logger = logging.getLogger(__name__)

_SHARED_SECONDS: Final = 1.0
"""How long another process may have the folder for itself while it starts."""


class HeldError(Exception):
    """Another process uses the state; the message says which, and how that is known."""


class NameGuard:
    """A name of the kernel that stands for a folder and a file in it.

    Nobody can remove it; but containers with networks of their own do not see each
    other's.
    """

    def __init__(self, filename: str, folder_fd: int) -> None:
        """Take the name.

        :param filename: of the lock file, which need not exist
        :param folder_fd: its folder
        :raises HeldError: if a process that may use the state has the name
        :raises OSError: if there can be no names
        """
        self._filename = filename
        status = os.fstat(folder_fd)
        # The name of the file may be longer than an address.
        digest = zlib.crc32(os.fsencode(os.path.basename(filename)))
        self._address = (
            f"\0spalloc_server/{status.st_dev:x}/{status.st_ino:x}/{digest:08x}"
        )
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._take({0, os.geteuid(), status.st_uid})
        except BaseException:
            self._socket.close()
            raise

    def _take(self, trusted: set[int]) -> None:
        try:
            self._socket.bind(self._address)
        except OSError as e:
            if e.errno != errno.EADDRINUSE:
                raise
        else:
            self._socket.listen(0)  # so that others can ask who has it
            return
        pid, uid = self._holder()
        if pid is None or uid in trusted:
            raise HeldError(f"process {pid or 'unknown'}, whose lock file was removed")
        # Any user of the host can take a name; that must not keep us from starting.
        logger.warning(
            "Process %d of user %d has taken the socket name that protects %s from a "
            "second server; the server does without it",
            *(pid, uid, self._filename),
        )

    def _holder(self) -> tuple[int | None, int | None]:
        """The process and the user who have the name, None if they cannot be asked."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
            asking.setblocking(False)
            try:
                asking.connect(self._address)
                # SO_PEERCRED: those of the moment when it began to listen
                data = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            except OSError:
                return None, None
        pid, uid, _ = struct.unpack("3i", data)
        return pid, uid

    def release(self) -> None:
        """Give the name up."""
        self._socket.close()


def share_folder(folder_fd: int, folder: str, lock_name: str) -> None:
    """Lock a folder together with all other servers that keep state in it.

    Where it is locked, and no other server's lock file in it is, the lock file of one
    was removed. It is released by closing the descriptor.

    :param lock_name: the own lock file, without its folder
    :raises HeldError: if somebody else seems to use the same state
    """
    try:
        fcntl.flock(folder_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        if not _others_hold_locks(folder, lock_name):
            raise HeldError("whose lock file was removed") from None
    except OSError:  # a file system that has no locks of folders
        return
    deadline = time.monotonic() + _SHARED_SECONDS
    while True:
        try:
            fcntl.flock(folder_fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return
        except OSError:
            if time.monotonic() > deadline:
                return  # the other guards have to do
            time.sleep(0.01)


def _others_hold_locks(folder: str, lock_name: str) -> bool:
    """Is there another lock file in a folder that is locked?"""
    for name in os.listdir(folder):
        if name == lock_name or not name.endswith(".state.lock"):
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
