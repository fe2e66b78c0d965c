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

One region, free or not, can be *kept* for somebody: what is or becomes free in it is
given to nobody else, until it is let go. Only whole regions of the tree are, since
only those become free as one when all that lies in them has been freed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from spalloc_server.area_to_rect import area_to_rect
from spalloc_server.placement.free_regions import (
    FreeRegions,
    Size,
    Sizes,
    exact_size,
    squarest,
)
from spalloc_server.placement.plain_tree import TREE, cut_up, nodes_of
from spalloc_server.placement.region import Region, corners, leaves

#: Decides on a candidate: ``f(x, y, width, height) -> bool``.
CandidateFilter = Callable[[int, int, int, int], bool]


class FreeError(Exception):
    """What was to be freed is not an allocation of this tree."""


class PackTree:
    """Allocates rectangles inside one rectangle of unit squares.

    Not thread safe; knows no clock.
    """

    freed = 0
    """The area of the largest free region that there has come to be outside the kept
    one, since the one who wants to know last set this to 0."""

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
        self._kept: Region | None = None
        # What is free in the kept region is here, and not in _free.
        self._kept_free = FreeRegions(())

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

        found = self.alloc_sized(Sizes(exact_size(width, height)), candidate_filter)
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
        if area < 1 or not min_ratio >= 0.0:
            # Complains, where no region may be left to do so.
            area_to_rect(area, 1, 1, min_ratio)
        return self.alloc_sized(Sizes(squarest(area, min_ratio)), candidate_filter)

    def alloc_sized(
        self,
        sizes: Mapping[Size, Size | None],
        candidate_filter: CandidateFilter | None = None,
        in_kept: bool = False,
    ) -> tuple[int, int, int, int] | None:
        """Allocate a rectangle in the first free region with an acceptable place.

        :param sizes: what to take from a free region of each width and height, None
            if it is too small
        :param candidate_filter: as for `alloc`
        :param in_kept: may it lie in the kept region, if there is no other place?
        :return: ``(x, y, width, height)``, or None if there is no such place
        """
        found = self._alloc(self._free, sizes, candidate_filter)
        if found is None and in_kept and self._kept is not None:
            found = self._alloc(self._kept_free, sizes, candidate_filter)
        return found

    def request(self, x: int, y: int) -> tuple[int, int] | None:
        """Allocate one particular unit square.

        The surroundings are cut away largest side first (left, right, above,
        below on a tie), which fixes what later allocations get.

        :return: ``(x, y)``, or None if it is not free, or kept
        """
        return self.request_kept(x, y, in_kept=False)

    def request_kept(
        self, x: int, y: int, in_kept: bool = True
    ) -> tuple[int, int] | None:
        """Allocate one particular unit square, of the kept region, too.

        :return: ``(x, y)``, or None if it is not free
        """
        if (x, y) not in self._root:
            return None
        region = self.leaf_at(x, y)
        if region.allocated:
            return None
        free = self._free
        if self._kept is not None and (x, y) in self._kept:
            if not in_kept:
                return None
            free = self._kept_free
        free.remove(region)
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
            free.add(spare)
        self._hold(region)
        return x, y

    def leaf_at(self, x: int, y: int) -> Region:
        """The free or allocated region that a unit square of the space lies in."""
        region = self._root
        while region.children is not None:
            first, second = region.children
            region = first if (x, y) in first else second
        return region

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
        kept = self._kept
        if kept is not None and (x, y) in kept:
            self._kept_free.add(self._merged(region, self._kept_free))
        else:
            region = self._merged(region, self._free)
            self._free.add(region)
            area = region.width * region.height
            if area > self.freed:
                self.freed = area

    def _merged(self, region: Region, free: FreeRegions) -> Region:
        """The largest region that is all free, now that this one is.

        The kept region does not become part of a larger one: that would move the
        corners, which are all that is looked at.

        :param free: where its siblings are to be found, and are taken out
        """
        parent = region.parent
        while parent is not None and region is not self._kept:
            sibling = parent.sibling_of(region)
            if not sibling.is_free or sibling is self._kept:
                break
            free.remove(sibling)
            parent.children = None
            region, parent = parent, parent.parent
        return region

    @property
    def root(self) -> Region:
        """The whole space. Not to be changed."""
        return self._root

    @property
    def kept(self) -> Region | None:
        """The region that is kept for somebody, see `keep`."""
        return self._kept

    def keep(self, region: Region) -> None:
        """Give nothing of this region out any more, except with ``in_kept``.

        :param region: of this tree; it may be cut, allocated or free
        :raises ValueError: if another region is kept
        """
        if self._kept is not None:
            raise ValueError(f"{self._kept} is kept already")
        self._kept = region
        for leaf in leaves(region):
            if not leaf.allocated:
                self._free.remove(leaf)
                self._kept_free.add(leaf)

    def let_go(self) -> None:
        """Let what is free in the kept region be given to anybody."""
        region, self._kept = self._kept, None
        if region is None:
            return
        for leaf in self._kept_free:
            self._free.add(leaf)
            self.freed = max(self.freed, leaf.width * leaf.height)
        self._kept_free = FreeRegions(())
        if region.is_free:
            self._free.remove(region)
            region = self._merged(region, self._free)
            self._free.add(region)
            self.freed = max(self.freed, region.width * region.height)

    def _alloc(
        self,
        free: FreeRegions,
        sizes: Mapping[Size, Size | None],
        candidate_filter: CandidateFilter | None,
    ) -> tuple[int, int, int, int] | None:
        """Allocate in the first of these free regions with an acceptable place."""
        for region, (width, height) in free.search(sizes):
            for x, y in corners(region, width, height):
                if candidate_filter is None or candidate_filter(x, y, width, height):
                    self._carve(free, region, x, y, width, height)
                    return x, y, width, height
        return None

    def _carve(
        self, free: FreeRegions, region: Region, x: int, y: int, width: int, height: int
    ) -> None:
        """Allocate a rectangle in one of the corners of a free region.

        The first cut runs along the axis that leaves the larger rectangle
        whole, the second one cuts the other axis.
        """
        free.remove(region)
        if region.height - height > region.width - width:
            region = _cut_rows(free, region, y, height)
            region = _cut_columns(free, region, x, width)
        else:
            region = _cut_columns(free, region, x, width)
            region = _cut_rows(free, region, y, height)
        self._hold(region)

    def _hold(self, region: Region) -> None:
        """Note an allocation, which is not among the free regions any more."""
        region.allocated = True
        self._allocated[region.x, region.y] = region

    def __getstate__(self) -> dict[str, Any]:
        """Plain data. What is kept is not in it: `keep` has to be called again."""
        root = self._root
        space = root.x, root.y, root.width, root.height
        return {"space": space, "nodes": nodes_of(root)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again.

        :raises PlainDataError: if it is not such a tree
        """
        TREE(state, "pack tree")
        self._root = Region(*state["space"])
        allocated, free = cut_up(self._root, state["nodes"])
        self._allocated = {(region.x, region.y): region for region in allocated}
        self._free = FreeRegions(free)
        self._kept = None
        self._kept_free = FreeRegions(())

    def region_of(self, x: int, y: int, width: int, height: int) -> Region:
        """The region of the tree with these sides.

        :raises ValueError: if there is none
        """
        region = self._root
        while (region.x, region.y, region.width, region.height) != (
            x,
            y,
            width,
            height,
        ):
            if region.children is None or (x, y) not in region:
                raise ValueError(f"no region has {width} x {height} at ({x}, {y})")
            first, second = region.children
            region = first if (x, y) in first else second
        return region


def _cut_rows(free: FreeRegions, region: Region, y: int, height: int) -> Region:
    """Reduce a region to ``height`` rows from ``y``, at one of its ends."""
    if height == region.height:
        return region
    if y > region.y:
        spare, region = region.split_rows(y)
    else:
        region, spare = region.split_rows(y + height)
    free.add(spare)
    return region


def _cut_columns(free: FreeRegions, region: Region, x: int, width: int) -> Region:
    """Reduce a region to ``width`` columns from ``x``, at one of its ends."""
    if width == region.width:
        return region
    if x > region.x:
        spare, region = region.split_columns(x)
    else:
        region, spare = region.split_columns(x + width)
    free.add(spare)
    return region
