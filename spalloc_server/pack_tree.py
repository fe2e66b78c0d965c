"""Pack rectangles into a rectangle, online, and take them back.

The space is a tree: every region is free, allocated, or cut in two. It knows
nothing of boards; the allocator uses it for triads.

Placement is deterministic because sites have scripts that rely on it:

* free regions are searched in the order of the tree, the smaller child of a
  region before the larger one (the bottom or left one on a tie);
* in a free region the corners are tried bottom-left, top-left, bottom-right,
  top-right;
* what is left of a region is kept as whole as possible (see `_carve`).

So that a request costs no walk through the tree, the free regions are also kept
in search order by shape: see `FreeRegions`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from spalloc_server.area_to_rect import area_to_rect
from spalloc_server.placement.free_regions import FreeRegions
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

#: Decides on a candidate: ``f(x, y, width, height) -> bool``.
CandidateFilter = Callable[[int, int, int, int], bool]

_STATE = fields(
    "pack tree",
    {
        "space": ints(4),
        "nodes": list_of(tuple_of(one_of("allocated", "free", "rows", "columns"), INT)),
    },
)


class FreeError(Exception):
    """What was to be freed is not an allocation of this tree."""


class PackTree:
    """Allocates rectangles inside one rectangle of unit squares.

    Not thread safe; knows no clock.
    """

    def __init__(self, x: int, y: int, width: int, height: int) -> None:
        """Start with one free region.

        :param x: left edge of the space
        :param y: bottom edge of the space
        :param width: at least 1
        :param height: at least 1
        """
        self._root = Region(x, y, width, height)
        self._free = FreeRegions([self._root])
        self._allocated: dict[tuple[int, int], Region] = {}

    @property
    def x(self) -> int:
        """Left edge of the space."""
        return self._root.x

    @property
    def y(self) -> int:
        """Bottom edge of the space."""
        return self._root.y

    @property
    def width(self) -> int:
        """Width of the space."""
        return self._root.width

    @property
    def height(self) -> int:
        """Height of the space."""
        return self._root.height

    @property
    def children(self) -> tuple[Region, Region] | None:
        """The two regions that the space is cut into, None while it is whole."""
        return self._root.children

    @property
    def allocated(self) -> bool:
        """Is the whole space one allocation?"""
        return self._root.allocated

    def __contains__(self, xy: tuple[int, int]) -> bool:
        """Is this unit square inside the space?"""
        return xy in self._root

    def hsplit(self, y: int) -> None:
        """Cut the whole, free space in two along the X axis.

        :param y: the lowest row of the upper part
        :raises ValueError: if the space is not whole and free, or ``y`` does not
            lie strictly inside it
        """
        halves = self._root.split_rows(y)
        self._free = FreeRegions(halves)

    def vsplit(self, x: int) -> None:
        """Cut the whole, free space in two along the Y axis.

        :param x: the leftmost column of the right part
        :raises ValueError: if the space is not whole and free, or ``x`` does not
            lie strictly inside it
        """
        halves = self._root.split_columns(x)
        self._free = FreeRegions(halves)

    def alloc(
        self,
        width: int,
        height: int,
        candidate_filter: CandidateFilter | None = None,
    ) -> tuple[int, int] | None:
        """Allocate a rectangle of exactly this size.

        :param width: at least 1
        :param height: at least 1
        :param candidate_filter: called with each candidate in turn until it
            accepts one; None accepts the first
        :return: the bottom-left corner, or None if there is no such place (the
            tree is then unchanged)
        :raises ValueError: if a side is not positive
        """
        if width < 1 or height < 1:
            raise ValueError(
                f"only rectangles of 1 x 1 and more can be allocated, "
                f"not {width} x {height}"
            )

        def same_size(free_width: int, free_height: int) -> tuple[int, int] | None:
            fits = width <= free_width and height <= free_height
            return (width, height) if fits else None

        found = self._alloc(width * height, same_size, candidate_filter)
        return None if found is None else found[:2]

    def alloc_area(
        self,
        area: int,
        min_ratio: float = 0.0,
        candidate_filter: CandidateFilter | None = None,
    ) -> tuple[int, int, int, int] | None:
        """Allocate a rectangle of at least ``area``, shaped to the free region.

        :param area: at least 1
        :param min_ratio: see `spalloc_server.area_to_rect.area_to_rect`
        :param candidate_filter: as for `alloc`
        :return: ``(x, y, width, height)``, or None if there is no such place
        :raises ValueError: if the area is not positive or the ratio is negative
        """

        def shape_for(free_width: int, free_height: int) -> tuple[int, int] | None:
            return area_to_rect(area, free_width, free_height, min_ratio)

        if area < 1 or not min_ratio >= 0.0:
            # Complains, where no region may be left to do so.
            shape_for(1, 1)
        return self._alloc(area, shape_for, candidate_filter)

    def request(self, x: int, y: int) -> tuple[int, int] | None:
        """Allocate one particular unit square.

        The surroundings are cut away largest side first (left, right, above,
        below on a tie), which fixes what later allocations get.

        :return: ``(x, y)``, or None if it is not free
        """
        if (x, y) not in self._root:
            return None
        region = self._root
        while region.children is not None:
            first, second = region.children
            region = first if (x, y) in first else second
        if region.allocated:
            return None
        self._free.remove(region)
        while region.width > 1 or region.height > 1:
            left, below = x - region.x, y - region.y
            right = region.width - left - 1
            above = region.height - below - 1
            largest = max(left, right, above, below)
            if left == largest:
                spare, region = region.split_columns(x)
            elif right == largest:
                region, spare = region.split_columns(x + 1)
            elif above == largest:
                region, spare = region.split_rows(y + 1)
            else:
                spare, region = region.split_rows(y)
            self._free.add(spare)
        self._hold(region)
        return x, y

    def free(self, x: int, y: int) -> None:
        """Give an allocation back; two empty halves of a region become one.

        :param x: left edge of the allocation
        :param y: bottom edge of the allocation
        :raises FreeError: if no allocation starts there
        """
        region = self._allocated.pop((x, y), None)
        if region is None:
            raise FreeError(f"no allocation starts at ({x}, {y})")
        region.allocated = False
        parent = region.parent
        while parent is not None:
            sibling = parent.sibling_of(region)
            if sibling.allocated or sibling.children is not None:
                break
            self._free.remove(sibling)
            parent.children = None
            region, parent = parent, parent.parent
        self._free.add(region)

    def _alloc(
        self,
        area: int,
        shape_for: Callable[[int, int], tuple[int, int] | None],
        candidate_filter: CandidateFilter | None,
    ) -> tuple[int, int, int, int] | None:
        """Allocate in the first free region with an acceptable place.

        :param area: the least that is needed
        :param shape_for: the size to take from a free region of a given size,
            None if it is too small
        """
        for region, (width, height) in self._free.search(area, shape_for):
            for x, y in _corners(region, width, height):
                if candidate_filter is None or candidate_filter(x, y, width, height):
                    self._carve(region, x, y, width, height)
                    return x, y, width, height
        return None

    def _carve(self, region: Region, x: int, y: int, width: int, height: int) -> None:
        """Allocate a rectangle in one of the corners of a free region.

        The first cut runs along the axis that leaves the larger rectangle
        whole, the second one cuts the other axis.
        """
        self._free.remove(region)
        if region.height - height > region.width - width:
            region = self._cut_rows(region, y, height)
            region = self._cut_columns(region, x, width)
        else:
            region = self._cut_columns(region, x, width)
            region = self._cut_rows(region, y, height)
        self._hold(region)

    def _cut_rows(self, region: Region, y: int, height: int) -> Region:
        """Reduce a region to ``height`` rows from ``y``, at one of its ends."""
        if height == region.height:
            return region
        if y > region.y:
            spare, region = region.split_rows(y)
        else:
            region, spare = region.split_rows(y + height)
        self._free.add(spare)
        return region

    def _cut_columns(self, region: Region, x: int, width: int) -> Region:
        """Reduce a region to ``width`` columns from ``x``, at one of its ends."""
        if width == region.width:
            return region
        if x > region.x:
            spare, region = region.split_columns(x)
        else:
            region, spare = region.split_columns(x + width)
        self._free.add(spare)
        return region

    def _hold(self, region: Region) -> None:
        """Note an allocation, which is not among the free regions any more."""
        region.allocated = True
        self._allocated[region.x, region.y] = region

    def __getstate__(self) -> dict[str, Any]:
        """Plain data: the tree as a flat list, each region before its parts.

        (Pickle would recurse once for every cut.)
        """
        nodes = []
        waiting = [self._root]
        while waiting:
            region = waiting.pop()
            if region.children is None:
                nodes.append(("allocated" if region.allocated else "free", 0))
            else:
                _, second = region.children
                cut_rows = second.y > region.y
                nodes.append(("rows", second.y) if cut_rows else ("columns", second.x))
                waiting += reversed(region.children)
        root = self._root
        return {"space": (root.x, root.y, root.width, root.height), "nodes": nodes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again.

        :raises PlainDataError: if it is not such a tree
        """
        _STATE(state, "pack tree")
        self._root = Region(*state["space"])
        self._allocated = {}
        free = []
        waiting = [self._root]
        for kind, where in state["nodes"]:
            if not waiting:
                raise PlainDataError("pack tree: more regions than there is space for")
            region = waiting.pop()
            if kind == "rows":
                waiting += reversed(region.split_rows(where))
            elif kind == "columns":
                waiting += reversed(region.split_columns(where))
            elif kind == "allocated":
                region.allocated = True
                self._allocated[region.x, region.y] = region
            else:
                free.append(region)
        if waiting:
            raise PlainDataError("pack tree: regions are missing")
        self._free = FreeRegions(free)


def _corners(region: Region, width: int, height: int) -> Iterator[tuple[int, int]]:
    """Where a rectangle lies in each corner of a region, in the order of trial."""
    right = region.x + region.width - width
    top = region.y + region.height - height
    yield region.x, region.y
    if top != region.y:
        yield region.x, top
    if right != region.x:
        yield right, region.y
        if top != region.y:
            yield right, top
