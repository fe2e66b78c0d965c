"""Where operators reach the server: a Unix socket in the folder of the state."""

from __future__ import annotations

import contextlib
import grp
import logging
import os
import socket
from typing import Final

from spalloc_server.polling_server_core import Channel, PollingServerCore
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.unix_path import short_path

logger = logging.getLogger(__name__)

BACKLOG: Final = 16
"""Connections that the kernel may hold for us until they are accepted."""


class OperatorDoor:
    """Takes in operators: the server's own user, and perhaps a group.

    Whoever may open the socket may give every order. Where there can be no socket, the
    server goes on without, and tries again now and then. For the server's thread.
    """

    def __init__(self, core: PollingServerCore, clients: Clients, path: str) -> None:
        """Describe the door; it is not open yet.

        :param path: of the socket
        """
        self._core = core
        self._clients = clients
        self._path = path
        self._group: str | None = None
        self._socket: socket.socket | None = None
        # Which file is ours: others may have removed or replaced it.
        self._identity = (0, 0)
        self._problem = ""

    def open(self) -> None:
        """Take in operators. What is there under the name is replaced: nobody else can
        use this state.
        """
        try:
            self._open()
        except OSError as e:
            self._complain(f"operators cannot reach the server: {e.strerror or e}")
        else:
            self._problem = ""
            self._give_to_group()

    def _open(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.setblocking(False)
            # The file has no other rights for a moment, whatever the umask is.
            os.fchmod(listener.fileno(), 0o600)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)
            with short_path(self._path) as path:
                listener.bind(path)
            listener.listen(BACKLOG)
            self._identity = self._file()
        except OSError:
            listener.close()
            raise
        self._socket = listener
        self._core.register_channel(listener)

    def _file(self) -> tuple[int, int]:
        found = os.stat(self._path)
        return found.st_dev, found.st_ino

    def set_group(self, group: str | None) -> None:
        """Let the members of a group in, too; None for nobody else."""
        if group != self._group:
            self._group = group
            self._give_to_group()

    def _give_to_group(self) -> None:
        if self._socket is None:
            return
        try:
            if self._group is None:
                os.chmod(self._path, 0o600)
            else:
                os.chown(self._path, -1, grp.getgrnam(self._group).gr_gid)
                os.chmod(self._path, 0o660)
        except KeyError:
            self._complain(f"admin_group: there is no group {self._group!r}")
        except OSError as e:
            self._complain(
                f"admin_group: the socket cannot be given to group {self._group!r}: "
                f"{e.strerror}"
            )

    def _complain(self, problem: str) -> None:
        if problem != self._problem:
            self._problem = problem
            logger.error("%s: %s", self._path, problem)

    def is_behind(self, channel: Channel) -> bool:
        """Is this channel the socket, so that `accept` is to be called?"""
        return channel is self._socket

    def accept(self) -> None:
        """Take in an operator."""
        assert self._socket is not None
        # Whoever is not taken in now is in the next turn.
        with contextlib.suppress(OSError):
            self._clients.add(self._socket.accept()[0])

    def look(self) -> None:
        """Make the socket anew, if somebody has removed it, or it could not be made."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                if self._file() == self._identity:
                    return
            self._leave()
        self.open()

    def _leave(self) -> None:
        if self._socket is not None:
            self._core.unregister_channel(self._socket)
            self._socket.close()
            self._socket = None

    def close(self) -> None:
        """Take in nobody any more."""
        if self._socket is not None:
            self._leave()
            with contextlib.suppress(OSError):
                if self._file() == self._identity:
                    os.unlink(self._path)
