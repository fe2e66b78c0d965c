"""Machines and configurations as values, and what machines may not share."""

import pickle
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.configuration import Configuration, Machine
from spalloc_server.links import Links
from tests.machine_helpers import THREE_BOARDS, locations, three_boards


def test_configuration_defaults() -> None:
    configuration = Configuration()

    assert repr(configuration) == (
        "Configuration(machines=[], port=22244, ip='', timeout_check_interval=5.0, "
        "max_retired_jobs=1200, seconds_before_free=30, allowed_networks=None, "
        "first_board_retry=600.0, longest_board_retry=86400.0, "
        "scheduling='backfill', longest_overtaking=28800.0, boards_per_owner=None, "
        "jobs_per_owner=None, admin_group=None, longest_keepalive=None)"
    )
    configuration.machines.append(three_boards())
    assert Configuration().machines == []


def test_configuration_takes_machines_in_order() -> None:
    a = Machine.single_board("a", bmp_ip="ba", spinnaker_ip="ca")
    b = Machine.single_board("b", bmp_ip="bb", spinnaker_ip="cb")

    configuration = Configuration((b, a), 0, "127.0.0.1", 1, 0, 0.5, ["::/0"])

    given = [[b, a], 0, "127.0.0.1", 1, 0, 0.5, ["::/0"]]
    ours = ["backfill", 28_800.0, None, None, None, None]
    assert list(configuration) == [*given, 600.0, 86_400.0, *ours]
    assert Configuration(machine for machine in (b, a)).machines == [b, a]


def test_configuration_pickles_and_compares_by_value() -> None:
    configuration = Configuration([three_boards()], port=1)

    copy = pickle.loads(pickle.dumps(configuration))

    assert copy == configuration
    assert type(copy) is Configuration
    assert type(copy.machines[0]) is Machine


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"machines": 5}, TypeError, "machines should be a list of Machine, not 5"),
        (
            {"machines": [5]},
            TypeError,
            "machines should be a list of Machine, not of 5",
        ),
        ({"port": "1"}, TypeError, "port should be an int, not '1'"),
        (
            {"scheduling": "lifo"},
            ValueError,
            "scheduling should be 'backfill' or 'fifo', not 'lifo'",
        ),
        ({"scheduling": None}, TypeError, "scheduling should be a string, not None"),
        (
            {"longest_overtaking": -1},
            ValueError,
            "longest_overtaking should be 0 s or more and finite, not -1",
        ),
        (
            {"boards_per_owner": 0},
            ValueError,
            "boards_per_owner should be 1 or more, not 0",
        ),
        (
            {"jobs_per_owner": 1.5},
            TypeError,
            "jobs_per_owner should be an int, not 1.5",
        ),
        ({"port": True}, TypeError, "port should be an int, not True"),
        (
            {"allowed_networks": "10.0.0.0/8"},
            TypeError,
            "allowed_networks should be a list of networks, not '10.0.0.0/8'",
        ),
        (
            {"allowed_networks": [10]},
            TypeError,
            "allowed_networks should be a list of str, such as '10.2.0.0/16', "
            "not of 10",
        ),
        (
            {"allowed_networks": ["10.0.0.0/8", "10.2.0.1/16"]},
            ValueError,
            "allowed_networks: 10.2.0.1/16 has host bits set",
        ),
        (
            {"allowed_networks": ["example.org"]},
            ValueError,
            "allowed_networks: 'example.org' does not appear to be an IPv4 or IPv6 "
            "network",
        ),
        ({"port": -1}, ValueError, "port should be 0 to 65535, not -1"),
        ({"port": 65536}, ValueError, "port should be 0 to 65535, not 65536"),
        ({"ip": None}, TypeError, "ip should be a str, not None"),
        (
            {"timeout_check_interval": "5"},
            TypeError,
            "timeout_check_interval should be a number of seconds, not '5'",
        ),
        (
            {"timeout_check_interval": 0},
            ValueError,
            "timeout_check_interval should be 0.01 s or more and finite, not 0",
        ),
        (
            {"timeout_check_interval": 1e-12},
            ValueError,
            "timeout_check_interval should be 0.01 s or more and finite, not 1e-12",
        ),
        (
            {"timeout_check_interval": 1e300},
            ValueError,
            "timeout_check_interval should be 31622400 s at most, not 1e+300",
        ),
        (
            {"seconds_before_free": 10**400},
            ValueError,
            f"seconds_before_free should be 31622400 s at most, not 1{39 * '0'}",
        ),
        (
            {"ip": "10.0..1"},
            ValueError,
            "ip should be an address or a host's name, not '10.0..1'",
        ),
        (
            {"ip": "a\0b"},
            ValueError,
            "ip should be an address or a host's name, not 'a\\x00b'",
        ),
        (
            {"ip": "\udc80"},
            ValueError,
            "ip should be an address or a host's name, not '\\udc80'",
        ),
        (
            {"ip": 64 * "x"},
            ValueError,
            f"ip should be an address or a host's name, not '{64 * 'x'}'",
        ),
        (
            {"timeout_check_interval": float("nan")},
            ValueError,
            "timeout_check_interval should be 0.01 s or more and finite, not nan",
        ),
        (
            {"max_retired_jobs": 1.5},
            TypeError,
            "max_retired_jobs should be an int, not 1.5",
        ),
        (
            {"max_retired_jobs": -1},
            ValueError,
            "max_retired_jobs should be 0 to 10000000, not -1",
        ),
        (
            {"seconds_before_free": -0.5},
            ValueError,
            "seconds_before_free should be 0 s or more and finite, not -0.5",
        ),
        (
            {"seconds_before_free": True},
            TypeError,
            "seconds_before_free should be a number of seconds, not True",
        ),
        (
            {"seconds_before_free": float("inf")},
            ValueError,
            "seconds_before_free should be 0 s or more and finite, not inf",
        ),
    ],
)
def test_configuration_refuses(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        Configuration(**options)
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        Configuration()._replace(**options)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (("a", "bmp2", "chip2"), "two machines are called 'a'"),
        (
            ("b", "bmp", "chip2"),
            "IP 'bmp' is given to both the BMP of cabinet 0, frame 0 of machine 'a' "
            "and the BMP of cabinet 0, frame 0 of machine 'b'",
        ),
        (
            ("b", "bmp2", "chip"),
            "IP 'chip' is given to both the Ethernet chip of board (0, 0, 0) of "
            "machine 'a' and the Ethernet chip of board (0, 0, 0) of machine 'b'",
        ),
        (
            ("b", "chip", "chip2"),
            "IP 'chip' is given to both the Ethernet chip of board (0, 0, 0) of "
            "machine 'a' and the BMP of cabinet 0, frame 0 of machine 'b'",
        ),
    ],
)
def test_machines_share_nothing(other: tuple[str, str, str], message: str) -> None:
    a = Machine.single_board("a", bmp_ip="bmp", spinnaker_ip="chip")
    b = Machine.single_board(other[0], bmp_ip=other[1], spinnaker_ip=other[2])

    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Configuration([a, b])


