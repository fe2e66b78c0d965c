"""The options of the command line, from which manual page and completion are made."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final, NamedTuple

from spalloc_server import __version__

LOG_FORMATS: Final = ("text", "json")
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


class Options(NamedTuple):
    """What was asked for on the command line."""

    config: str
    quiet: bool
    cold_start: bool
    port: int | None
    watch_config: bool
    simulate: bool
    check: bool = False
    probe: bool = False
    state_dir: str | None = None
    log_level: str = "info"
    log_format: str = "text"
    job_log: str | None = None
    http: int | None = None
    http_address: str = "127.0.0.1"
    http_host: Sequence[str] | None = None
    gateway_secret: str | None = None
    simulate_chips: bool = False


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, for whoever reads or describes it."""
    parser = argparse.ArgumentParser(
        prog="spalloc_server",
        description="Share SpiNNaker machines between the jobs of many users.",
    )
    parser.add_argument("config", metavar="CONFIG_FILE", help="the config file")
    parser.add_argument(
        "-V", "--version", action="version", version=f"%(prog)s {__version__}"
    )
    parser.add_argument(
        "-p",
        "--port",
        type=_port,
        help="the TCP port to listen on, 0 for a free one (default: 22244)",
    )
    parser.add_argument(
        "--watch-config",
        action="store_true",
        help="read the config file again whenever it changes (SIGHUP always works)",
    )
    parser.add_argument(
        "--simulate",
        action="store_true",
        help="use no hardware: simulate the BMP of every frame on this computer",
    )
    parser.add_argument(
        "--simulate-chips",
        action="store_true",
        help="like --simulate, and have the chips of boards with loopback addresses "
        "(127.x.y.z) answer too, at UDP port 17893: versions, memory, routers",
    )
    parser.add_argument(
        "--gateway-secret",
        metavar="FILE",
        help="let programs that know the secret in this file, such as "
        "spalloc_server_gateway, act for others; it is made if there is none",
    )
    _add_check(parser)
    _add_state(parser)
    _add_logs(parser)
    _add_web(parser)
    return parser


def _add_check(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("instead of running a server")
    group.add_argument(
        "--check",
        action="store_true",
        help="check the config file, say what is in it and what a reload would do to a "
        "server that runs with it, and change nothing",
    )
    group.add_argument(
        "--probe",
        action="store_true",
        help="with --check: also ask the BMP of every frame whether it is there",
    )


def _add_state(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("state")
    group.add_argument(
        "--state-dir",
        metavar="DIR",
        help="the folder for the saved state (default: that of the config file)",
    )
    group.add_argument(
        "--cold-start",
        action="store_true",
        help="discard the saved state, with all jobs in it",
    )


def _add_logs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("logs, written to standard error")
    group.add_argument(
        "-q", "--quiet", action="store_true", help="hide non-error output"
    )
    group.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        default="info",
        help="the least important messages to log (default: %(default)s)",
    )
    group.add_argument(
        "--log-format",
        choices=LOG_FORMATS,
        default="text",
        help="lines to read, or one JSON object a line (default: %(default)s)",
    )
    group.add_argument(
        "--job-log",
        metavar="FILE",
        help="also write what happens to jobs to a file, for spalloc_server_usage",
    )


def _add_web(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("web (needs spalloc_server[web])")
    group.add_argument(
        "--http",
        metavar="PORT",
        type=_port,
        help="serve web pages, /metrics and /healthz on this TCP port, 0 for a free "
        "one (default: not at all)",
    )
    group.add_argument(
        "--http-address",
        metavar="IP",
        default="127.0.0.1",
        help="the address to serve them at (default: %(default)s)",
    )
    group.add_argument(
        "--http-host",
        metavar="NAME",
        action="append",
        help="a further name by which browsers may ask for them, such as that of a "
        "proxy; may be given several times, * for any name (default: that address and "
        "the names of this computer)",
    )


def parse_arguments(args: Sequence[str] | None = None) -> Options:
    """Read the arguments.

    :raises SystemExit: where there is no more to do
    """
    parser = make_parser()
    options = Options(**vars(parser.parse_args(args)))
    if options.probe and not options.check:
        parser.error("--probe is for use with --check")
    return options._replace(simulate=options.simulate or options.simulate_chips)


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise ValueError(text)
    return port


_port.__name__ = "port"  # as argparse's error message calls it
