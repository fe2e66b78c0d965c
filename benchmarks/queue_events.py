"""How long one event takes a queue in which thousands wait.

``python -m benchmarks.queue_events`` prints a table.
Processor time of what a server does when a job arrives, ends, or its boards have cooled
down, with everything that follows: who is started, and whom a part is kept for.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from spalloc_server.job_queue import JobQueue

BOARDS_ASKED = (1, 3, 6, 12, 24, 48, 96, 192, 384, 600)
OWNERS = 30
RUN = 600.0


class Measured(NamedTuple):
    """Milliseconds of the events of one run."""

    side: int
    requests: int
    events: int
    median: float
    most: float
    """What 99 % of the events take at most."""
    longest: float


def requests(number: int) -> Iterator[tuple[tuple[int, ...], dict[str, int]]]:
    """So many different requests: sizes with different demands."""
    for i in range(number):
        boards = BOARDS_ASKED[i % len(BOARDS_ASKED)]
        step = i // len(BOARDS_ASKED)
        if boards == 1 and step:
            yield (1 + step % 3 + 3 * (step // 3 % 40),), {"max_dead_boards": step}
        else:
            demands = {"max_dead_boards": step} if step else {}
            yield (boards,), demands


def measure(side: int, different: int, waiting: int, events: int) -> Measured:
    """Fill a machine and its queue, and let jobs come and go."""
    chance = random.Random(1)
    now = [1e9]
    running: list[int] = []
    queue = JobQueue(
        lambda job_id, *_: running.append(job_id),
        lambda *_: None,
        lambda *_: None,
        seconds_before_free=30,
        scheduling="backfill",
    )
    queue.clock = lambda: now[0]
    queue.add_machine("m", side, side)
    kinds = list(requests(different))
    job_id = 0

    def arrive() -> None:
        nonlocal job_id
        args, demands = chance.choice(kinds)
        owner = f"owner {chance.randrange(OWNERS)}"
        job_id += 1
        queue.create_job(*args, **demands, job_id=job_id, owner=owner)

    while job_id - len(running) < waiting:
        arrive()
    took: list[float] = []
    while len(took) < events:
        now[0] += chance.expovariate(1 / 5.0)
        what = chance.random()
        ended = 0
        if what < 0.5 and running:
            at = chance.randrange(len(running))
            running[at], running[-1] = running[-1], running[at]
            ended = running.pop()
        start = time.process_time()
        if ended:
            queue.destroy_job(ended)
            queue.free(ended)
        elif what < 0.75:
            arrive()
        else:
            queue.check_free()
        took.append(1e3 * (time.process_time() - start))
    took.sort()
    return Measured(
        side,
        different,
        events,
        took[len(took) // 2],
        took[len(took) * 99 // 100],
        took[-1],
    )


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue_events")
    parser.add_argument("--waiting", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=3000)
    options = parser.parse_args()
    print("boards  different requests  median ms  99 % ms  longest ms")
    for side in (20, 64):
        for different in (50, 1200):
            found = measure(side, different, options.waiting, options.events)
            print(
                f"{3 * side * side:6}  {different:18}  {found.median:9.3f}  "
                f"{found.most:7.2f}  {found.longest:10.1f}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
