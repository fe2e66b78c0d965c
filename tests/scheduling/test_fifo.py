"""The rule of older releases, to the letter: a queue against a plain model of it."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from spalloc_server.allocator import Allocator
from spalloc_server.coordinates import Board
from spalloc_server.job_queue import JobQueue

MACHINES = (("a", 3, 3, {"default"}), ("b", 2, 2, {"default", "b"}))

REQUESTS = st.sampled_from(
    [(), (2,), (3,), (6,), (12,), (20,), (27,), (1, 2), (3, 1), (0, 0, 1), (4, 4)]
)
WHERE: Any = st.sampled_from([{}, {}, {"machine": "b"}, {"tags": {"b"}}])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("create"), REQUESTS, WHERE),
        st.tuples(st.just("end"), st.integers(0, 30), st.none()),
        st.tuples(st.just("dead"), st.integers(0, 8), st.none()),
    ),
    max_size=60,
)


class Model:
    """Each machine has a queue; only its head is tried, in order of the machines."""

    def __init__(self) -> None:
        self.allocators = {
            name: Allocator(width, height, seconds_before_free=0)
            for name, width, height, _ in MACHINES
        }
        self.requests: dict[int, tuple[tuple[int, ...], dict[str, Any]]] = {}
        self.waiting: list[int] = []
        self.running: dict[int, tuple[str, int, set[Board]]] = {}
        self.match()

    def match(self) -> None:
        """Queue all that wait, oldest first, one after the other."""
        self.queues: dict[str, deque[int]] = {name: deque() for name in self.allocators}
        waiting, self.waiting = self.waiting, []
        for job_id in waiting:
            self.enqueue(job_id)

    def enqueue(self, job_id: int) -> None:
        args, where = self.requests[job_id]
        wanted = [
            name
            for name, _, _, tags in MACHINES
            if where.get("machine", name) == name
            and where.get("tags", {"default"} if not where else set()) <= tags
            and self.allocators[name].alloc_possible(*args)
        ]
        for name in wanted:
            self.queues[name].append(job_id)
        if wanted:
            self.waiting.append(job_id)
            self.process()

    def process(self) -> None:
        progress = True
        while progress:
            progress = False
            for name, queue in self.queues.items():
                while queue and queue[0] not in self.waiting:
                    queue.popleft()
                if not queue:
                    continue
                args, _ = self.requests[queue[0]]
                found = self.allocators[name].alloc(*args)
                if found is not None:
                    job_id = queue.popleft()
                    self.waiting.remove(job_id)
                    self.running[job_id] = name, found.allocation_id, found.boards
                    progress = True

    def end(self, job_id: int) -> None:
        if job_id in self.running:
            name, allocation_id, _ = self.running.pop(job_id)
            self.allocators[name].free(allocation_id)
        else:
            self.waiting.remove(job_id)
        self.process()


@settings(deadline=None, max_examples=200)
@given(STEPS)
def test_only_heads_are_tried_in_order_of_arrival(steps: list[Any]) -> None:
    model = Model()
    boards: dict[int, tuple[str, set[Board]]] = {}
    queue = JobQueue(
        lambda job_id, name, found, *_: boards.update({job_id: (name, found)}),
        lambda *_: None,
        lambda *_: None,
        seconds_before_free=0,
    )
    with queue:
        for name, width, height, tags in MACHINES:
            queue.add_machine(name, width, height, tags)
    for job_id, (what, value, where) in enumerate(steps):
        living = [*model.running, *model.waiting]
        if what == "create":
            model.requests[job_id] = value, where
            model.enqueue(job_id)
            # Owners count for nothing.
            queue.create_job(*value, job_id=job_id, owner=f"{job_id % 3}", **where)
        elif what == "end" and living:
            ended = sorted(living)[value % len(living)]
            has_boards = ended in model.running
            model.end(ended)
            queue.destroy_job(ended)
            if has_boards:
                queue.free(ended)
            boards.pop(ended, None)
        elif what == "dead":
            dead = {(value % 3, value // 3, 2)}
            model.allocators["a"].dead_boards = frozenset(dead)
            model.match()
            queue.modify_machine("a", dead_boards=dead)
        assert boards == {
            job_id: (name, found) for job_id, (name, _, found) in model.running.items()
        }
        for name, order in model.queues.items():
            left = [job_id for job_id in order if job_id in model.waiting]
            assert [job.id for job in queue._machines[name].queue] == left
