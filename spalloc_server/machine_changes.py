"""What a new configuration does to the machines there are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from spalloc_server.configuration import Machine


class MachineChanges(NamedTuple):
    """The difference between two sets of machines, as lists of names."""

    removed: list[str]
    """Machines that go; one that is wired or addressed anew goes and comes back."""
    added: list[str]
    """Machines that come."""
    modified: list[str]
    """Machines whose tags, dead boards or dead links change; jobs on them go on."""


def compare_machines(
    old: Mapping[str, Machine], new: Mapping[str, Machine]
) -> MachineChanges:
    """Work out how to get from one set of machines to another."""
    rebuilt = {
        name
        for name, machine in new.items()
        if name in old and _hardware(old[name]) != _hardware(machine)
    }
    return MachineChanges(
        removed=[name for name in old if name not in new or name in rebuilt],
        added=[name for name in new if name not in old or name in rebuilt],
        modified=[
            name
            for name, machine in new.items()
            if name in old and name not in rebuilt and old[name] != machine
        ],
    )


def _hardware(machine: Machine) -> tuple[object, ...]:
    """What must stay the same for jobs on a machine to go on."""
    return (
        machine.width,
        machine.height,
        machine.board_locations,
        machine.bmp_ips,
        machine.spinnaker_ips,
    )
