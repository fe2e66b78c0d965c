"""What is refused about a machine, and with which message."""

import re
from typing import Any

import pytest

from spalloc_server.links import Links
from tests.machine_helpers import THREE_BOARDS, three_boards


def changed(field: str, key: Any, value: Any) -> dict[str, Any]:
    """Change one entry of a dictionary of the machine with three boards."""
    return {field: {**THREE_BOARDS[field], key: value}}


def without(field: str, key: Any) -> dict[str, Any]:
    """Leave one entry of a dictionary of the machine with three boards out."""
    entries = THREE_BOARDS[field].items()
    return {field: {other: value for other, value in entries if other != key}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": 5}, "a machine's name should be a str, not 5"),
        ({"tags": "abc"}, "machine 'm': tags should be a set of strings, not 'abc'"),
        ({"tags": ["a"]}, "machine 'm': tags should be a set of strings, not ['a']"),
        (
            {"tags": {1}},
            "machine 'm': tags should be a set of strings, but has 1 in it",
        ),
        ({"width": 1}, "machine 'm': give both width and height, or neither"),
        ({"height": 1}, "machine 'm': give both width and height, or neither"),
        (
            {"width": 1.0, "height": 1},
            "machine 'm': width should be an int, not 1.0",
        ),
        (
            {"width": 1, "height": "1"},
            "machine 'm': height should be an int, not '1'",
        ),
        (
            {"dead_boards": [(0, 0, 1)]},
            "machine 'm': dead_boards should be a set of (x, y, z), not [(0, 0, 1)]",
        ),
        (
            {"dead_boards": {(0, 1)}},
            "machine 'm': dead_boards should hold boards (x, y, z) of ints, not (0, 1)",
        ),
        (
            {"dead_links": [(0, 0, 0, 1)]},
            "machine 'm': dead_links should be a set of (x, y, z, link), not "
            "[(0, 0, 0, 1)]",
        ),
        (
            {"dead_links": {(0, 0, 0, "north")}},
            "machine 'm': dead_links should hold (x, y, z, link), all ints, not "
            "(0, 0, 0, 'north')",
        ),
        (
            {"board_locations": [(0, 0, 0)]},
            "machine 'm': board_locations should be a dict, not [(0, 0, 0)]",
        ),
        (
            changed("board_locations", "0,0,0", (0, 0, 0)),
            "machine 'm': board_locations should hold boards (x, y, z) of ints, not "
            "'0,0,0'",
        ),
        (
            changed("board_locations", (0, 0, 1), (0, 2)),
            "machine 'm': the location of board (0, 0, 1) should be (cabinet, frame, "
            "board) of ints, not (0, 2)",
        ),
        (
            changed("bmp_ips", 0, "bmp"),
            "machine 'm': bmp_ips should hold (cabinet, frame) of ints, not 0",
        ),
        (
            changed("bmp_ips", (0, 1), None),
            "machine 'm': the IP of the BMP of cabinet 0, frame 1 should be a str, not "
            "None",
        ),
        (
            changed("spinnaker_ips", (0, 0), "chip"),
            "machine 'm': spinnaker_ips should hold boards (x, y, z) of ints, not "
            "(0, 0)",
        ),
        (
            changed("spinnaker_ips", (0, 0, 1), 5),
            "machine 'm': the IP of the Ethernet chip of board (0, 0, 1) should be a "
            "str, not 5",
        ),
        (
            {
                **changed("spinnaker_ips", (0, 0, 1), None),
                "dead_boards": {(0, 0, 1)},
            },
            "machine 'm': the IP of the Ethernet chip of board (0, 0, 1) should be a "
            "str, not None",
        ),
    ],
)
def test_machine_refuses_wrong_kinds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=f"^{re.escape(message)}$"):
        three_boards(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": ""}, "a machine's name should not be empty"),
        (
            {"width": 0, "height": 1},
            "machine 'm': width should be 1 or more, not 0",
        ),
        (
            {"width": 1, "height": -1},
            "machine 'm': height should be 1 or more, not -1",
        ),
        (
            {"board_locations": None},
            "machine 'm': without width and height there must be boards",
        ),
        (
            {"width": 1, "height": 1, "dead_boards": {(1, 0, 2)}},
            "machine 'm': dead_boards: board (1, 0, 2) is outside the machine of "
            "1 x 1 triads with z from 0 to 2",
        ),
        (
            {"dead_boards": {(0, 0, 3)}},
            "machine 'm': dead_boards: board (0, 0, 3) is outside the machine of "
            "1 x 1 triads with z from 0 to 2",
        ),
        (
            {"dead_links": {(0, 1, 2, Links.north)}},
            "machine 'm': dead_links: link (0, 1, 2, north) is outside the machine "
            "of 1 x 1 triads with z from 0 to 2",
        ),
        (
            {"dead_links": {(0, 0, 2, 6)}},
            "machine 'm': dead_links: link (0, 0, 2, 6): 6 is none of the six Links",
        ),
        (
            changed("board_locations", (0, -1, 0), (0, 0, 9)),
            "machine 'm': board_locations: board (0, -1, 0) is outside the machine of "
            "1 x 1 triads with z from 0 to 2",
        ),
        (
            without("board_locations", (0, 0, 1)),
            "machine 'm': board_locations is without board (0, 0, 1)",
        ),
        (
            {"width": 10**9, "height": 10**9},
            "machine 'm': board_locations is without board (0, 1, 0), (0, 1, 1), "
            f"(0, 1, 2), (0, 2, 0), (0, 2, 1) and {3 * 10**18 - 8} more",
        ),
        (
            changed("board_locations", (0, 0, 1), (0, -1, 2)),
            "machine 'm': board (0, 0, 1) is at (0, -1, 2), with a number below 0",
        ),
        (
            changed("board_locations", (0, 0, 2), (0, 0, 2)),
            "machine 'm': boards (0, 0, 1) and (0, 0, 2) are both at cabinet 0, frame "
            "0, board 2",
        ),
        (
            without("bmp_ips", (0, 1)),
            "machine 'm': bmp_ips is without (cabinet, frame) (0, 1)",
        ),
        (
            {"bmp_ips": None},
            "machine 'm': bmp_ips is without (cabinet, frame) (0, 0), (0, 1)",
        ),
        (
            changed("bmp_ips", (0, 1), ""),
            "machine 'm': the IP of the BMP of cabinet 0, frame 1 is empty",
        ),
        (
            changed("bmp_ips", (0, 1), "bmp0"),
            "machine 'm': IP 'bmp0' is given to both the BMP of cabinet 0, frame 0 and "
            "the BMP of cabinet 0, frame 1",
        ),
        (
            without("spinnaker_ips", (0, 0, 0)),
            "machine 'm': spinnaker_ips is without board (0, 0, 0)",
        ),
        (
            {"dead_links": {(25, 1, 0, Links.north)}},
            "machine 'm': dead_links: link (25, 1, 0, north) is outside the machine of "
            "1 x 1 triads with z from 0 to 2",
        ),
        (
            # Mistyped: it is this one that has to be found.
            {"spinnaker_ips": {(0, 0, 1): "b", (0, 0, 2): "c", (0, 7, 0): "a"}},
            "machine 'm': spinnaker_ips is without board (0, 0, 0), but has board "
            "(0, 7, 0), which does not exist",
        ),
        (
            {"bmp_ips": {(0, 0): "a", (1, 0): "b"}},
            "machine 'm': bmp_ips is without (cabinet, frame) (0, 1), but has "
            "(cabinet, frame) (1, 0), which does not exist",
        ),
        (
            # Said of it, and not of the boards in between, of which none is missing.
            {"dead_boards": {(25, 1, 0)}},
            "machine 'm': dead_boards: board (25, 1, 0) is outside the machine of "
            "1 x 1 triads with z from 0 to 2",
        ),
        (
            changed("spinnaker_ips", (0, 0, 2), "chip0"),
            "machine 'm': IP 'chip0' is given to both the Ethernet chip of board "
            "(0, 0, 0) and the Ethernet chip of board (0, 0, 2)",
        ),
        (
            changed("spinnaker_ips", (0, 0, 2), "bmp0"),
            "machine 'm': IP 'bmp0' is given to both the BMP of cabinet 0, frame 0 and "
            "the Ethernet chip of board (0, 0, 2)",
        ),
    ],
)
def test_machine_refuses_inconsistency(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        three_boards(**changes)
