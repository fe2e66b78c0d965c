"""Checks of what a config file says about machines, for `configuration`.

Each function either gives the value back in the form in which it is kept, or raises a
`TypeError` or `ValueError` that names the culprit.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from typing import Any, Final, NoReturn, TypeGuard, TypeVar

from spalloc_server.config.ip_claims import (
    bmp_of,
    check_ips_distinct,
    chip_of,
    ip_claims,
)
from spalloc_server.coordinates import Board, BoardLink, Physical
from spalloc_server.links import Links

_T = TypeVar("_T")

MOST_SECONDS = 366 * 86_400.0
"""The longest time that an option may be, in seconds."""

SHORTEST_INTERVAL = 0.01
"""The shortest time between two checks, in seconds, that leaves time for others."""

MOST_RETIRED = 10_000_000
"""The most destroyed jobs to be remembered, which takes some gigabytes."""

# IPv4 addresses and most names. What makes sure of others has tables of all of Unicode,
# which takes long to import, and much memory.
_PLAIN_HOST: Final = re.compile(r"(?:[0-9A-Za-z_-]{1,63}\.)*[0-9A-Za-z_-]{1,63}\.?")

# How many culprits a message names before it only counts the others.
_MAX_NAMED = 5


@contextmanager
def errors_about(subject: str) -> Iterator[None]:
    """Put the subject before the message of errors raised inside."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = ValueError if isinstance(error, ValueError) else TypeError
        raise kind(f"{subject}: {error}") from None


def check_int(
    what: str, value: object, lowest: int, highest: int | None = None
) -> None:
    """Make sure that an option is an int within its limits."""
    if not _is_int(value):
        raise TypeError(f"{what} should be an int, not {value!r}")
    if value < lowest or (highest is not None and value > highest):
        limits = f"{lowest} or more" if highest is None else f"{lowest} to {highest}"
        raise ValueError(f"{what} should be {limits}, not {value}")


def check_word(what: str, value: object, words: Sequence[str]) -> None:
    """Make sure that an option is one of some words."""
    if not isinstance(value, str):
        raise TypeError(f"{what} should be a string, not {value!r}")
    if value not in words:
        allowed = " or ".join(map(repr, words))
        raise ValueError(f"{what} should be {allowed}, not {value!r:.40}")


