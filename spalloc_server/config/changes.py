"""What a new configuration does to the machines there are."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from spalloc_server.configuration import Machine

_HARDWARE: Final = ("width", "height", "board_locations", "bmp_ips", "spinnaker_ips")
"""What must stay the same for jobs on a machine to go on."""


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
    return _changes(
        {name: (_hardware(machine), machine) for name, machine in old.items()},
        {name: (_hardware(machine), machine) for name, machine in new.items()},
    )


class Fingerprint(NamedTuple):
    """Stands for a machine where only changes matter, in another process."""

    hardware: str
    """Is the same where jobs on the machine go on."""
    whole: str
    """Is the same where nothing changes."""


def fingerprints(machines: Iterable[Machine]) -> dict[str, Fingerprint]:
    """The fingerprints of machines, by name."""
    found = {}
    for machine in machines:
        hardware = _digest(_hardware(machine))
        others = (v for k, v in machine._asdict().items() if k not in _HARDWARE)
        found[machine.name] = Fingerprint(hardware, _digest([hardware, *others]))
    return found


def harmless_settings(machines: Iterable[Machine]) -> dict[str, dict[str, Any]]:
    """What may change of machines while jobs go on, by name, fit for JSON.

    It is what the configuration says: not what is out of service or drained.
    """
    return {
        machine.name: {
            "tags": sorted(machine.tags),
            "dead_boards": sorted(machine.dead_boards),
            "dead_links": sorted(
                (x, y, z, int(link)) for x, y, z, link in machine.dead_links
            ),
        }
        for machine in machines
    }


def compare_fingerprints(
    old: Mapping[str, Fingerprint], new: Mapping[str, Fingerprint]
) -> MachineChanges:
    """Do what `compare_machines` does where only fingerprints are known."""
    return _changes(old, new)


def _changes(
    old: Mapping[str, tuple[object, object]], new: Mapping[str, tuple[object, object]]
) -> MachineChanges:
    rebuilt = {name for name in new if name in old and old[name][0] != new[name][0]}
    return MachineChanges(
        removed=[name for name in old if name not in new or name in rebuilt],
        added=[name for name in new if name not in old or name in rebuilt],
        modified=[
            name
            for name in new
            if name in old and name not in rebuilt and old[name][1] != new[name][1]
        ],
    )


def _digest(fields: Iterable[object]) -> str:
    text = repr([_in_order(field) for field in fields]).encode()
    # No more is needed to notice a change, and hashlib brings OpenSSL, a tenth of the
    # memory of an idle server.
    return f"{zlib.crc32(text):08x}-{len(text)}"


def _in_order(field: object) -> object:
    """The same for the same value in any process: sets and dicts have no order."""
    if isinstance(field, Mapping):
        return sorted(field.items())
    return sorted(field) if isinstance(field, frozenset) else field


def _hardware(machine: Machine) -> tuple[object, ...]:
    return tuple(getattr(machine, name) for name in _HARDWARE)
