"""How busy the machines are, in a few numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple


class MachineLoad(NamedTuple):
    """Of one machine, or of several together."""

    boards: int
    """Those that the configuration does not call dead."""
    in_use: int
    """Those that jobs have."""
    out: int
    """Those that nobody is given for now: out of service, or drained."""


class Load(NamedTuple):
    """Of all that there is."""

    machines: dict[str, MachineLoad]
    waiting: int
    """How many jobs wait for boards."""
    wanted: int
    """How many boards these have asked for."""


def boards_asked(args: Sequence[Any]) -> int:
    """How many boards a job has asked for.

    :param args: its size, as in `Controller.create_job`
    """
    if len(args) == 2:
        return int(3 * args[0] * args[1])
    return 1 if len(args) != 1 or args[0] is None else int(args[0])
