"""Checks of the arguments of commands: complete, before anything changes.

Each check returns the value to go on with, or raises `TypeError` or
`ValueError` with a message that names the argument.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

MAX_NAME_BYTES = 1024
"""The longest name (owner, machine, tag), in bytes of UTF-8."""

MAX_REASON_BYTES = 4 * 1024
"""The longest text that explains something, such as the reason for destroying a job."""

MAX_TAGS_BYTES = 4 * 1024
"""The longest list of tags of a job, all of them together."""

MAX_SIZE = 2**31 - 1
"""The largest number that a request for boards may hold."""

MAX_ID = 2**63 - 1
"""The largest integer taken for an ID or a coordinate of something that exists."""

_CREATE_JOB_KEYWORDS = frozenset(
    {
        "owner",
        "keepalive",
        "machine",
        "tags",
        "min_ratio",
        "max_dead_boards",
        "max_dead_links",
        "require_torus",
    }
)

_CREATE_JOB_SHAPES: dict[int, tuple[str, ...]] = {
    0: (),
    1: ("number of boards",),
    2: ("width", "height"),
    3: ("x", "y", "z"),
}


def check_integer(
    name: str, value: Any, least: int = -MAX_ID, most: int = MAX_ID
) -> int:
    """A whole number between two bounds; true and false are none."""
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not {reprlib.repr(value)}")
    if not least <= value <= most:
        raise ValueError(
            f"{name} must be from {least} to {most}, not {reprlib.repr(value)}"
        )
    return value


def check_text(name: str, value: Any, most: int = MAX_NAME_BYTES) -> str:
    """A string that has at most so many bytes in UTF-8."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {reprlib.repr(value)}")
    try:
        length = len(value.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(
            f"{name} must be text, not {reprlib.repr(value)} with half a character"
        ) from None
    if length > most:
        raise ValueError(f"{name} must have at most {most} bytes, not {length}")
    return value


def check_number(name: str, value: Any) -> float:
    """A finite number that is not negative."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} must be a number, not {reprlib.repr(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or number < 0:
        raise ValueError(
            f"{name} must be a finite number and not negative, "
            f"not {reprlib.repr(value)}"
        )
    return number


def check_job_id(value: Any) -> int:
    """A job ID, of a job that need not exist."""
    if type(value) is int and 0 <= value <= MAX_ID:
        return value  # nearly all commands pass here
    return check_integer("job_id", value)


def check_machine_name(value: Any) -> str:
    """The name of a machine that need not exist."""
    return check_text("machine_name", value)


def check_coordinates(**coordinates: Any) -> list[int]:
    """The coordinates, by name, of a board or place that need not exist."""
    return [check_integer(name, value) for name, value in coordinates.items()]


def check_reason(value: Any) -> str | None:
    """Why a job is destroyed, or None."""
    return None if value is None else check_text("reason", value, MAX_REASON_BYTES)


def check_problem(
    ip_address: Any,
    x: Any = None,
    y: Any = None,
    p: Any = None,
    description: Any = None,
) -> list[Any]:
    """A report of a problem: where, and what people say of it."""
    places = {"x": x, "y": y, "p": p}
    return [
        check_text("ip_address", ip_address),
        *(
            None if value is None else check_integer(name, value, 0, MAX_SIZE)
            for name, value in places.items()
        ),
        None
        if description is None
        else check_text("description", description, MAX_REASON_BYTES),
    ]


def check_where_is(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the arguments; whether they go together is not checked."""
    return {
        name: check_text(name, value)
        if name in ("machine", "ip_address")
        else check_integer(name, value)
        for name, value in kwargs.items()
    }


def check_create_job(
    args: Sequence[Any], kwargs: Mapping[str, Any]
) -> tuple[list[int], dict[str, Any]]:
    """A request for boards, as it is to be handed to the controller.

    ``owner`` becomes a string and ``keepalive`` a float; null for an argument that
    has no meaning for null stands for its default, which clients from 1!7.4.0 on
    make use of.
    """
    owner = kwargs.get("owner")
    if owner is None:
        raise TypeError("owner must be specified for all jobs")
    for name in kwargs:
        if name not in _CREATE_JOB_KEYWORDS:
            raise TypeError(
                f"create_job got an unexpected keyword argument {reprlib.repr(name)}"
            )
    if isinstance(owner, list | dict):
        raise TypeError(f"owner must be a string, not {reprlib.repr(owner)}")
    checked: dict[str, Any] = dict(kwargs)
    checked["owner"] = check_text("owner", str(owner))
    if kwargs.get("keepalive") is not None:
        checked["keepalive"] = check_number("keepalive", kwargs["keepalive"])
    if kwargs.get("machine") is not None:
        check_text("machine", kwargs["machine"])
        if kwargs.get("tags") is not None:
            raise ValueError("only one of machine and tags may be specified for a job")
    if kwargs.get("tags") is not None:
        checked["tags"] = _check_tags(kwargs["tags"])
    if "min_ratio" in kwargs:
        if kwargs["min_ratio"] is None:
            del checked["min_ratio"]
        else:
            checked["min_ratio"] = check_number("min_ratio", kwargs["min_ratio"])
    for name in ("max_dead_boards", "max_dead_links"):
        if kwargs.get(name) is not None:
            check_integer(name, kwargs[name], 0, MAX_SIZE)
    if "require_torus" in kwargs:
        if kwargs["require_torus"] is None:
            del checked["require_torus"]
        elif not isinstance(kwargs["require_torus"], bool):
            raise TypeError(
                "require_torus must be true or false, "
                f"not {reprlib.repr(kwargs['require_torus'])}"
            )
    return _check_shape(args, checked.get("require_torus", False)), checked


def _check_tags(tags: Any) -> list[str]:
    if not isinstance(tags, list):
        raise TypeError(f"tags must be a list of strings, not {reprlib.repr(tags)}")
    checked = sorted({check_text("each of tags", tag) for tag in tags})
    length = sum(len(tag.encode()) for tag in checked)
    if length > MAX_TAGS_BYTES:
        raise ValueError(
            f"tags must have at most {MAX_TAGS_BYTES} bytes in all, not {length}"
        )
    return checked


def _check_shape(args: Sequence[Any], require_torus: bool) -> list[int]:
    if len(args) not in _CREATE_JOB_SHAPES:
        raise TypeError(
            "create_job takes at most 3 positional arguments (boards, or width and "
            f"height, or x, y and z), not {len(args)}"
        )
    least = 0 if len(args) == 3 else 1
    shape = [
        check_integer(name, value, least, 2 if name == "z" else MAX_SIZE)
        for name, value in zip(_CREATE_JOB_SHAPES[len(args)], args, strict=True)
    ]
    single_board = len(shape) in (0, 3) or shape == [1]
    if require_torus and single_board:
        raise ValueError("require_torus must be false when allocating single boards")
    return shape
