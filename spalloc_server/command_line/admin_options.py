"""The command line of ``spalloc_server_admin``."""

from __future__ import annotations

import argparse
from typing import Any

from spalloc_server import __version__

STATES_OF_JOBS = ("queued", "power", "ready")
STATES_OF_BOARDS = (
    *("free", "allocated", "powering off", "cooling"),
    *("out of service", "draining", "drained", "dead"),
)

WAYS_TO_NAME_BOARDS = ("board", "physical", "frame", "cabinet")

_TRIPLE: dict[str, Any] = {"type": int, "nargs": 3}


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, for whoever reads or describes it."""
    parser = argparse.ArgumentParser(
        prog="spalloc_server_admin",
        description="Look after a running spalloc_server, on its own computer: see how "
        "it is, take boards and machines away from the jobs and give them back, end "
        "jobs.",
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"%(prog)s {__version__}"
    )
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="the config file that the server was started with",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="the folder with the server's state (default: that of the config file)",
    )
    _add_json(parser, False)
    commands = parser.add_subparsers(
        dest="command", metavar="COMMAND", required=True, title="commands"
    )
    _add_looking(commands)
    _add_boards(commands)
    _add_machines(commands)
    _add_jobs(commands)
    _add_server(commands)
    _add_fault(commands)
    return parser


def _add_json(parser: argparse.ArgumentParser, default: Any) -> None:
    parser.add_argument(
        "--json",
        action="store_true",
        default=default,
        help="print one JSON value instead of text",
    )


def _command(commands: Any, name: str, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=f"{text[0].upper()}{text[1:]}."
    )
    # What was said before the command's name stays so.
    _add_json(parser, argparse.SUPPRESS)
    return parser


def _add_filters(parser: argparse.ArgumentParser, states: tuple[str, ...]) -> None:
    parser.add_argument("--owner", metavar="NAME", help="only those of an owner")
    parser.add_argument("--machine", metavar="NAME", help="only those of a machine")
    parser.add_argument("--state", choices=states, help="only those in a state")


def _add_board(group: Any) -> None:
    """Add the ways to name a single board."""
    group.add_argument(
        "--board", metavar=("X", "Y", "Z"), **_TRIPLE, help="a board, by its triad"
    )
    group.add_argument(
        "--physical",
        metavar=("CABINET", "FRAME", "BOARD"),
        **_TRIPLE,
        help="a board, by where it is plugged in",
    )


def _add_place(parser: argparse.ArgumentParser, whole: bool) -> None:
    """Add the ways to name boards: those of `WAYS_TO_NAME_BOARDS`.

    :param whole: may whole cabinets and machines be meant?
    """
    parser.add_argument("machine", metavar="MACHINE", help="the machine")
    group = parser.add_mutually_exclusive_group(required=not whole)
    _add_board(group)
    group.add_argument(
        "--frame",
        metavar=("CABINET", "FRAME"),
        type=int,
        nargs=2,
        help="all boards of a frame",
    )
    if whole:
        group.add_argument(
            "--cabinet",
            metavar="CABINET",
            type=int,
            nargs=1,
            help="all boards of a cabinet (default: of the machine)",
        )


def _add_reason(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--reason", metavar="TEXT", help="why, for people to read")


def _add_looking(commands: Any) -> None:
    _command(commands, "status", "tell how the server and its machines are")
    parser = _command(commands, "jobs", "list the jobs that have not ended")
    _add_filters(parser, STATES_OF_JOBS)
    parser = _command(commands, "boards", "list boards, and who has them since when")
    _add_filters(parser, STATES_OF_BOARDS)
    parser = _command(commands, "where-is", "tell where a board or chip is")
    parser.add_argument("machine", metavar="MACHINE", nargs="?", help="the machine")
    parser.add_argument(
        "--job", metavar="ID", type=int, help="a job instead, with --chip"
    )
    group = parser.add_mutually_exclusive_group(required=True)
    _add_board(group)
    group.add_argument("--chip", metavar=("X", "Y"), type=int, nargs=2, help="a chip")
    group.add_argument(
        "--ip",
        metavar="ADDRESS",
        help="a board, by the address of its Ethernet chip, of any machine",
    )
    parser = _command(
        commands, "problems", "list boards that are out of service or were reported"
    )
    parser.add_argument(
        "machine", metavar="MACHINE", nargs="?", help="only of this machine"
    )


def _add_boards(commands: Any) -> None:
    parser = _command(
        commands,
        "drain",
        "give a board, a frame, a cabinet or a machine to no more jobs",
    )
    _add_place(parser, whole=True)
    _add_reason(parser)
    parser.add_argument(
        "--now", action="store_true", help="end the jobs that have some of the boards"
    )
    parser = _command(commands, "resume", "give drained boards to jobs again")
    _add_place(parser, whole=True)
    _add_reason(parser)
    parser = _command(
        commands,
        "clear",
        "put boards back into service, and forget what was reported of them",
    )
    _add_place(parser, whole=True)
    _add_reason(parser)


def _add_machines(commands: Any) -> None:
    for name, text in (
        ("close", "start no new jobs; they are accepted, and wait"),
        ("open", "start new jobs again"),
    ):
        parser = _command(commands, name, text)
        parser.add_argument(
            "machine",
            metavar="MACHINE",
            nargs="?",
            help="on this machine (default: on all)",
        )
        _add_reason(parser)


def _add_jobs(commands: Any) -> None:
    parser = _command(commands, "destroy", "end jobs")
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "jobs", metavar="ID", type=int, nargs="*", default=[], help="their numbers"
    )
    group.add_argument("--owner", metavar="NAME", help="all jobs of an owner")
    _add_reason(parser)
    parser = _command(commands, "move", "have a waiting job be the next")
    parser.add_argument("job", metavar="ID", type=int, help="its number")
    _add_reason(parser)


def _add_server(commands: Any) -> None:
    _command(commands, "reload", "have the config file read again, and tell what for")
    _command(commands, "snapshot", "have all state written to the disk")


def _add_fault(commands: Any) -> None:
    parser = _command(
        commands, "fault", "break or mend simulated hardware (with --simulate)"
    )
    _add_place(parser, whole=False)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--silent", action="store_true", help="the frame's BMP does not answer"
    )
    what.add_argument(
        "--drop",
        metavar="SHARE",
        type=float,
        help="a share of the packets to and from the frame's BMP is lost, from 0 to 1",
    )
    what.add_argument(
        "--fpga",
        action="store_true",
        help="the board's FPGAs load badly whenever it is powered on",
    )
    what.add_argument(
        "--power", action="store_true", help="the board cannot be powered on or off"
    )
    what.add_argument(
        "--mend", action="store_true", help="all is well again with the frame"
    )
