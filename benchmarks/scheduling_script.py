"""Queue made-up jobs in virtual time: run by the interpreter of either release.

``scheduling_script.py LOAD SEED DAYS [KEY=VALUE...]`` prints a JSON object with how
long jobs of each size waited. Uses what the manual documents, no more: `JobQueue`, with
the clock of the process replaced before it is imported. The release that has a word for
its scheduling is given it, and the names of owners.
"""

import datetime
import heapq
import itertools
import json
import math
import random
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

NOW = [1e9]


class Clock(datetime.datetime):
    """Dates by the virtual time."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        """The virtual time."""
        return cls.fromtimestamp(NOW[0], tz)

    @classmethod
    def utcnow(cls) -> Any:
        """The virtual time, without a zone."""
        return cls.fromtimestamp(NOW[0], datetime.timezone.utc).replace(tzinfo=None)


time.time = lambda: NOW[0]
time.monotonic = lambda: NOW[0]
datetime.datetime = Clock  # type: ignore[misc]

from spalloc_server.job_queue import JobQueue  # noqa: E402

SIDE = 20
BOARDS = 3 * SIDE * SIDE
HOUR, DAY = 3600.0, 86_400.0
#: How many in a hundred jobs have how many boards.
SIZES = {
    **{1: 45.0, 3: 20.0, 6: 8.0, 12: 7.0, 24: 7.0, 48: 6.0},
    **{96: 3.0, 192: 2.0, 384: 1.2, 600: 0.6, 1200: 0.2},
}
OWNERS = [f"owner {rank}" for rank in range(1, 31)]
MEDIAN_RUN, SIGMA, LONGEST_RUN = 8 * 60.0, 1.3, 8 * HOUR
SWEEP_JOBS, SWEEP_BOARDS, SWEEP_RUN = 300, 24, 12 * 60.0
COOLING = 30.0
#: Who has boards within so many seconds has not been kept waiting.
PROMPT = 300.0
#: The server looks for what has become free as often.
TICK = 60.0


class Job(NamedTuple):
    """A job that will be handed in."""

    at: float
    owner: str
    boards: int
    run: float
    in_sweep: bool


def run_time(chance: random.Random, boards: int) -> float:
    """For how long a job of so many boards happens to run."""
    median = MEDIAN_RUN * boards**0.15
    seconds: float = median * math.exp(chance.gauss(0.0, SIGMA))
    return min(LONGEST_RUN, seconds)


def mean_work() -> float:
    """Board-seconds of a job, on average."""
    chance = random.Random(0)
    total = sum(SIZES.values())
    runs = [run_time(chance, 1) for _ in range(20_000)]
    work = 0.0
    for boards, share in SIZES.items():
        factor = boards**0.15
        mean = sum(min(LONGEST_RUN, run * factor) for run in runs) / len(runs)
        work += share / total * boards * mean
    return work


def busy(at: float) -> float:
    """How many times more jobs than on average are handed in at this time of day."""
    return 1.0 + 0.8 * math.cos(2 * math.pi * (at / DAY - 14 / 24))


def trace(load: float, seed: int, days: float) -> list[Job]:
    """Jobs that keep so much of the machine busy on average, first come first."""
    chance = random.Random(seed)
    sweeps = SWEEP_JOBS * SWEEP_BOARDS * SWEEP_RUN / DAY
    rate = (load * BOARDS - sweeps) / mean_work()
    weights = [1 / rank for rank in range(1, len(OWNERS) + 1)]
    sizes, shares = list(SIZES), list(SIZES.values())
    jobs = []
    at = 0.0
    while (at := at + chance.expovariate(1.8 * rate)) < days * DAY:
        if chance.random() * 1.8 < busy(at):
            boards = chance.choices(sizes, shares)[0]
            owner = chance.choices(OWNERS, weights)[0]
            jobs.append(Job(at, owner, boards, run_time(chance, boards), False))
    for day in range(math.ceil(days)):
        at = day * DAY + chance.uniform(9, 17) * HOUR
        if at < days * DAY:
            owner = chance.choice(OWNERS)
            for _ in range(SWEEP_JOBS):
                run = SWEEP_RUN * math.exp(chance.gauss(0.0, 0.2))
                jobs.append(Job(at, owner, SWEEP_BOARDS, run, True))
    return sorted(jobs)


class Room:
    """A machine, its queue, and what becomes of jobs, in virtual time."""

    def __init__(self, jobs: list[Job], settings: dict[str, Any]) -> None:
        self.jobs = jobs
        self.waits: list[float | None] = [None] * len(jobs)
        self.events: list[tuple[float, int, str, int]] = []
        self.order = itertools.count()
        self.in_use = self.used_while_waiting = self.seconds_waiting = 0.0
        self.waiting = 0
        self.has_owners = hasattr(JobQueue, "scheduling")
        options = {"scheduling": "backfill"} if self.has_owners else {}
        self.queue: Any = JobQueue(
            self.allocated,
            lambda *_: None,
            self.cancelled,
            seconds_before_free=COOLING,
            **options,
        )
        for name, value in settings.items():
            setattr(self.queue, name, value)
        self.queue.add_machine("machine", SIDE, SIDE)

    def later(self, seconds: float, what: str, job_id: int = -1) -> None:
        """Have something happen after some seconds."""
        event = (NOW[0] + seconds, next(self.order), what, job_id)
        heapq.heappush(self.events, event)

    def allocated(self, job_id: int, *_: object) -> None:
        """A job has got its boards."""
        job = self.jobs[job_id]
        self.waits[job_id] = max(0.0, NOW[0] - START - job.at)
        self.waiting -= 1
        self.in_use += job.boards
        self.later(job.run, "end", job_id)

    def cancelled(self, job_id: int, reason: str | None) -> None:
        """Complain: no job of a trace is impossible."""
        raise RuntimeError(f"job {job_id}: {reason}")

    def run(self) -> None:
        """Have everything happen in order, until all jobs have ended."""
        for job_id, job in enumerate(self.jobs):
            heapq.heappush(self.events, (START + job.at, job_id, "come", job_id))
        self.order = itertools.count(len(self.jobs))
        self.later(TICK, "tick")
        left = len(self.jobs)
        while left:
            at, _, what, job_id = heapq.heappop(self.events)
            if self.waiting:
                self.used_while_waiting += (at - NOW[0]) * self.in_use
                self.seconds_waiting += at - NOW[0]
            NOW[0] = at
            if what == "come":
                job = self.jobs[job_id]
                self.waiting += 1
                owner = {"owner": job.owner} if self.has_owners else {}
                self.queue.create_job(job.boards, job_id=job_id, **owner)
            elif what == "end":
                left -= 1
                self.in_use -= self.jobs[job_id].boards
                self.queue.destroy_job(job_id)
                self.queue.free(job_id)
                self.later(COOLING, "cool")
            else:
                self.queue.check_free()
                if what == "tick":
                    self.later(TICK, "tick")


START = NOW[0]


def after_sweeps(jobs: list[Job]) -> Iterator[int]:
    """Small jobs of others that are handed in within two hours of a sweep."""
    sweeps = {(job.at, job.owner) for job in jobs if job.in_sweep}
    for job_id, job in enumerate(jobs):
        if not job.in_sweep and job.boards <= 24:
            for at, owner in sweeps:
                if at <= job.at <= at + 2 * HOUR and job.owner != owner:
                    yield job_id
                    break


def mean(values: list[float]) -> float:
    """The mean, 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def measure(load: float, seed: int, days: float, settings: dict[str, Any]) -> Any:
    """What came of a trace."""
    jobs = trace(load, seed, days)
    room = Room(jobs, settings)
    room.run()
    waits = [wait for wait in room.waits if wait is not None]
    by_size: dict[int, list[float]] = {}
    for job, wait in zip(jobs, waits, strict=True):
        by_size.setdefault(job.boards, []).append(wait)
    after = [waits[job_id] for job_id in after_sweeps(jobs)]
    asked = sum(job.boards * job.run for job in jobs) / (days * DAY * BOARDS)
    return {
        "jobs": len(jobs),
        "load": asked,
        "mean": mean(waits),
        "longest": max(waits),
        "in_use": room.used_while_waiting / (room.seconds_waiting or 1) / BOARDS,
        "after_sweeps": mean(after),
        "prompt_after_sweeps": mean([float(wait <= PROMPT) for wait in after]),
        "mean_by_size": {size: mean(by_size[size]) for size in sorted(by_size)},
        "longest_by_size": {size: max(by_size[size]) for size in sorted(by_size)},
    }


def main() -> None:
    """Print what was measured."""
    load, seed, days, *options = sys.argv[1:]
    settings = {}
    for option in options:
        name, value = option.split("=")
        settings[name] = json.loads(value)
    print(json.dumps(measure(float(load), int(seed), float(days), settings)))


if __name__ == "__main__":
    main()
