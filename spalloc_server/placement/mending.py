"""Cut a space anew so that certain rectangles are taken, and all else is free."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TypeAlias

from spalloc_server.placement.region import Region

Rectangle: TypeAlias = tuple[int, int, int, int]
"""Left, bottom, width and height."""


def cut_anew(root: Region, taken: Collection[Rectangle]) -> list[tuple[str, int]]:
    """The tree of regions with which certain rectangles are taken, in a flat list.

    Where the present cuts do, they stay.

    :param root: the whole space as it is cut now, which may have taken and free parts
        in the wrong places
    :param taken: they do not overlap, and were allocated one after the other
    :return: as in the state of a `.PackTree`
    :raises ValueError: if no cuts lead to these rectangles
    """
    nodes: list[tuple[str, int]] = []
    Part: TypeAlias = tuple[Rectangle, Region | None, Collection[Rectangle]]
    waiting: list[Part] = [((root.x, root.y, root.width, root.height), root, taken)]
    while waiting:
        space, region, inside = waiting.pop()
        if not inside:
            nodes.append(("free", 0))
            continue
        if list(inside) == [space]:
            nodes.append(("allocated", 0))
            continue
        rows, where, region_is_cut = _cut(space, region, inside)
        nodes.append(("rows" if rows else "columns", where))
        x, y, width, height = space
        if rows:
            halves = (x, y, width, where - y), (x, where, width, y + height - where)
            first = [each for each in inside if each[1] < where]
        else:
            halves = (x, y, where - x, height), (where, y, x + width - where, height)
            first = [each for each in inside if each[0] < where]
        second = [each for each in inside if each not in first]
        children = region.children if region is not None and region_is_cut else None
        low, high = children or (None, None)
        waiting += [(halves[1], high, second), (halves[0], low, first)]
    return nodes


def _cut(
    space: Rectangle, region: Region | None, inside: Collection[Rectangle]
) -> tuple[bool, int, bool]:
    """Where to cut a space.

    :return: along rows? The first row or column of the second half, and whether it is
        cut there already
    """
    if region is not None and region.children is not None:
        _, second = region.children
        rows = second.y > region.y
        where = second.y if rows else second.x
        if _is_clean(rows, where, inside):
            return rows, where, True
    for rows, where in _edges(space, inside):
        if _is_clean(rows, where, inside):
            return rows, where, False
    raise ValueError(f"no cut of {space} leads to {sorted(inside)}")


def _edges(
    space: Rectangle, inside: Collection[Rectangle]
) -> Iterator[tuple[bool, int]]:
    x, y, width, height = space
    rows = {edge for _, b, _, h in inside for edge in (b, b + h)} - {y, y + height}
    columns = {edge for a, _, w, _ in inside for edge in (a, a + w)} - {x, x + width}
    yield from ((True, where) for where in sorted(rows))
    yield from ((False, where) for where in sorted(columns))


def _is_clean(rows: bool, where: int, inside: Collection[Rectangle]) -> bool:
    """Does a cut go through none of these?"""
    if rows:
        return not any(y < where < y + height for _, y, _, height in inside)
    return not any(x < where < x + width for x, _, width, _ in inside)
