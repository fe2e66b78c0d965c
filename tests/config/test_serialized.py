"""A configuration on its way from one process to another."""

import enum
from pathlib import Path

import pytest

from spalloc_server.config import serialized
from spalloc_server.config.script import load_config_file
from spalloc_server.configuration import Configuration, Machine
from spalloc_server.links import Links

ROOT = Path(__file__).resolve().parents[2]


def test_everything_comes_over() -> None:
    machine = Machine(
        name="mäsch\udc80",
        tags={"a", "ü"},
        width=1,
        height=1,
        dead_boards={(0, 0, 2)},
        dead_links={(0, 0, 0, Links.north), (0, 0, 1, 3)},
        board_locations={(0, 0, 0): (1, 2, 3), (0, 0, 1): (1, 2, 4)},
        bmp_ips={(1, 2): "bmp"},
        spinnaker_ips={(0, 0, 0): "s0", (0, 0, 1): "s1"},
    )
    configuration = Configuration(
        machines=[machine],
        port=5,
        ip="::1",
        timeout_check_interval=2,
        max_retired_jobs=7,
        seconds_before_free=1.5,
        allowed_networks=["10.2.0.0/16"],
        first_board_retry=3.25,
        longest_board_retry=1e7,
        scheduling="fifo",
        longest_overtaking=12.5,
        boards_per_owner=72,
        jobs_per_owner=5,
        admin_group="operators",
        longest_keepalive=7.5,
    )
    loaded = serialized.load(serialized.dump(configuration))
    assert loaded == configuration
    assert all(isinstance(link, Links) for *_, link in loaded.machines[0].dead_links)


def test_the_example_comes_over() -> None:
    configuration = load_config_file(ROOT / "example.cfg")
    assert serialized.load(serialized.dump(configuration)) == configuration


def test_values_of_other_kinds_become_plain() -> None:
    class Port(enum.IntEnum):
        HTTP = 80

    class Name(str):
        __slots__ = ()

    class Site(Configuration):
        __slots__ = ()

    loaded = serialized.load(serialized.dump(Site(port=Port.HTTP, ip=Name("x"))))
    assert (type(loaded), type(loaded.port), type(loaded.ip)) == (
        *(Configuration, int, str),
    )


def test_what_is_loaded_is_checked() -> None:
    data = serialized.dump(Configuration()).replace(b"22244", b"70000")
    with pytest.raises(ValueError, match="port should be 0 to 65535, not 70000"):
        serialized.load(data)
