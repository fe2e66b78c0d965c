"""What a reload does to each machine."""

from __future__ import annotations

from spalloc_server.configuration import Machine
from spalloc_server.machine_changes import compare_machines


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
