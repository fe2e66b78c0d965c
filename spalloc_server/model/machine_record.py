"""Machines as records fit for JSON, as the journal keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from spalloc_server.configuration import Machine


def machine_to_record(machine: Machine) -> list[Any]:
    """Give a machine in lists, numbers and texts; the same for equal machines."""
    return [
        machine.name,
        sorted(machine.tags),
        machine.width,
        machine.height,
        sorted(machine.dead_boards),
        sorted((x, y, z, int(link)) for x, y, z, link in machine.dead_links),
        sorted(machine.board_locations.items()),
        sorted(machine.bmp_ips.items()),
        sorted(machine.spinnaker_ips.items()),
    ]


def machine_from_record(record: Sequence[Any]) -> Machine:
    """Make a machine from what `machine_to_record` gave.

    :raises ValueError: if it describes none
    :raises TypeError: if something in it is of the wrong kind
    """
    name, tags, width, height, dead_boards, dead_links, *dictionaries = record
    locations, bmp_ips, spinnaker_ips = dictionaries
    return Machine(
        name,
        frozenset(tags),
        width,
        height,
        frozenset((x, y, z) for x, y, z in dead_boards),
        frozenset((x, y, z, link) for x, y, z, link in dead_links),
        {(x, y, z): (c, f, b) for (x, y, z), (c, f, b) in locations},
        {(cabinet, frame): ip for (cabinet, frame), ip in bmp_ips},
        {(x, y, z): ip for (x, y, z), ip in spinnaker_ips},
    )
