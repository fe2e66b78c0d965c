"""Asks a running server something, over its own protocol."""

from __future__ import annotations

import ipaddress
import json
import socket
from typing import Any, Final

TIMEOUT: Final = 10.0
"""Seconds to wait for each step of the exchange."""


class ServerQueryError(Exception):
    """The server does not answer as it should; the message says how."""


def query(host: str, port: int, *commands: str) -> list[Any]:
    """Call commands without arguments, and return what each returns.

    :param host: the address that the server listens on, also one that means any
    :raises ServerQueryError: if it does not answer
    """
    try:
        with (
            socket.create_connection((_reachable(host), port), TIMEOUT) as connection,
            connection.makefile("rb") as replies,
        ):
            for command in commands:
                connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            return [_result(replies.readline()) for _ in commands]
    except (OSError, ValueError, KeyError) as e:
        raise ServerQueryError(f"{host} port {port}: {e}") from e


def _result(line: bytes) -> Any:
    if not line:
        raise ConnectionError("the connection was closed")
    return json.loads(line)["return"]


def _reachable(host: str) -> str:
    """Where a server that listens on an address is reached from here."""
    address = ipaddress.ip_address(host)
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "::1"
    return host
