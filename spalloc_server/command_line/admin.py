"""``spalloc_server_admin``: the command of those who run the server."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from spalloc_server.command_line import admin_output
from spalloc_server.command_line.admin_client import AdminClient, AdminError, connected
from spalloc_server.command_line.admin_options import (
    WAYS_TO_NAME_BOARDS,
    make_parser,
)
from spalloc_server.command_line.terminal import (
    open_standard_streams,
    prepare_output,
    printable,
    say,
)

Options: TypeAlias = argparse.Namespace


def main(args: Sequence[str] | None = None) -> int:
    """Do what the command line says.

    :param args: the arguments, those of the process if None
    :return: the exit status: 0, or 1 where it could not be done
    """
    open_standard_streams()
    prepare_output()
    parser = make_parser()
    options = parser.parse_args(args)
    _check(parser, options)
    try:
        with connected(options.config, options.state_dir) as client:
            value = _COMMANDS[options.command](client, options)
    except AdminError as e:
        return _fail(str(e))
    try:
        if options.json:
            say(json.dumps(value))
        else:
            say(*map(printable, admin_output.lines(options.command, value)))
    except OSError as e:
        return _fail(f"cannot print the answer: {e.strerror}")
    problem = value.get("problem") if options.command in _MAY_FAIL else None
    return 0 if problem is None else _fail(problem)


def _fail(problem: str) -> int:
    print(printable(f"spalloc_server_admin: {problem}"), file=sys.stderr)
    return 1


def _check(parser: argparse.ArgumentParser, options: Options) -> None:
    """End the process where the command line makes no sense."""
    if options.config is None and options.state_dir is None:
        parser.error("say which server is meant: --config FILE or --state-dir DIR")
    if options.command == "where-is":
        subjects = (options.machine, options.job, options.ip)
        if sum(subject is not None for subject in subjects) != 1:
            parser.error("where-is: one of MACHINE, --job ID and --ip is needed")
        if options.job is not None and options.chip is None:
            parser.error("where-is: with --job, only --chip can be asked for")
    elif options.command == "destroy" and not options.jobs and options.owner is None:
        parser.error("destroy: numbers of jobs, or --owner NAME, are needed")
    elif options.command == "fault":
        if options.fpga and options.frame is not None:
            parser.error("fault: --fpga is of a board: --board or --physical")
        if options.power and options.frame is not None:
            parser.error("fault: --power is of a board: --board or --physical")
        if options.drop is not None and not 0 <= options.drop <= 1:
            parser.error("fault: --drop is a share, from 0 to 1")


# The commands


def _status(client: AdminClient, _options: Options) -> Any:
    return client.call("status")


def _list(client: AdminClient, options: Options) -> Any:
    return client.call(
        options.command,
        owner=options.owner,
        machine=options.machine,
        state=options.state,
    )


def _where_is(client: AdminClient, options: Options) -> Any:
    subjects = (
        ("machine", options.machine),
        ("job_id", options.job),
        ("ip_address", options.ip),
    )
    asked: dict[str, Any] = {key: value for key, value in subjects if value is not None}
    for values, keys in (
        (options.board, ("x", "y", "z")),
        (options.physical, ("cabinet", "frame", "board")),
        (options.chip, ("chip_x", "chip_y")),
    ):
        if values is not None:
            asked.update(zip(keys, values, strict=True))
    found = client.call("where_is", **asked)
    # To find a board that there is not by going around the edge would not help here.
    if found is None or options.board not in (None, found["logical"]):
        raise AdminError(_nothing_there(client, options))
    return found


def _nothing_there(client: AdminClient, options: Options) -> str:
    if options.ip is not None:
        return f"no board has the address {options.ip!r}"
    if options.machine is None:
        known = [job["job_id"] for job in client.call("jobs")]
        where, is_there = f"job {options.job}", options.job in known
    else:
        is_there = options.machine in _machines(client)
        where = f"machine {options.machine!r}"
    if not is_there:
        return f"there is no {where}"
    if options.physical is not None:
        at = "cabinet {}, frame {}, board {}".format(*options.physical)
        return f"{where} has no board at {at}"
    if options.board is not None:
        return f"{where} has no board {tuple(options.board)}"
    return f"{where} has no chip {tuple(options.chip)}"


def _problems(client: AdminClient, options: Options) -> Any:
    if options.machine is not None and options.machine not in _machines(client):
        raise AdminError(f"there is no machine {options.machine!r}")
    return client.call("list_problems", options.machine)


def _machines(client: AdminClient) -> list[str]:
    return [machine["name"] for machine in client.call("list_machines")]


def _place(options: Options) -> dict[str, Any]:
    place = {name: getattr(options, name, None) for name in WAYS_TO_NAME_BOARDS}
    given = {name: value for name, value in place.items() if value is not None}
    return {"machine": options.machine, **given}


def _of_boards(client: AdminClient, options: Options) -> Any:
    more = {"now": options.now} if options.command == "drain" else {}
    return client.call(
        options.command, **_place(options), reason=options.reason, **more
    )


def _of_machines(client: AdminClient, options: Options) -> Any:
    client.call(options.command, options.machine, options.reason)
    return {"machine": options.machine}


def _destroy(client: AdminClient, options: Options) -> Any:
    jobs = client.call("destroy", options.jobs or None, options.owner, options.reason)
    return {"destroyed": jobs}


def _move(client: AdminClient, options: Options) -> Any:
    client.call("move", options.job, options.reason)
    return {"moved": options.job}


def _reload(client: AdminClient, options: Options) -> Any:
    # No other command has anything to do with config files.
    from spalloc_server.command_line.check import CheckRequest, findings
    from spalloc_server.config.reading import read_configuration
    from spalloc_server.config.script import ConfigFileError
    from spalloc_server.storage import names

    config = client.call("status")["config"]
    lines: list[str] = []
    try:
        stem = names.stem_in(config, options.state_dir)
        request = CheckRequest(config, stem, options.state_dir, False)
        lines += findings(request, read_configuration(config))
    except (ConfigFileError, OSError) as e:
        lines.append(f"{e}")
    outcome = client.wait_for("reload_outcome", client.call("reload"))
    return {"check": lines, **outcome}


def _snapshot(client: AdminClient, _options: Options) -> Any:
    return client.wait_for("snapshot_outcome", client.call("snapshot"))


def _fault(client: AdminClient, options: Options) -> Any:
    return client.call(
        "fault",
        **_place(options),
        silent=options.silent,
        drop=options.drop,
        fpga=options.fpga,
        power=options.power,
        mend=options.mend,
    )


_COMMANDS: Final[dict[str, Callable[[AdminClient, Options], Any]]] = {
    "status": _status,
    "jobs": _list,
    "boards": _list,
    "where-is": _where_is,
    "problems": _problems,
    "drain": _of_boards,
    "resume": _of_boards,
    "clear": _of_boards,
    "close": _of_machines,
    "open": _of_machines,
    "destroy": _destroy,
    "move": _move,
    "reload": _reload,
    "snapshot": _snapshot,
    "fault": _fault,
}

_MAY_FAIL: Final = frozenset({"reload", "snapshot"})
"""Commands of which the outcome is told, and that the outcome may be a failure."""