def check_seconds(what: str, value: object, lowest: float = 0) -> None:
    """Make sure that an option is a sensible time, of `lowest` seconds at least."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} should be a number of seconds, not {value!r}")
    if not lowest <= value < math.inf:  # which NaN is not either
        raise ValueError(
            f"{what} should be {lowest:g} s or more and finite, not {value!r:.40}"
        )
    if value > MOST_SECONDS:
        raise ValueError(
            f"{what} should be {MOST_SECONDS:.0f} s at most, not {value!r:.40}"
        )


def check_host(what: str, value: object) -> None:
    """Make sure that an option can be an IP address or the name of a host.

    Whether there is such a host is not found out.
    """
    if not isinstance(value, str):
        raise TypeError(f"{what} should be a str, not {value!r}")
    if _PLAIN_HOST.fullmatch(value):
        return
    try:
        value.encode("idna")  # as looking it up does
        possible = value.isprintable()
    except UnicodeError:
        possible = False
    if not possible:
        raise ValueError(f"{what} should be an address or a host's name, not {value!r}")


def check_name(name: object) -> None:
    """Make sure that a machine has a name."""
    if not isinstance(name, str):
        raise TypeError(f"a machine's name should be a str, not {name!r}")
    if not name:
        raise ValueError("a machine's name should not be empty")


def frozen(what: str, values: Iterable[_T]) -> frozenset[_T]:
    """Make a set of any iterable."""
    try:
        return frozenset(values)
    except TypeError:
        raise TypeError(
            f"{what} should be an iterable of values fit for a set, not {values!r}"
        ) from None


def checked_tags(tags: object) -> frozenset[str]:
    """Make sure that tags are a set of strings."""
    # A plain string would be iterable, too: as a set of its letters.
    if not isinstance(tags, Set):
        raise TypeError(f"tags should be a set of strings, not {tags!r}")
    for tag in tags:
        if not isinstance(tag, str):
            raise TypeError(f"tags should be a set of strings, but has {tag!r} in it")
    return frozenset(tags)


def checked_dead_boards(boards: object) -> frozenset[Board]:
    """Make sure that dead boards are a set of board coordinates."""
    if not isinstance(boards, Set):
        raise TypeError(f"dead_boards should be a set of (x, y, z), not {boards!r}")
    return frozenset(_board("dead_boards", board) for board in boards)


def checked_dead_links(links: object, width: int, height: int) -> frozenset[BoardLink]:
    """Make sure that dead links are a set of links of boards of the machine."""
    if not isinstance(links, Set):
        raise TypeError(f"dead_links should be a set of (x, y, z, link), not {links!r}")
    checked = set()
    for entry in links:
        if not _is_ints(entry, 4):
            raise TypeError(
                f"dead_links should hold (x, y, z, link), all ints, not {entry!r}"
            )
        x, y, z, number = entry
        if not _is_within((x, y, z), width, height):
            _refuse_outside(f"dead_links: {_link(entry)}", width, height)
        try:
            link = Links(number)
        except ValueError:
            raise ValueError(
                f"dead_links: {_link(entry)}: {int(number)} is none of the six Links"
            ) from None
        checked.add((x, y, z, link))
    return frozenset(checked)


def checked_locations(locations: object) -> dict[Board, Physical]:
    """Make sure that locations are a mapping from board to physical coordinates."""
    checked = {}
    for key, value in _items("board_locations", locations):
        board = _board("board_locations", key)
        # Lists are let through, since descriptions may come from JSON or YAML.
        location = tuple(value) if isinstance(value, list) else value
        if not _is_ints(location, 3):
            raise TypeError(
                f"the location of board {board} should be (cabinet, frame, board) of "
                f"ints, not {value!r}"
            )
        cabinet, frame, number = location
        if min(cabinet, frame, number) < 0:
            raise ValueError(f"board {board} is at {location}, with a number below 0")
        checked[board] = (cabinet, frame, number)
    return checked


def checked_size(width: Any, height: Any, boards: Set[Board]) -> tuple[int, int]:
    """Make sure that the size is sensible, or find the least that holds the boards."""
    if (width is None) != (height is None):
        raise TypeError("give both width and height, or neither")
    if width is None:
        if not boards:
            raise ValueError("without width and height there must be boards")
        return (
            max(0, *(x for x, _, _ in boards)) + 1,
            max(0, *(y for _, y, _ in boards)) + 1,
        )
    check_int("width", width, 1)
    check_int("height", height, 1)
    return width, height


def checked_dead_within(
    dead_boards: Set[Board], locations: Mapping[Board, Any]
) -> None:
    """Make sure, where the size follows from the boards, that no dead one is mistyped.

    One may lie beyond those that have a location; but where working boards would have
    to be between them, it is the dead one that is wrong.
    """
    if not locations:
        return
    width, height = checked_size(None, None, locations.keys())
    all_width, all_height = checked_size(None, None, dead_boards | locations.keys())
    known = len(dead_boards | locations.keys())
    if known < 3 * all_width * all_height and len(locations) <= 3 * width * height:
        _check_within("dead_boards: board", sorted(dead_boards), width, height)


def working_boards(width: int, height: int, dead_boards: Set[Board]) -> set[Board]:
    """Enumerate the boards that are not dead."""
    return set(_boards(width, height)).difference(dead_boards)


def check_locations(
    width: int,
    height: int,
    dead_boards: Set[Board],
    locations: Mapping[Board, Physical],
) -> None:
    """Make sure that every working board, and no other place, has one location."""
    _check_within("dead_boards: board", dead_boards, width, height)
    _check_within("board_locations: board", locations, width, height)
    known = dead_boards | locations.keys()
    # Counted rather than enumerated, as a mistyped size may mean any number of boards.
    missing = 3 * width * height - len(known)
    if missing:
        boards = (board for board in _boards(width, height) if board not in known)
        raise ValueError(
            f"board_locations is without {_named('board', boards, missing)}"
        )
    boards_by_location: dict[Physical, Board] = {}
    for board, location in locations.items():
        other = boards_by_location.setdefault(location, board)
        if other != board:
            cabinet, frame, number = location
            raise ValueError(
                f"boards {other} and {board} are both at cabinet {cabinet}, "
                f"frame {frame}, board {number}"
            )


def checked_ips(
    bmp_ips: object,
    spinnaker_ips: object,
    width: int,
    height: int,
    dead_boards: Set[Board],
    locations: Mapping[Board, Physical],
) -> tuple[dict[tuple[int, int], str], dict[Board, str]]:
    """Make sure that what works has IP addresses, each with one of its own.

    Other frames, other boards and dead ones may have IP addresses too; those of dead
    boards may be any text.
    """
    bmps = {_frame(frame): ip for frame, ip in _items("bmp_ips", bmp_ips)}
    chips = {
        _board("spinnaker_ips", board): ip
        for board, ip in _items("spinnaker_ips", spinnaker_ips)
    }
    working = working_boards(width, height, dead_boards)

    frames = {locations[board][:2] for board in working}
    if without := sorted(frames - bmps.keys()):
        named = _named("(cabinet, frame)", without, len(without))
        strays = _strays("(cabinet, frame)", bmps.keys() - frames)
        raise ValueError(f"bmp_ips is without {named}{strays}")
    if missing := sorted(working - chips.keys()):
        named = _named("board", missing, len(missing))
        strays = _strays("board", chips.keys() - locations.keys() - dead_boards)
        raise ValueError(f"spinnaker_ips is without {named}{strays}")

    for frame, ip in bmps.items():
        _check_ip(ip, bmp_of(frame))
    for board, ip in sorted(chips.items()):
        if board not in dead_boards:
            _check_ip(ip, chip_of(board))
        elif not isinstance(ip, str):
            raise TypeError(f"the IP of {chip_of(board)} should be a str, not {ip!r}")
    check_ips_distinct(ip_claims(bmps, {board: chips[board] for board in working}))
    return bmps, chips


def _check_ip(ip: object, owner: str) -> None:
    check_host(f"the IP of {owner}", ip)
    if not ip:
        raise ValueError(f"the IP of {owner} is empty")


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_ints(value: object, length: int) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(value, tuple) and len(value) == length and all(map(_is_int, value))
    )


def _is_within(board: Board, width: int, height: int) -> bool:
    x, y, z = board
    return 0 <= x < width and 0 <= y < height and 0 <= z < 3


def _board(what: str, value: object) -> Board:
    """Make sure that something looks like board coordinates."""
    if not _is_ints(value, 3):
        raise TypeError(f"{what} should hold boards (x, y, z) of ints, not {value!r}")
    x, y, z = value
    return x, y, z


def _frame(value: object) -> tuple[int, int]:
    """Make sure that something looks like the coordinates of a frame."""
    if not _is_ints(value, 2):
        raise TypeError(f"bmp_ips should hold (cabinet, frame) of ints, not {value!r}")
    cabinet, frame = value
    return cabinet, frame


def _items(what: str, mapping: object) -> Iterable[tuple[Any, Any]]:
    """Give what is in a mapping, or nothing if there is none."""
    if mapping is None:
        return ()
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} should be a dict, not {mapping!r}")
    return mapping.items()


def _check_within(what: str, boards: Iterable[Board], width: int, height: int) -> None:
    for board in boards:
        if not _is_within(board, width, height):
            _refuse_outside(f"{what} {board}", width, height)


def _link(entry: Sequence[int]) -> str:
    """A link as people write it."""
    *board, number = entry
    name = next((link.name for link in Links if link == number), int(number))
    return f"link ({', '.join(map(str, [*map(int, board), name]))})"


def _refuse_outside(what: str, width: int, height: int) -> NoReturn:
    raise ValueError(
        f"{what} is outside the machine of {width} x {height} triads with z from 0 to 2"
    )


def _strays(what: str, culprits: Set[tuple[int, ...]]) -> str:
    """Name entries of what there is not: probably one that is missed is mistyped."""
    if not culprits:
        return ""
    named = _named(what, sorted(culprits), len(culprits))
    return f", but has {named}, which does not exist"


def _named(what: str, culprits: Iterable[tuple[int, ...]], count: int) -> str:
    """Name the first culprits, and count the others."""
    names = ", ".join(map(str, islice(culprits, _MAX_NAMED)))
    more = count - _MAX_NAMED
    return f"{what} {names}" + (f" and {more} more" if more > 0 else "")


def _boards(width: int, height: int) -> Iterator[Board]:
    return ((x, y, z) for x in range(width) for y in range(height) for z in range(3))
