"""Which commands have to be on the disk before they are done, and in what form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from spalloc_server.service import arguments
from spalloc_server.wire.messages import Command

Record = list[Any]


def record_of(command: Command, host: str | None, now: float) -> Record | None:
    """What to store of a command: a record for `Controller.replay`.

    :param host: IP address of the client
    :param now: seconds since 1970 (UTC)
    :return: None for a command that changes nothing, or will be refused
    """
    make = _MAKERS.get(command.name)
    if make is None:
        return None
    kwargs = {name: arg for name, arg in command.kwargs.items() if name != "client"}
    try:
        checked = make(*command.args, **kwargs)
    except (TypeError, ValueError):
        return None
    return [command.name, now, host, *checked]


def _create_job(*args: Any, **kwargs: Any) -> Record:
    boards, options = arguments.check_create_job(args, kwargs)
    if options.get("tags") is not None:
        options["tags"] = sorted(options["tags"])
    return [boards, options]


def _destroy_job(job_id: Any, reason: Any = None) -> Record:
    return [arguments.check_job_id(job_id), arguments.check_reason(reason)]


def _power_job(job_id: Any) -> Record:
    return [arguments.check_job_id(job_id)]


def _clear_problem(machine_name: Any, x: Any, y: Any, z: Any) -> Record:
    coordinates = arguments.check_coordinates(x=x, y=y, z=z)
    return [arguments.check_machine_name(machine_name), *coordinates]


_MAKERS: dict[str, Callable[..., Record]] = {
    "create_job": _create_job,
    "destroy_job": _destroy_job,
    "power_on_job_boards": _power_job,
    "power_off_job_boards": _power_job,
    "report_problem": arguments.check_problem,
    "clear_problem": _clear_problem,
}

STORED_COMMANDS: Final = frozenset(_MAKERS)
"""Commands that may change something, for which `record_of` is to be asked."""
