"""Parts of a machine that would do for a request were they free."""

from __future__ import annotations

from collections.abc import Mapping

from spalloc_server.placement.plans import Plan, Plans
from spalloc_server.placement.region import Region

#: The allocations, by the corner of the rectangle that they are or lie in.
Holders = Mapping[tuple[int, int], list[int]]


def parts_for(
    plan: Plan, plans: Plans, root: Region, holders: Holders
) -> list[tuple[Region, list[int]]]:
    """The smallest regions of a packing tree that would do.

    Only such as become free as one when all that lies in them has been freed.

    :param plan: one of ``plans``, which does not name a board
    :param root: the whole tree
    :return: each region, and the allocations that lie in it; in tree order
    """
    found: list[tuple[Region, list[int]]] = []
    _find(root, plan, plans, holders, found)
    return found


def _find(
    region: Region,
    plan: Plan,
    plans: Plans,
    holders: Holders,
    found: list[tuple[Region, list[int]]],
) -> list[int]:
    """Add what will do to ``found``; the allocations that lie in the region."""
    before = len(found)
    if region.children is None:
        inside = holders.get((region.x, region.y), [])
    else:
        first, second = region.children
        inside = _find(first, plan, plans, holders, found) + _find(
            second, plan, plans, holders, found
        )
    if (
        len(found) == before
        and region.width * region.height >= plan.area
        and plans.would_do(region, plan)
    ):
        found.append((region, inside))
    return inside
