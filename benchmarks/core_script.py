"""Measure allocator and job queue: run by the interpreter of either release.

``core_script.py SHORT SIDE...`` prints a JSON object with microseconds for each row
and each machine of SIDE x SIDE triads. Uses what the manual documents, no more.
"""

import json
import random
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from spalloc_server.allocator import Allocator
from spalloc_server.job_queue import JobQueue

Rows = dict[str, float]
QUEUED_JOBS = 300
CHURN_SIZES = [1, 1, 1, 1, 2, 3, 6, 12, 24]


def clock() -> float:
    """The processor time of this process, in us: others may use the machine, too."""
    return time.process_time() * 1e6


def best_of(times: int, measure: Callable[[], float]) -> float:
    """The lowest of several figures: the one that was disturbed least."""
    return min(measure() for _ in range(times))


def fill(side: int) -> float:
    """Allocate every board of a machine, one by one."""
    allocator = Allocator(side, side, seconds_before_free=0)
    boards = 3 * side * side
    start = clock()
    for _ in range(boards):
        if allocator.alloc() is None:
            raise RuntimeError("the machine was full too early")
    return (clock() - start) / boards


def churn(side: int, operations: int) -> float:
    """Allocate and free jobs of mixed sizes on a machine that is mostly in use."""
    allocator = Allocator(side, side, seconds_before_free=0)
    busy = int(0.85 * 3 * side * side)
    # Chance costs more than some of what is measured.
    chance = random.Random(1)
    dice = [
        (chance.random() < 0.3, chance.random(), chance.choice(CHURN_SIZES))
        for _ in range(busy + operations)
    ]
    held: list[Any] = []
    used = 0
    start = 0.0
    left = operations
    for free, which, size in dice:
        if used > busy and not start:
            start = clock()
        if held and (used > busy or free):
            index = int(which * len(held))
            held[index], held[-1] = held[-1], held[index]
            allocation_id, boards = held.pop()
            allocator.free(allocation_id)
            allocator.check_free()
            used -= boards
        else:
            allocation = allocator.alloc(size)
            if allocation is not None:
                boards = len(allocation[1])
                held.append((allocation[0], boards))
                used += boards
        if start:
            left -= 1
            if not left:
                break
    return (clock() - start) / operations


def possible(side: int, boards: int) -> float:
    """Ask, for the first time, whether a request could ever be met."""
    allocator = Allocator(side, side)
    start = clock()
    if not allocator.alloc_possible(boards):
        raise RuntimeError("that should be possible")
    return clock() - start


def queue(side: int) -> tuple[float, float]:
    """Enqueue jobs behind a full machine, and the same again: us a job, us in all."""
    jobs = JobQueue(
        lambda *_: None, lambda *_: None, lambda *_: None, seconds_before_free=0
    )
    jobs.add_machine("bench", side, side)
    jobs.create_job(side, side, job_id=0)
    start = clock()
    for job_id in range(1, QUEUED_JOBS + 1):
        jobs.create_job(1 + job_id % 24, job_id=job_id)
    enqueued = clock()
    jobs.modify_machine("bench", dead_boards={(0, 0, 1)})
    return (enqueued - start) / QUEUED_JOBS, clock() - enqueued


def measure(side: int, short: bool) -> Iterator[tuple[str, float]]:
    """All rows for a machine."""
    times = 1 if short else 3
    boards = 3 * side * side
    yield "fill", best_of(times, lambda: fill(side))
    yield "churn", best_of(times, lambda: churn(side, 200 if short else 3000))
    yield "possible_whole", best_of(times, lambda: possible(side, boards))
    yield "possible_quarter", best_of(times, lambda: possible(side, boards // 4))
    queues = [queue(side) for _ in range(times)]
    yield "enqueue", min(enqueue for enqueue, _ in queues)
    yield "regenerate", min(regenerate for _, regenerate in queues)


def main() -> None:
    """Print what was measured."""
    short = sys.argv[1] == "1"
    sides = map(int, sys.argv[2:])
    print(json.dumps({side: dict(measure(side, short)) for side in sides}))


if __name__ == "__main__":
    main()
