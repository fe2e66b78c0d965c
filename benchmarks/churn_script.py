"""Measure an allocator that is mostly in use: run by the interpreter of either release.

``churn_script.py OPERATIONS SIDE...`` prints a JSON object with microseconds for each
operation on machines of SIDE x SIDE triads: all sizes of jobs at random, with ratios,
and dead boards among those of a job; many requests find no room.
"""

import json
import random
import sys
import time
from typing import Any

from spalloc_server.allocator import Allocator

SIZES = {
    **{1: 45.0, 3: 20.0, 6: 8.0, 12: 7.0, 24: 7.0, 48: 6.0},
    **{96: 3.0, 192: 2.0, 384: 1.2, 600: 0.6, 1200: 0.2},
}
USED = 0.75
DEAD = 0.01


def churn(side: int, operations: int, seed: int) -> float:
    """Allocate and free at random; microseconds of processor time an operation."""
    chance = random.Random(seed)
    boards = 3 * side * side
    everything = [(x, y, z) for x in range(side) for y in range(side) for z in range(3)]
    dead = set(chance.sample(everything, int(DEAD * boards)))
    allocator = Allocator(side, side, dead_boards=dead, seconds_before_free=0)
    sizes = list(SIZES)
    weights = list(SIZES.values())
    asked = chance.choices(sizes, weights, k=4 * operations)
    which = [chance.random() for _ in asked]
    held: list[Any] = []
    used = done = 0
    start = None
    for size, number in zip(asked, which):  # noqa: B905
        if start is None and used >= USED * boards:
            start = time.process_time()
        if used >= USED * boards * (0.9 + 0.2 * number) and held:
            at = int(number * len(held))
            held[at], held[-1] = held[-1], held[at]
            allocation_id, number_of_boards = held.pop()
            allocator.free(allocation_id)
            used -= number_of_boards
        else:
            found = allocator.alloc(size, min_ratio=0.333)
            if found is not None:
                held.append((found[0], len(found[1])))
                used += len(found[1])
        if start is not None:
            done += 1
            if done == operations:
                break
    assert start is not None
    return 1e6 * (time.process_time() - start) / done


def main() -> None:
    """Print what was measured."""
    operations, *sides = map(int, sys.argv[1:])
    found = {
        side: min(churn(side, operations, seed) for seed in (1, 1, 1)) for side in sides
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
