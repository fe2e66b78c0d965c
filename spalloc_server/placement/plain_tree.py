"""A tree of regions as a flat list, each region before its parts.

Pickle would recurse once for every cut.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from spalloc_server.placement.region import Region
from spalloc_server.plain.shapes import (
    INT,
    PlainDataError,
    fields,
    ints,
    list_of,
    one_of,
    tuple_of,
)

Node: TypeAlias = tuple[str, int]
"""Whether a region is allocated, free, or cut in rows or columns, and where."""

TREE = fields(
    "pack tree",
    {
        "space": ints(4),
        "nodes": list_of(tuple_of(one_of("allocated", "free", "rows", "columns"), INT)),
    },
)


def nodes_of(root: Region) -> list[Node]:
    """The regions of a tree."""
    nodes: list[Node] = []
    waiting = [root]
    while waiting:
        region = waiting.pop()
        if region.children is None:
            nodes.append(("allocated" if region.allocated else "free", 0))
        else:
            _, second = region.children
            cut_rows = second.y > region.y
            nodes.append(("rows", second.y) if cut_rows else ("columns", second.x))
            waiting += reversed(region.children)
    return nodes


def cut_up(root: Region, nodes: Iterable[Node]) -> tuple[list[Region], list[Region]]:
    """Cut a free region as `nodes_of` says.

    :return: the parts that are allocated, and those that are free
    :raises PlainDataError: if there are too few nodes, or too many
    :raises ValueError: if it cannot be cut there
    """
    allocated, free = [], []
    waiting = [root]
    for kind, where in nodes:
        if not waiting:
            raise PlainDataError("pack tree: more regions than there is space for")
        region = waiting.pop()
        if kind == "rows":
            waiting += reversed(region.split_rows(where))
        elif kind == "columns":
            waiting += reversed(region.split_columns(where))
        elif kind == "allocated":
            region.allocated = True
            allocated.append(region)
        else:
            free.append(region)
    if waiting:
        raise PlainDataError("pack tree: regions are missing")
    return allocated, free