def test_machines_may_share_what_they_do_not_use() -> None:
    """One table of BMPs may serve several machines."""
    bmp_ips = {(0, frame): f"bmp{frame}" for frame in range(4)}
    a = three_boards(name="a", bmp_ips=bmp_ips)
    b = three_boards(
        name="b",
        bmp_ips=bmp_ips,
        board_locations={(0, 0, z): (0, 2, z) for z in range(3)},
        spinnaker_ips={(0, 0, z): f"other{z}" for z in range(3)},
    )

    assert Configuration([a, b]).machines == [a, b]


def test_machine_has_the_documented_fields() -> None:
    machine = three_boards()

    assert machine._asdict() == {
        **THREE_BOARDS,
        "tags": frozenset({"default"}),
        "width": 1,
        "height": 1,
        "dead_boards": frozenset(),
        "dead_links": frozenset(),
    }
    assert repr(machine).startswith("Machine(name='m', tags=frozenset({'default'}), ")


def test_machine_keeps_values_of_its_own() -> None:
    bmp_ips = dict(THREE_BOARDS["bmp_ips"])
    tags = {"a"}
    machine = three_boards(bmp_ips=bmp_ips, tags=tags, dead_boards={(0, 0, 1)})

    bmp_ips.clear()
    tags.clear()

    assert machine.bmp_ips == THREE_BOARDS["bmp_ips"]
    assert machine.tags == frozenset({"a"})
    assert isinstance(machine.dead_boards, frozenset)


