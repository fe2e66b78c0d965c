"""The free regions of a packing tree, in search order, by shape.

A request asks only for the first free region that is large enough. Finding it
here costs time in proportion to the number of different shapes, not to the
number of cuts in the tree.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from heapq import merge

from spalloc_server.area_to_rect import area_to_rect
from spalloc_server.placement.region import Region

Size = tuple[int, int]


class Sizes(dict[Size, "Size | None"]):
    """The size to take from a free region of each shape, None if that is too small.

    Worked out when first asked for, and remembered: jobs come in few sizes, and free
    regions in few shapes.
    """

    def __init__(self, size_for: Callable[[int, int], Size | None]) -> None:
        """Say how to work it out.

        :param size_for: given a region's width and height, the size to take from it
        """
        super().__init__()
        self._size_for = size_for

    def __missing__(self, shape: Size) -> Size | None:
        size = self[shape] = self._size_for(*shape)
        return size


def exact_size(width: int, height: int) -> Callable[[int, int], Size | None]:
    """What to take from a region of any size for a rectangle of this size."""

    def size_for(free_width: int, free_height: int) -> Size | None:
        fits = width <= free_width and height <= free_height
        return (width, height) if fits else None

    return size_for


def squarest(area: int, min_ratio: float) -> Callable[[int, int], Size | None]:
    """What to take from a region of any size for a rectangle of at least this area."""

    def size_for(free_width: int, free_height: int) -> Size | None:
        if area > free_width * free_height:
            return None
        return area_to_rect(area, free_width, free_height, min_ratio)

    return size_for


class FreeRegions:
    """A set of free regions that can be searched in tree order."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self._by_order: dict[bytes, Region] = {}
        self._orders_by_shape: dict[Size, list[bytes]] = {}
        for region in regions:
            self.add(region)

    def __len__(self) -> int:
        return len(self._by_order)

    def add(self, region: Region) -> None:
        """Put a free region in."""
        self._by_order[region.order] = region
        shape = region.width, region.height
        insort(self._orders_by_shape.setdefault(shape, []), region.order)

    def remove(self, region: Region) -> None:
        """Take a region out.

        :raises KeyError: if it is not in the set
        """
        del self._by_order[region.order]
        shape = region.width, region.height
        orders = self._orders_by_shape[shape]
        del orders[bisect_left(orders, region.order)]
        if not orders:
            del self._orders_by_shape[shape]

    def search(
        self, sizes: Mapping[Size, Size | None]
    ) -> Iterator[tuple[Region, Size]]:
        """The regions that are large enough, in the order of the tree.

        The set must not be changed before the last one has been asked for.

        :param sizes: for a region's width and height, the size to take from it, None
            if it is too small
        :return: each region with the size to take from it
        """
        fitting = []
        first = None
        for shape, orders in self._orders_by_shape.items():
            if sizes[shape] is not None:
                fitting.append(orders)
                if first is None or orders[0] < first:
                    first = orders[0]
        if first is None:
            return
        # Nearly always the first one is taken, and no others need to be put in order.
        region = self._by_order[first]
        size = sizes[region.width, region.height]
        assert size is not None
        yield region, size
        for order in merge(*fitting):
            if order != first:
                region = self._by_order[order]
                size = sizes[region.width, region.height]
                assert size is not None
                yield region, size

    def __iter__(self) -> Iterator[Region]:
        """All regions, in no order; the set must not be changed meanwhile."""
        return iter(self._by_order.values())
