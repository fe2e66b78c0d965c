"""One node of the packing tree: a rectangle that is free, allocated or cut in two."""

from __future__ import annotations

from collections.abc import Iterator


class Region:
    """A rectangle of unit squares.

    A region with children is cut in two and is itself neither free nor
    allocated.
    """

    __slots__ = (
        "allocated",
        "children",
        "height",
        "order",
        "parent",
        "width",
        "x",
        "y",
    )

    def __init__(
        self,
        x: int,
        y: int,
        width: int,
        height: int,
        parent: Region | None = None,
        order: bytes = b"",
    ) -> None:
        """A free region.

        :param parent: the region this one was cut from
        :param order: the way down from the root, a byte for each cut: 0 for the
            child that is searched first. Free and allocated regions compare in
            search order by it.
        """
        self.x = x
        self.y = y
        self.width = width
        self.height = height
        self.parent = parent
        self.order = order
        self.allocated = False
        self.children: tuple[Region, Region] | None = None

    def __repr__(self) -> str:
        kind = "cut" if self.children else "allocated" if self.allocated else "free"
        return f"<Region {self.width}x{self.height} at ({self.x}, {self.y}) {kind}>"

    def __contains__(self, xy: tuple[int, int]) -> bool:
        x, y = xy
        return self.x <= x < self.x + self.width and self.y <= y < self.y + self.height

    @property
    def is_free(self) -> bool:
        """Can all of this region be allocated?"""
        return self.children is None and not self.allocated

    def sibling_of(self, child: Region) -> Region:
        """The other child of this region."""
        assert self.children is not None
        first, second = self.children
        return second if child is first else first

    def split_rows(self, y: int) -> tuple[Region, Region]:
        """Cut into the rows below ``y`` and the rows from ``y`` up.

        :raises ValueError: unless this region is free and both parts get a row
        """
        if not self.is_free or not self.y < y < self.y + self.height:
            raise ValueError(f"{self} cannot be cut at row {y}")
        lower = y - self.y
        lower_order, upper_order = self._orders(lower, self.height - lower)
        self.children = (
            Region(self.x, self.y, self.width, lower, self, lower_order),
            Region(self.x, y, self.width, self.height - lower, self, upper_order),
        )
        return self.children

    def split_columns(self, x: int) -> tuple[Region, Region]:
        """Cut into the columns left of ``x`` and the columns from ``x`` on.

        :raises ValueError: unless this region is free and both parts get a column
        """
        if not self.is_free or not self.x < x < self.x + self.width:
            raise ValueError(f"{self} cannot be cut at column {x}")
        left = x - self.x
        left_order, right_order = self._orders(left, self.width - left)
        self.children = (
            Region(self.x, self.y, left, self.height, self, left_order),
            Region(x, self.y, self.width - left, self.height, self, right_order),
        )
        return self.children

    def _orders(self, first: int, second: int) -> tuple[bytes, bytes]:
        """Search order of two halves of these sizes: the smaller one first."""
        early, late = self.order + b"\0", self.order + b"\1"
        return (early, late) if first <= second else (late, early)


def leaves(region: Region) -> Iterator[Region]:
    """The free and allocated regions that a region is made of."""
    waiting = [region]
    while waiting:
        region = waiting.pop()
        if region.children is None:
            yield region
        else:
            waiting += region.children


def corners(region: Region, width: int, height: int) -> Iterator[tuple[int, int]]:
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
