"""The free regions of a packing tree, in search order, by shape.

A request asks only for the first free region that is large enough. Finding it
here costs time in proportion to the number of different shapes, not to the
number of cuts in the tree.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from heapq import merge

from spalloc_server.placement.region import Region

Size = tuple[int, int]


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
        self, area: int, shape_for: Callable[[int, int], Size | None]
    ) -> Iterator[tuple[Region, Size]]:
        """The regions that are large enough, in the order of the tree.

        The set must not be changed before the last one has been asked for.

        :param area: what is smaller than this is not looked at
        :param shape_for: given a region's width and height, the size to take
            from it, None if it is too small; asked once for each shape
        :return: each region with the size to take from it
        """
        sizes: dict[Size, Size] = {}
        first = None
        for shape, orders in self._orders_by_shape.items():
            width, height = shape
            if width * height >= area:
                size = shape_for(width, height)
                if size is not None:
                    sizes[shape] = size
                    if first is None or orders[0] < first:
                        first = orders[0]
        if first is None:
            return
        # Nearly always the first one is taken, and no others need to be put in order.
        region = self._by_order[first]
        yield region, sizes[region.width, region.height]
        for order in merge(*(self._orders_by_shape[shape] for shape in sizes)):
            if order != first:
                region = self._by_order[order]
                yield region, sizes[region.width, region.height]
