from pathlib import Path
from typing import Any

import pytest

from spalloc_server.config.doubts import doubts_about, doubts_about_files
from spalloc_server.configuration import Configuration, Machine
from spalloc_server.links import Links


def machine(name: str = "m", **options: Any) -> Machine:
    boards = [(x, y, z) for x in range(2) for y in range(2) for z in range(3)]
    return Machine.with_standard_ips(
        name,
        board_locations={board: (0, 0, i) for i, board in enumerate(boards)},
        **options,
    )


def doubts(*machines: Machine, **options: Any) -> list[str]:
    return list(doubts_about(Configuration(machines=machines, **options)))


def test_nothing_is_wrong() -> None:
    assert doubts(machine()) == []
    both = {(0, 0, 0, Links.north), (0, 0, 2, Links.south)}
    assert doubts(machine(dead_links=both)) == []
    assert doubts(machine(dead_boards={(0, 0, 0)})) == []


def test_no_machine() -> None:
    assert doubts() == ["there is no machine"]


@pytest.mark.parametrize(
    ("options", "doubt"),
    [
        ({"port": 1234}, "'port' is deprecated: use --port"),
        ({"seconds_before_free": 0.5}, "seconds_before_free is 0.5: boards"),
        ({"timeout_check_interval": 600.0}, "timeout_check_interval is 600 s: "),
        ({"allowed_networks": []}, "allowed_networks is empty, so nobody can connect"),
        (
            {"admin_group": "no-such-group"},
            "admin_group: there is no group 'no-such-group' on this computer",
        ),
    ],
)
def test_settings(options: dict[str, Any], doubt: str) -> None:
    [found] = doubts(machine(), **options)
    assert found.startswith(doubt)


def test_tags() -> None:
    assert doubts(machine(tags={"x"})) == [
        "no machine has the tag 'default', so jobs must ask for machines or tags"
    ]
    assert "machine m: it has no tags, so jobs must ask for it by name" in doubts(
        machine(tags=set())
    )


def test_dead_boards() -> None:
    dead = {(0, 0, 0), (0, 0, 1), (0, 1, 2), (1, 1, 1)}
    assert doubts(machine(dead_boards=dead)) == [
        "machine m: 4 of its 12 boards are dead"
    ]
    everything = frozenset(machine().board_locations)
    assert doubts(machine(dead_boards=everything)) == [
        "machine m: none of its boards work"
    ]


def test_links_that_are_dead_in_one_direction_only() -> None:
    assert doubts(machine(dead_links={(0, 0, 0, Links.north)})) == [
        "machine m: dead in one direction only: (0, 0, 0) north"
    ]
    links = {(0, 0, 0, link) for link in Links}
    assert doubts(machine(dead_links=links)) == [
        "machine m: dead in one direction only: (0, 0, 0) east, (0, 0, 0) north, "
        "(0, 0, 0) north_east, (0, 0, 0) south and 2 more",
        "machine m: all links of (0, 0, 0) are dead",
    ]


def test_a_dead_board_needs_no_dead_links() -> None:
    link = {(0, 0, 0, Links.north)}
    assert doubts(machine(dead_boards={(0, 0, 2)}, dead_links=link)) == []


def test_files(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.touch(0o644)
    assert list(doubts_about_files(str(config), None)) == []
    config.chmod(0o666)
    [doubt] = doubts_about_files(str(config), None)
    assert doubt.startswith(f"everybody may write {config}, and")
    config.chmod(0o644)
    missing = str(tmp_path / "none")
    [doubt] = doubts_about_files(str(config), missing)
    assert doubt == f"the folder for the state, {missing}, does not exist"


def test_addresses_of_boards_that_are_not_there() -> None:
    three = machine()
    more = three._replace(
        spinnaker_ips={**three.spinnaker_ips, (7, 0, 0): "10.9.9.9", (0, 4, 1): "x"}
    )
    assert doubts(more) == [
        "machine m: spinnaker_ips has boards that are not there: (0, 4, 1), (7, 0, 0)"
    ]
