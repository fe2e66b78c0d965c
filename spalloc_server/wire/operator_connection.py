"""The connection of an operator, who has come by the Unix socket of the server."""

from __future__ import annotations

import pwd
import socket
import struct
from functools import lru_cache
from typing import Final

from spalloc_server.wire.connection import Connection

_CREDENTIALS: Final = struct.Struct("3i")


class OperatorConnection(Connection):
    """A connection to somebody on this computer, of whom the kernel says who it is."""

    def _describe_peer(self, client_socket: socket.socket) -> tuple[str, int]:
        credentials = client_socket.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size
        )
        process, user_id, _ = _CREDENTIALS.unpack(credentials)
        self.user = _name(user_id)
        self._process = process
        return "127.0.0.1", 0

    def _set_up_socket(self, client_socket: socket.socket) -> None:
        """There is no network in between for which to set anything."""

    def __repr__(self) -> str:
        return f"operator {self.user} (process {self._process})"


@lru_cache(1024)
def _name(user_id: int) -> str:
    """The name of a user, or the number of one without a name."""
    try:
        return pwd.getpwuid(user_id).pw_name
    except KeyError:
        return str(user_id)
