"""IP addresses that follow from boards' places."""

import re
from typing import Any

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.links import Links
from tests.machine_helpers import locations


def test_standard_ips() -> None:
    machine = Machine.with_standard_ips(
        "m",
        tags=["a"],
        dead_boards=[(0, 0, 2)],
        dead_links=iter([(0, 0, 0, Links.north)]),
        board_locations={(0, 0, 0): (0, 0, 1), (0, 0, 1): (1, 2, 3)},
    )

    assert machine == Machine(
        name="m",
        tags={"a"},
        width=1,
        height=1,
        dead_boards={(0, 0, 2)},
        dead_links={(0, 0, 0, Links.north)},
        board_locations={(0, 0, 0): (0, 0, 1), (0, 0, 1): (1, 2, 3)},
        bmp_ips={(0, 0): "192.168.0.0", (1, 2): "192.168.7.0"},
        spinnaker_ips={(0, 0, 0): "192.168.0.9", (0, 0, 1): "192.168.7.25"},
    )


def test_other_regular_ips() -> None:
    machine = Machine.with_standard_ips(
        "m",
        width=1,
        height=1,
        board_locations={(0, 0, z): (z, 10 * z, 20 * z) for z in range(3)},
        base_ip="10.0.0.0",
        cabinet_stride="1.0.0.0",
        frame_stride="0.1.0.0",
        board_stride="0.0.1.0",
        bmp_offset="0.0.0.7",
        spinnaker_offset="0.0.0.255",
    )

    assert list(machine.bmp_ips.values()) == ["10.0.0.7", "11.10.0.7", "12.20.0.7"]
    assert list(machine.spinnaker_ips.values()) == [
        "10.0.0.255",
        "11.10.20.255",
        "12.20.40.255",
    ]


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"tags": "abc"}, TypeError, "tags should be a set of strings, not 'abc'"),
        (
            {"tags": 5},
            TypeError,
            "tags should be an iterable of values fit for a set, not 5",
        ),
        (
            {"dead_boards": [[0, 0, 1]]},
            TypeError,
            "dead_boards should be an iterable of values fit for a set, not "
            "[[0, 0, 1]]",
        ),
        ({"base_ip": 5}, TypeError, "base_ip should be a str, not 5"),
        ({"base_ip": "bmp"}, ValueError, "base_ip: 'bmp' is not an IPv4 address"),
        (
            {"frame_stride": "0.0.256.0"},
            ValueError,
            "frame_stride: '0.0.256.0' is not an IPv4 address",
        ),
        (
            {"base_ip": "255.255.255.255"},
            ValueError,
            "the IP address of cabinet 0, frame 0, board 0 is beyond 255.255.255.255",
        ),
        (
            {"base_ip": "255.255.255.0", "bmp_offset": "0.0.1.0"},
            ValueError,
            "the IP address of the BMP of cabinet 0, frame 0 is beyond 255.255.255.255",
        ),
        (
            {"spinnaker_offset": "0.0.0.0"},
            ValueError,
            "IP '192.168.0.0' is given to both the BMP of cabinet 0, frame 0 and the "
            "Ethernet chip of board (0, 0, 0)",
        ),
        (
            {"board_stride": "0.0.0.0"},
            ValueError,
            "IP '192.168.0.1' is given to both the Ethernet chip of board (0, 0, 0) "
            "and the Ethernet chip of board (0, 0, 1)",
        ),
    ],
)
def test_standard_ips_refuse(
    options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {"name": "m", "board_locations": locations(1, 1)}
    with pytest.raises(kind, match=f"^machine 'm': {re.escape(message)}$"):
        Machine.with_standard_ips(**{**arguments, **options})
