"""Configurations as bytes, to get them from one process into another.

It is JSON, so that reading it can run nothing, whoever has written it; and reading
checks all of it again, as making a `Configuration` does.
"""

from __future__ import annotations

import json
from typing import Any

from spalloc_server.configuration import Configuration, Machine


def dump(configuration: Configuration) -> bytes:
    """Write a configuration down.

    :param configuration: one that is valid; what it is made of may be of subclasses
    """
    fields = configuration._asdict()
    fields["machines"] = [_plain_machine(machine) for machine in configuration.machines]
    return json.dumps(fields).encode("ascii")


def load(data: bytes) -> Configuration:
    """Read what `dump` has written.

    :raises ValueError: if that is not what it is, as do `TypeError` and
        `KeyError`
    """
    fields = json.loads(data)
    machines = [_machine(machine) for machine in fields.pop("machines")]
    return Configuration(machines=machines, **fields)


def _plain_machine(machine: Machine) -> dict[str, Any]:
    """A machine of nothing but dicts, lists, numbers and texts."""
    plain = machine._asdict()
    for name, value in plain.items():
        if isinstance(value, dict):  # its keys are tuples, for which JSON has no place
            plain[name] = list(value.items())
        elif isinstance(value, frozenset):
            plain[name] = list(value)
    return plain


def _machine(plain: dict[str, Any]) -> Machine:
    # Each part goes when it has been read: together they are most of what a server
    # needs while it starts.
    return Machine(
        name=plain["name"],
        tags=frozenset(plain["tags"]),
        width=plain["width"],
        height=plain["height"],
        dead_boards=frozenset(map(tuple, plain.pop("dead_boards"))),
        dead_links=frozenset(map(tuple, plain.pop("dead_links"))),
        board_locations={
            tuple(board): tuple(location)
            for board, location in plain.pop("board_locations")
        },
        bmp_ips={tuple(frame): ip for frame, ip in plain.pop("bmp_ips")},
        spinnaker_ips={tuple(board): ip for board, ip in plain.pop("spinnaker_ips")},
    )
