"""By which names the pages may be asked for.

A page of somebody else can have a name of its own resolve to our address (DNS
rebinding), and would then read ours with the rights of whoever looks at it. The browser
says which name it asked for; pages are served for our own names only.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

ANY: Final = "*"
"""Stands for every name."""

_HOST: Final = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{0,5})?")

_LOCAL: Final = ("localhost", "ip6-localhost", "ip6-loopback")


class ServedHosts:
    """Names and addresses. For any thread, but only one may `add`."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        """Begin with those of loopback, the name of this computer, and others.

        :param names: names and IP addresses, `ANY` for all that there are
        """
        self._names: set[str] = set()
        for name in (*_LOCAL, socket.gethostname(), *names):
            self.add(name)

    def add(self, name: str) -> None:
        """Serve one more, and what it is called without a domain."""
        name = _plain(name.strip("[]"))
        self._names |= {name, name if _is_address(name) else name.partition(".")[0]}
        self._names.discard("")

    def find_full_name(self) -> None:
        """Ask DNS what this computer is called there. Blocks, for any time."""
        self.add(socket.getfqdn())

    def serves(self, host: str, local_address: str) -> bool:
        """Tell whether a request is for us.

        :param host: the value of its header ``Host``
        :param local_address: our end of its connection
        """
        if ANY in self._names:
            return True
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = _plain(match[1] or match[2])
        return (
            name in self._names
            or name == _plain(local_address)
            or (_is_address(name) and ipaddress.ip_address(name).is_loopback)
            or name.endswith(".localhost")
        )


def _plain(name: str) -> str:
    """A name or an address in the one form in which it is compared."""
    name = name.lower().removesuffix(".")
    try:
        address = ipaddress.ip_address(name.partition("%")[0])
    except ValueError:
        return name
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
