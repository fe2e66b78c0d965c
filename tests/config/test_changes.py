"""What a reload does to each machine."""

from __future__ import annotations

import os
import subprocess
import sys

from spalloc_server.config.changes import (
    compare_fingerprints,
    compare_machines,
    fingerprints,
)
from spalloc_server.configuration import Machine
from tests.machine_helpers import three_boards


def machines(**boards: str) -> dict[str, Machine]:
    return {
        name: Machine.single_board(name, bmp_ip=f"bmp-{name}", spinnaker_ip=address)
        for name, address in boards.items()
    }


def test_machines_are_added_removed_and_left_alone() -> None:
    changes = compare_machines(machines(a="1", b="2"), machines(b="2", c="3"))
    assert changes == (["a"], ["c"], [])


def test_a_machine_with_another_address_goes_and_comes_back() -> None:
    changes = compare_machines(machines(a="1"), machines(a="2"))
    assert changes == (["a"], ["a"], [])


def test_tags_are_a_modification() -> None:
    old = machines(a="1", b="2")
    new = {**old, "b": old["b"]._replace(tags=frozenset({"x"}))}
    assert compare_machines(old, new) == ([], [], ["b"])
    # Their order is no change.
    assert compare_machines(old, dict(reversed(old.items()))) == ([], [], [])


def test_fingerprints_lead_to_the_same_changes() -> None:
    spoilt = three_boards(dead_boards={(0, 0, 2), (0, 0, 1)}, tags={"a", "b"})
    old = {
        "same": spoilt,
        "spoilt": three_boards(),
        "gone": three_boards(),
        "moved": three_boards(),
    }
    new = {
        "new": three_boards(),
        "same": spoilt,
        "spoilt": spoilt,
        "moved": three_boards(bmp_ips={(0, 0): "bmp7", (0, 1): "bmp1"}),
    }
    old = {name: machine._replace(name=name) for name, machine in old.items()}
    new = {name: machine._replace(name=name) for name, machine in new.items()}
    changes = compare_machines(old, new)
    assert changes == (["gone", "moved"], ["new", "moved"], ["spoilt"])
    assert (
        compare_fingerprints(fingerprints(old.values()), fingerprints(new.values()))
        == changes
    )


def test_fingerprints_are_the_same_in_all_processes() -> None:
    # The order in which sets are iterated differs from process to process.
    program = (
        "from tests.machine_helpers import three_boards;"
        "from spalloc_server.config.changes import fingerprints;"
        "tags = set(map(str, range(20)));"
        "print(fingerprints([three_boards(tags=tags)]))"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1
