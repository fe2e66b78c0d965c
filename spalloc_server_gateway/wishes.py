"""What a client asks for when it creates a job, in the words of the server."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

LEAST_KEEPALIVE: Final = 1.0
MOST_KEEPALIVE: Final = 86400.0
DEFAULT_KEEPALIVE: Final = 120.0
"""Seconds of silence after which a job ends."""

_BOARD_FORMS: Final = (("x", "y", "z"), ("cabinet", "frame", "board"), ("address",))
_ACCOUNTS: Final = ("group", "nmpi-collab", "nmpi-job-id")

_DURATION = re.compile(
    r"P(?:(?P<days>\d+(?:\.\d+)?)D)?"
    r"(?:T(?:(?P<hours>\d+(?:\.\d+)?)H)?(?:(?P<minutes>\d+(?:\.\d+)?)M)?"
    r"(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?",
    re.IGNORECASE,
)


class WishError(ValueError):
    """The request cannot be granted; the message is for the user."""


@dataclass
class Wish:
    """A job that is asked for."""

    size: list[int]
    """The positional arguments of the server's ``create_job``."""
    demands: dict[str, Any]
    """Its keyword arguments, but for the owner."""
    place: tuple[int, int, int] | None = None
    """(cabinet, frame, board) of the one board that it has to be."""
    address: str | None = None
    """The IP address of the one board that it has to be."""
    owner: str | None = None
    """Who is to own it, if that was said."""


def read_wish(body: Any) -> Wish:
    """Read the body of a request to create a job.

    :raises WishError: if it makes no sense, or there is nothing like it here
    """
    if not isinstance(body, dict):
        raise WishError("the request must be a JSON object")
    demands: dict[str, Any] = {"keepalive": _keepalive(body.get("keepalive-interval"))}
    machine, tags = body.get("machine-name"), body.get("tags")
    if machine is not None:
        if tags is not None:
            raise WishError("only one of machine-name and tags may be given")
        if not isinstance(machine, str):
            raise WishError("machine-name must be a string")
        demands["machine"] = machine
    elif tags is not None:
        if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
            raise WishError("tags must be a list of strings")
        demands["tags"] = tags
    if body.get("max-dead-boards") is not None:
        demands["max_dead_boards"] = _number(body, "max-dead-boards", 0)
    if sum(body.get(account) is not None for account in _ACCOUNTS) > 1:
        raise WishError(f"only one of {', '.join(_ACCOUNTS)} may be given")
    owner = body.get("owner")
    if owner is not None and not isinstance(owner, str):
        raise WishError("owner must be a string")
    return _with_size(body, Wish([], demands, owner=owner))


def _with_size(body: Mapping[str, Any], wish: Wish) -> Wish:
    """Add how many boards are asked for, and which."""
    number, dimensions, board = (
        body.get(name) for name in ("num-boards", "dimensions", "board")
    )
    if number is not None:
        if dimensions is not None or board is not None:
            raise WishError("num-boards does not go with dimensions or board")
        wish.size = [_number(body, "num-boards", 1)]
    elif dimensions is not None:
        if board is not None:
            raise WishError(
                "a rectangle at a given board is not supported by this server: ask for "
                "dimensions or for a board"
            )
        if not isinstance(dimensions, dict):
            raise WishError("dimensions must have a width and a height")
        wish.size = [_number(dimensions, name, 1) for name in ("width", "height")]
    elif board is not None:
        _add_board(board, wish)
    return wish


def _add_board(board: Any, wish: Wish) -> None:
    form = None
    if isinstance(board, dict):
        given = {name for name, value in board.items() if value is not None}
        form = next((form for form in _BOARD_FORMS if set(form) == given), None)
    if form is None:
        raise WishError(
            "board must have x, y and z, or cabinet, frame and board, or an address"
        )
    # Of one board none can be missing.
    wish.demands.pop("max_dead_boards", None)
    if form == ("address",):
        if not isinstance(board["address"], str):
            raise WishError("address must be a string")
        wish.address = board["address"]
        return
    a, b, c = (_number(board, name, 0) for name in form)
    if form[0] == "x":
        wish.size = [a, b, c]
    else:
        wish.place = a, b, c


def _number(values: Mapping[str, Any], name: str, least: int) -> int:
    value = values.get(name)
    if type(value) is not int or not least <= value < 2**31:
        raise WishError(f"{name} must be a whole number from {least}")
    return value


def _keepalive(text: Any) -> float:
    """Seconds, of a duration in the form of ISO 8601 such as PT120S."""
    if text is None:
        return DEFAULT_KEEPALIVE
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or len(text) > 50 or not any(match.groups()):
        raise WishError("keepalive-interval must be a duration such as PT120S")
    units = {"days": 86400, "hours": 3600, "minutes": 60, "seconds": 1}
    seconds = sum(
        float(match[unit]) * factor for unit, factor in units.items() if match[unit]
    )
    if not LEAST_KEEPALIVE <= seconds <= MOST_KEEPALIVE:
        raise WishError(
            f"keepalive-interval must be from PT{LEAST_KEEPALIVE:.0f}S to "
            f"PT{MOST_KEEPALIVE:.0f}S"
        )
    return seconds
