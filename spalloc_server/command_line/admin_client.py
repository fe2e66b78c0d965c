"""The connection of ``spalloc_server_admin`` to the server."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from typing import Any, Final

from spalloc_server.storage import names
from spalloc_server.wire.unix_path import short_path

TIMEOUT: Final = 60.0
"""Seconds to wait for each reply."""

LONGEST_WORK: Final = 300.0
"""Seconds to wait for what takes the server longer."""

LOOK_SECONDS: Final = 0.05
"""Between two looks at what the server is doing."""


class AdminError(Exception):
    """Something cannot be done; the message says why, in a line."""


class AdminClient:
    """Gives commands to the server."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a connection."""
        self._connection = connection
        self._replies = connection.makefile("rb")

    def call(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Give a command.

        :return: what it returns
        :raises AdminError: if it is refused, or the server does not answer
        """
        message = {"command": command, "args": args, "kwargs": kwargs}
        try:
            self._connection.sendall(json.dumps(message).encode() + b"\n")
            line = self._replies.readline()
            if not line:
                raise AdminError("the server has closed the connection")
            reply = json.loads(line)
        except (OSError, ValueError) as e:
            raise AdminError(f"the server does not answer: {_message(e)}") from e
        if "exception" in reply:
            raise AdminError(f"{reply['exception']}")
        return reply["return"]

    def wait_for(self, command: str, number: int) -> Any:
        """Give a command over and over, until what it tells of has been done."""
        deadline = time.monotonic() + LONGEST_WORK
        while (outcome := self.call(command, number)) is None:
            if time.monotonic() > deadline:
                raise AdminError("the server has not done it in five minutes")
            time.sleep(LOOK_SECONDS)
        return outcome

    def close(self) -> None:
        """Close the connection."""
        self._replies.close()
        self._connection.close()


@contextlib.contextmanager
def connected(config: str | None, state_dir: str | None) -> Iterator[AdminClient]:
    """Connect to the server of a config file, or to the one with state in a folder.

    :raises AdminError: if none can be reached
    """
    path = _find(config, state_dir)
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(TIMEOUT)
    try:
        with short_path(path) as short:
            connection.connect(short)
    except FileNotFoundError:
        connection.close()
        raise AdminError(f"no server is running there: {path} does not exist") from None
    except ConnectionRefusedError:
        connection.close()
        raise AdminError(f"no server is running there: nobody is at {path}") from None
    except PermissionError as e:
        connection.close()
        raise AdminError(
            f"{path}: {_message(e)}; it is for the server's user, and its admin_group"
        ) from e
    except OSError as e:
        connection.close()
        raise AdminError(f"{path}: {_message(e)}") from e
    client = AdminClient(connection)
    with contextlib.closing(client):
        yield client


def _find(config: str | None, state_dir: str | None) -> str:
    if config is not None:
        return names.operator_socket(names.stem_in(config, state_dir))
    assert state_dir is not None
    try:
        found = list(names.operator_sockets(state_dir))
    except OSError as e:
        raise AdminError(f"{state_dir}: {_message(e)}") from e
    if not found:
        raise AdminError(f"no server is running with state in {state_dir}")
    if len(found) > 1:
        raise AdminError(
            f"there are {len(found)} servers with state in {state_dir}; say which one "
            "by --config"
        )
    return found[0]


def _message(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
