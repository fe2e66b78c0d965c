"""What plain data has to look like, checked when it is loaded.

Plain data is made of None, bool, int, float, str, tuples, lists, dictionaries and sets,
and of nothing else. A `Shape` is called with a value, and with words that say where the
value was found; it raises `PlainDataError` where the value is not as it should be.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

Shape: TypeAlias = Callable[[Any, str], None]

_ATOMS = frozenset({type(None), bool, int, float, str})
_DEEPEST = 50


class PlainDataError(ValueError):
    """Data is not what it should be; the message says where."""


def _complain(value: Any, where: str, expected: str) -> PlainDataError:
    found = repr(value)
    if len(found) > 60:
        found = f"{found[:60]}..."
    return PlainDataError(f"{where}: {found} is not {expected}")


def of_type(*types: type) -> Shape:
    """Allow exactly these types: True is no int, and a subclass is another type."""
    allowed = frozenset(types)
    expected = " or ".join(t.__name__ for t in types)

    def check(value: Any, where: str) -> None:
        if type(value) not in allowed:
            raise _complain(value, where, expected)

    return check


INT = of_type(int)
BOOL = of_type(bool)
STR = of_type(str)
NUMBER = of_type(int, float)
OPTIONAL_INT = of_type(int, type(None))
OPTIONAL_NUMBER = of_type(int, float, type(None))
OPTIONAL_STR = of_type(str, type(None))
OPTIONAL_BOOL = of_type(bool, type(None))


def one_of(*values: Any) -> Shape:
    """Allow only these values."""
    allowed = [(type(value), value) for value in values]

    def check(value: Any, where: str) -> None:
        if (type(value), value) not in allowed:
            raise _complain(value, where, f"one of {values}")

    return check


def optional(shape: Shape) -> Shape:
    """Allow None besides."""

    def check(value: Any, where: str) -> None:
        if value is not None:
            shape(value, where)

    return check


def _each(kinds: tuple[type, ...], shape: Shape) -> Shape:
    check_kind = of_type(*kinds)

    def check(value: Any, where: str) -> None:
        check_kind(value, where)
        for item in value:
            shape(item, where)

    return check


def list_of(shape: Shape) -> Shape:
    """Allow lists with items of a shape."""
    return _each((list,), shape)


def tuple_of_each(shape: Shape) -> Shape:
    """Allow tuples of any length with items of a shape."""
    return _each((tuple,), shape)


def set_of(shape: Shape) -> Shape:
    """Allow sets with items of a shape."""
    return _each((set, frozenset), shape)


def _row(kind: type[Any], shapes: tuple[Shape, ...]) -> Shape:
    expected = f"a {kind.__name__} of {len(shapes)} items"

    def check(value: Any, where: str) -> None:
        if type(value) is not kind or len(value) != len(shapes):
            raise _complain(value, where, expected)
        for item, shape in zip(value, shapes, strict=True):
            shape(item, where)

    return check


def tuple_of(*shapes: Shape) -> Shape:
    """Allow tuples with items of these shapes, one of each."""
    return _row(tuple, shapes)


def row_of(*shapes: Shape) -> Shape:
    """Allow lists with items of these shapes, one of each; as JSON has for tuples."""
    return _row(list, shapes)


def ints(number: int) -> Shape:
    """Allow tuples of so many integers. Faster than `tuple_of`."""

    def check(value: Any, where: str) -> None:
        if (
            type(value) is not tuple
            or len(value) != number
            or any(type(item) is not int for item in value)
        ):
            raise _complain(value, where, f"a tuple of {number} integers")

    return check


def dict_of(key: Shape, item: Shape) -> Shape:
    """Allow dictionaries with keys and values of these shapes."""
    check_kind = of_type(dict)

    def check(value: Any, where: str) -> None:
        check_kind(value, where)
        for name, content in value.items():
            key(name, where)
            item(content, where)

    return check


def fields(name: str, shapes: Mapping[str, Shape]) -> Shape:
    """Allow dictionaries with exactly these keys, each with a value of its shape.

    :param name: what such a dictionary describes
    """
    check_kind = of_type(dict)
    names = [(key, shape, f"{name}: {key}") for key, shape in shapes.items()]

    def check(value: Any, where: str) -> None:
        check_kind(value, where)
        if value.keys() != shapes.keys():
            missing = sorted(shapes.keys() - value.keys())
            unknown = sorted(map(str, value.keys() - shapes.keys()))
            raise PlainDataError(
                f"{where}: a {name} with fields missing: {missing}, unknown: {unknown}"
            )
        for key, shape, place in names:
            shape(value[key], place)

    return check


def anything_plain(value: Any, where: str) -> None:
    """Allow any plain data."""
    _check_plain(value, where, 0)


def _check_plain(value: Any, where: str, depth: int) -> None:
    kind = type(value)
    if kind in _ATOMS:
        return
    if depth > _DEEPEST:
        raise PlainDataError(f"{where}: nested too deep")
    if kind is dict:
        for key, item in value.items():
            _check_plain(key, where, depth + 1)
            _check_plain(item, where, depth + 1)
    elif kind in (list, tuple, set, frozenset):
        for item in value:
            _check_plain(item, where, depth + 1)
    else:
        raise _complain(value, where, "plain data")


def plain(value: Any) -> Any:
    """A copy of a value with nothing in it but plain data.

    Members of subclasses, such as an `IntEnum`, become what they are made of.

    :raises PlainDataError: if that cannot be done
    """
    return _plain(value, 0)


def _plain(value: Any, depth: int) -> Any:
    kind = type(value)
    if kind in _ATOMS:
        return value
    if depth > _DEEPEST:
        raise PlainDataError("nested too deep")
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, dict):
        return {
            _plain(key, depth + 1): _plain(item, depth + 1)
            for key, item in value.items()
        }
    for sequence in (list, tuple, set, frozenset):
        if isinstance(value, sequence):
            return sequence(_plain(item, depth + 1) for item in value)
    raise PlainDataError(f"{value!r} is not plain data")


class PlainCopies:
    """Makes one copy, as `plain` does, of what several have in common.

    So they have it in common when the data is read back, and it is written once. None
    of it may change, or end, as long as this object is used.
    """

    def __init__(self) -> None:
        self._copies: dict[int, Any] = {}

    def of(self, value: Any) -> Any:
        """The copy of a value.

        :raises PlainDataError: as `plain` does
        """
        key = id(value)
        if key not in self._copies:
            self._copies[key] = plain(value)
        return self._copies[key]
