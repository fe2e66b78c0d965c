"""The options of the command line, from which manual page and completion are made."""

from __future__ import annotations

import argparse
import ipaddress
from collections.abc import Sequence
from typing import Final, NamedTuple

from yarl import URL

from spalloc_server import __version__

DEFAULT_SERVER: Final = ("127.0.0.1", 22244)
DEFAULT_LISTEN: Final = ("0.0.0.0", 22245)

Address = tuple[str, int]
"""A name or IP address, and a TCP port."""


class Options(NamedTuple):
    """What was asked for on the command line."""

    server: Address
    secret: str | None
    listen: Address
    cert: str | None
    key: str | None
    behind_proxy: URL | None
    users: str | None
    open: bool
    state_dir: str
    add_user: str | None
    log_level: str
    log_format: str


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, for whoever reads or describes it."""
    parser = argparse.ArgumentParser(
        prog="spalloc_server_gateway",
        description="Serve clients of the newer HTTPS interface to SpiNNaker machines, "
        "such as SpiNNMan's, from a spalloc_server.",
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"%(prog)s {__version__}"
    )
    group = parser.add_argument_group("the server")
    group.add_argument(
        "--server",
        metavar="HOST:PORT",
        type=_server,
        default=DEFAULT_SERVER,
        help="where the spalloc_server listens (default: 127.0.0.1:22244)",
    )
    group.add_argument(
        "--secret",
        metavar="FILE",
        help="the file that spalloc_server was given as --gateway-secret; without it, "
        "all jobs seem to come from this computer",
    )
    group = parser.add_argument_group("its own address")
    group.add_argument(
        "--listen",
        metavar="[ADDR:]PORT",
        type=_listen,
        default=DEFAULT_LISTEN,
        help="the address and TCP port to serve at, port 0 for a free one (default: "
        "0.0.0.0:22245); not used where systemd hands over a socket",
    )
    group.add_argument("--cert", metavar="FILE", help="the certificate chain, in PEM")
    group.add_argument("--key", metavar="FILE", help="its private key, in PEM")
    group.add_argument(
        "--behind-proxy",
        metavar="URL",
        type=_url,
        help="serve plain HTTP to a front end which does the HTTPS, and at which users "
        "see this gateway under this URL",
    )
    group = parser.add_argument_group("users")
    group.add_argument(
        "--users", metavar="FILE", help="let in who is in this file, with a password"
    )
    group.add_argument(
        "--open", action="store_true", help="let in anybody, with any name or none"
    )
    group.add_argument(
        "--add-user",
        metavar="NAME",
        help="instead of serving: add a user to the file of --users, or change the "
        "password, which is asked for",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        default=".",
        help="the folder for the key that sessions are signed with (default: the "
        "current one)",
    )
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="the least important messages to log (default: %(default)s)",
    )
    parser.add_argument(
        "--log-format",
        choices=("text", "json"),
        default="text",
        help="lines to read, or one JSON object a line (default: %(default)s)",
    )
    return parser


def parse_arguments(args: Sequence[str] | None = None) -> Options:
    """Read the arguments.

    :raises SystemExit: where there is no more to do
    """
    parser = make_parser()
    options = Options(**vars(parser.parse_args(args)))
    if options.add_user is not None:
        if options.users is None:
            parser.error("--add-user needs --users")
        return options
    if options.open == (options.users is not None):
        parser.error("one of --users and --open is needed")
    if (options.cert is None) != (options.key is None):
        parser.error("--cert and --key go together")
    if (options.cert is None) == (options.behind_proxy is None):
        parser.error("either --cert and --key or --behind-proxy is needed")
    return options


def _server(text: str) -> Address:
    host, _, port = text.rpartition(":")
    if not host:
        host, port = port, str(DEFAULT_SERVER[1])
    return host.strip("[]"), _port(port)


_server.__name__ = "address"  # as argparse's error message calls it


def _listen(text: str) -> Address:
    host, _, port = text.rpartition(":")
    host = host.strip("[]") or DEFAULT_LISTEN[0]
    ipaddress.ip_address(host)
    return host, _port(port)


_listen.__name__ = "address"


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _url(text: str) -> URL:
    url = URL(text)
    if url.scheme not in ("http", "https") or not url.host or url.query_string:
        raise ValueError(text)
    return url


_url.__name__ = "URL"