def test_machine_pickles_and_compares_by_value() -> None:
    machine = three_boards(dead_links={(0, 0, 0, Links.north)})

    assert pickle.loads(pickle.dumps(machine)) == machine
    assert machine == three_boards(dead_links={(0, 0, 0, 2)})
    assert machine != three_boards()


def test_links_may_be_numbers() -> None:
    machine = three_boards(dead_links={(0, 0, 1, 5)})

    ((_, _, _, link),) = machine.dead_links
    assert link is Links.south


def test_locations_may_be_lists() -> None:
    machine = three_boards(
        board_locations={
            board: list(place)
            for board, place in THREE_BOARDS["board_locations"].items()
        }
    )

    assert machine.board_locations == THREE_BOARDS["board_locations"]


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_size_is_inferred_from_all_boards(
    width: int, height: int, data: st.DataObject
) -> None:
    places = locations(width, height)
    dead = data.draw(st.sets(st.sampled_from(sorted(places))))
    alive = {board: place for board, place in places.items() if board not in dead}

    machine = Machine.with_standard_ips("m", dead_boards=dead, board_locations=alive)

    assert (machine.width, machine.height) == (width, height)


def test_what_is_dead_may_be_described_or_not() -> None:
    everything = three_boards(dead_boards={(0, 0, 2)}, dead_links={(0, 0, 2, 0)})
    least = three_boards(
        dead_boards={(0, 0, 2)},
        board_locations={(0, 0, 0): (0, 0, 0), (0, 0, 1): (0, 0, 2)},
        bmp_ips={(0, 0): "bmp0"},
        spinnaker_ips={(0, 0, 0): "chip0", (0, 0, 1): "chip1"},
    )

    assert everything.board_locations[0, 0, 2] == (0, 1, 5)
    assert (0, 0, 2) not in least.board_locations
    # Nor does it matter what the address of a dead board is.
    reused = {**THREE_BOARDS["spinnaker_ips"], (0, 0, 2): "chip0"}
    three_boards(dead_boards={(0, 0, 2)}, spinnaker_ips=reused)


def test_a_machine_may_be_all_dead() -> None:
    machine = Machine("m", dead_boards={(0, 0, 0), (0, 0, 1), (0, 0, 2)})

    assert (machine.width, machine.height) == (1, 1)
    assert not machine.board_locations
    assert not machine.bmp_ips
    assert not machine.spinnaker_ips


def test_replacing_checks_again() -> None:
    assert three_boards()._replace(name="n") == three_boards(name="n")
    with pytest.raises(ValueError, match="machine 'm': board_locations is without"):
        three_boards()._replace(width=2)


def test_single_board() -> None:
    machine = Machine.single_board("m", {"a", "b"}, "bmp", "chip")

    assert machine == Machine(
        name="m",
        tags={"a", "b"},
        width=1,
        height=1,
        dead_boards={(0, 0, 1), (0, 0, 2)},
        dead_links=set(),
        board_locations={(0, 0, 0): (0, 0, 0)},
        bmp_ips={(0, 0): "bmp"},
        spinnaker_ips={(0, 0, 0): "chip"},
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.3.2.1", "localhost"])
def test_a_simulated_board_needs_only_one_address(host: str) -> None:
    machine = Machine.single_board("m", bmp_ip=host, spinnaker_ip=host)

    assert Configuration([machine]).machines == [machine]


def test_single_board_needs_its_addresses() -> None:
    with pytest.raises(TypeError, match=r"^machine 'm': bmp_ip must be given$"):
        Machine.single_board("m", spinnaker_ip="chip")
    with pytest.raises(TypeError, match=r"^machine 'm': spinnaker_ip must be given$"):
        Machine.single_board("m", bmp_ip="bmp")


def test_huge_machine_is_checked_quickly() -> None:
    places = locations(20, 20)
    start = time.process_time()
    machine = Machine.with_standard_ips("m", board_locations=places)
    Configuration([machine])
    assert time.process_time() - start < 0.2


@pytest.mark.parametrize(
    "make",
    [
        lambda: three_boards(),
        lambda: Machine.single_board("m", bmp_ip="bmp", spinnaker_ip="chip"),
        lambda: Machine.with_standard_ips("m", board_locations=locations(2, 2)),
    ],
)
def test_every_way_makes_a_machine_that_pickles(make: Callable[[], Machine]) -> None:
    machine = make()

    copy = pickle.loads(pickle.dumps(machine))

    assert copy == machine
    assert type(copy) is Machine
