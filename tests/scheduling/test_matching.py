"""What jobs ask for is matched with the machines once for all that ask for the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from spalloc_server.allocator import Allocator
from spalloc_server.job_queue import JobQueue
from spalloc_server.scheduling.line import Line

WAITING = 1000
SIZES = (1, 2, 4)

EVENTS: dict[str, Callable[[JobQueue], object]] = {
    "drain": lambda queue: queue.withhold("a", [(0, 0, 0), (1, 1, 2)]),
    "dead": lambda queue: queue.modify_machine("a", dead_boards={(0, 0, 1)}),
    "requeue": lambda queue: queue.requeue(1, -1),
    "move": lambda queue: queue.move_to_head(WAITING // 2),
}


class Counter:
    """Counts the calls of methods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls = 0
        self._monkeypatch = monkeypatch

    def watch(self, holder: type, name: str) -> None:
        method = getattr(holder, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            return method(*args, **kwargs)

        self._monkeypatch.setattr(holder, name, counted)


def full_queue(scheduling: str) -> JobQueue:
    """Two machines that are in use, and many jobs that wait for them."""
    queue = JobQueue(
        lambda *_: None, lambda *_: None, lambda *_: None, 0, scheduling=scheduling
    )
    for name in ("a", "b"):
        queue.add_machine(name, 4, 4)
    for job_id in (1, 2):
        queue.create_job(4, 4, job_id=job_id, owner="me")
    for job_id in range(3, WAITING + 3):
        size = SIZES[job_id % len(SIZES)]
        queue.create_job(size, size, job_id=job_id, owner=f"owner {job_id % 7}")
    return queue


@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
@pytest.mark.parametrize("event", EVENTS)
def test_an_event_looks_at_no_job_that_it_does_not_concern(
    event: str, scheduling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = full_queue(scheduling)
    counter = Counter(monkeypatch)
    counter.watch(Allocator, "alloc_possible")
    counter.watch(Line, "insert")
    counter.watch(Line, "discard")

    EVENTS[event](queue)

    assert 0 < counter.calls < 40


@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
def test_a_job_that_comes_or_leaves_behind_others_has_no_machine_tried(
    scheduling: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = full_queue(scheduling)
    queue.check_free()
    counter = Counter(monkeypatch)
    counter.watch(Allocator, "alloc")
    counter.watch(Allocator, "take_room")

    for job_id in range(WAITING + 3, WAITING + 13):
        queue.create_job(2, 2, job_id=job_id, owner="owner 1")
        queue.destroy_job(job_id)

    assert counter.calls == 0
    assert queue.waiting(WAITING) is not None


@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
def test_jobs_move_to_the_machines_that_will_do_now(scheduling: str) -> None:
    queue = full_queue(scheduling)
    # The jobs that need all of a machine, which "a" has not any more.
    queue.create_job(4, 4, job_id=9000, owner="me", max_dead_boards=0)
    queue.modify_machine("a", dead_boards={(0, 0, 1)})
    assert queue.queues_of(9000) == ("b",)
    assert queue.queues_of(3) == ("a", "b")
    queue.modify_machine("a", dead_boards=(), tags={"other"})
    assert queue.queues_of(9000) == queue.queues_of(3) == ("b",)
    queue.modify_machine("a", tags={"default"})
    assert queue.queues_of(9000) == queue.queues_of(3) == ("a", "b")
    places = queue.waiting(3)
    assert places is not None
    assert [place.machine for place in places.places] == ["a", "b"]
