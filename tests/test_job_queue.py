"""Queueing: who gets which machine when."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spalloc_server.job_queue import JobQueue, _Job, _Machine

NO_MACHINE = "No suitable machines available."


class Recorded:
    """A queue and what it has called back since it was last looked at."""

    def __init__(self, seconds_before_free: float = 0) -> None:
        self._events: list[tuple[Any, ...]] = []
        self.queue = JobQueue(
            lambda job_id, machine, *_: self._events.append(("alloc", job_id, machine)),
            lambda job_id, reason: self._events.append(("free", job_id, reason)),
            lambda job_id, reason: self._events.append(("cancel", job_id, reason)),
            seconds_before_free,
        )

    def events(self) -> list[tuple[Any, ...]]:
        events, self._events = self._events, []
        return events

    def finish(self, job_id: int) -> None:
        """Destroy a job and free its boards."""
        self.queue.destroy_job(job_id)
        self.queue.free(job_id)


def test_jobs_are_allocated_by_machine_priority_and_queued_when_all_are_full() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("first", 1, 1)
    queue.add_machine("second", 1, 1)
    for job_id in (1, 2, 3):
        queue.create_job(1, 1, job_id=job_id)
    assert recorded.events() == [("alloc", 1, "first"), ("alloc", 2, "second")]
    recorded.finish(2)
    assert recorded.events() == [("free", 2, None), ("alloc", 3, "second")]


def test_what_is_allocated_is_described() -> None:
    calls = []
    queue = JobQueue(lambda *args: calls.append(args), None, None)
    queue.add_machine("m", 2, 1)
    queue.create_job(1, 1, job_id=7)
    ((job_id, machine_name, boards, periphery, torus),) = calls
    assert (job_id, machine_name, torus) == (7, "m", 2)
    assert boards == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}
    assert all(link[:3] in boards for link in periphery)


def test_only_the_head_of_a_queue_is_tried() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 2, 1)
    queue.create_job(1, 1, job_id=1)
    queue.create_job(2, 1, job_id=2)
    queue.create_job(1, 1, job_id=3)
    assert recorded.events() == [("alloc", 1, "m")]
    queue.destroy_job(2, "changed my mind")
    assert recorded.events() == [("cancel", 2, "changed my mind"), ("alloc", 3, "m")]


def test_each_machine_in_turn_takes_one_job_when_several_become_free() -> None:
    recorded = Recorded(seconds_before_free=10)
    queue = recorded.queue
    queue.add_machine("a", 2, 1)
    queue.add_machine("b", 1, 1)
    queue.create_job(2, 1, job_id=1)
    queue.create_job(1, 1, job_id=2)
    queue.create_job(1, 1, job_id=3, machine="a")
    queue.create_job(1, 1, job_id=4)
    queue.create_job(1, 1, job_id=5)
    recorded.finish(1)
    recorded.finish(2)
    recorded.events()
    for machine in queue._machines.values():
        later = machine.allocator.clock() + 10
        machine.allocator.clock = partial(float, later)
    queue.check_free()
    assert recorded.events() == [
        ("alloc", 3, "a"),
        ("alloc", 4, "b"),
        ("alloc", 5, "a"),
    ]


def test_boards_stay_with_a_destroyed_job_until_they_are_freed() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(1, 1, job_id=1)
    queue.create_job(1, 1, job_id=2)
    recorded.events()
    queue.destroy_job(1, "done")
    queue.check_free()
    assert recorded.events() == [("free", 1, "done")]
    with pytest.raises(KeyError):
        queue.destroy_job(1)
    queue.free(1)
    assert recorded.events() == [("alloc", 2, "m")]
    for job_id in (1, 2):
        with pytest.raises(KeyError):
            queue.free(job_id)


def test_freed_boards_cool_down() -> None:
    recorded = Recorded(seconds_before_free=10)
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(1, 1, job_id=1)
    queue.create_job(1, 1, job_id=2)
    recorded.finish(1)
    recorded.events()
    queue.check_free()
    assert recorded.events() == []
    allocator = queue._machines["m"].allocator
    start = allocator.clock()
    allocator.clock = lambda: start + 10
    queue.check_free()
    assert recorded.events() == [("alloc", 2, "m")]


def test_jobs_that_no_machine_could_hold_are_cancelled() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.create_job(job_id=1)
    queue.add_machine("m", 2, 2, tags={"default", "big"}, dead_boards={(0, 0, 0)})
    queue.create_job(3, 1, job_id=2)
    queue.create_job(job_id=3, machine="other")
    queue.create_job(job_id=4, tags={"big", "red"})
    queue.create_job(2, 2, job_id=5, max_dead_boards=0)
    reasons = dict.fromkeys((1, 2, 3, 4, 5), NO_MACHINE)
    reasons[3] = "There is no machine 'other'."
    assert recorded.events() == [("cancel", *each) for each in reasons.items()]
    queue.create_job(job_id=6, tags={"big"})
    queue.create_job(job_id=7, machine="m")
    assert recorded.events() == [("alloc", 6, "m"), ("alloc", 7, "m")]


def test_an_untagged_job_needs_the_default_tag() -> None:
    recorded = Recorded()
    recorded.queue.add_machine("m", 1, 1, tags={"special"})
    recorded.queue.create_job(job_id=1)
    recorded.queue.create_job(job_id=2, tags=set())
    assert recorded.events() == [("cancel", 1, NO_MACHINE), ("alloc", 2, "m")]


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({}, TypeError, "job_id must be specified"),
        (
            {"job_id": 2, "machine": "m", "tags": {"x"}},
            TypeError,
            "only one of machine and tags",
        ),
        ({"job_id": 1}, ValueError, "job_id 1 is in use"),
        ({"job_id": 2, "colour": "red"}, TypeError, "colour"),
        ({"job_id": 2, "require_torus": True}, ValueError, "require_torus"),
    ],
)
def test_a_refused_job_leaves_no_trace(
    kwargs: dict[str, Any], error: type[Exception], message: str
) -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(job_id=1)
    recorded.events()
    with pytest.raises(error, match=message):
        queue.create_job(**kwargs)
    assert list(queue._jobs) == [1]
    queue._regenerate_queues()
    assert recorded.events() == []


def test_machines_that_come_and_go() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("a", 1, 1)
    for job_id in range(6):
        queue.create_job(1, 1, job_id=job_id)
    recorded.events()
    with queue:
        queue.add_machine("b", 2, 1)
        queue.add_machine("c", 2, 1)
        assert recorded.events() == []
    assert recorded.events() == [
        ("alloc", 1, "b"),
        ("alloc", 2, "b"),
        ("alloc", 3, "c"),
        ("alloc", 4, "c"),
    ]
    with queue:
        queue.remove_machine("a")
        queue.remove_machine("b")
        queue.add_machine("d", 1, 1)
    # No job was moved to a machine that was about to be removed.
    assert recorded.events() == [
        ("free", 0, "Machine removed."),
        ("free", 1, "Machine removed."),
        ("free", 2, "Machine removed."),
        ("alloc", 5, "d"),
    ]
    queue.free(0)


def test_jobs_waiting_for_a_removed_machine() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("a", 1, 1)
    queue.add_machine("b", 1, 1)
    queue.create_job(1, 1, job_id=1, machine="b")
    queue.create_job(1, 1, job_id=2, machine="b")
    recorded.events()
    queue.remove_machine("b")
    assert recorded.events() == [
        ("free", 1, "Machine removed."),
        ("cancel", 2, "There is no machine 'b'."),
    ]


def test_priorities_can_be_changed() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("a", 1, 1)
    queue.add_machine("b", 1, 1)
    queue.move_machine_to_end("a")
    queue.create_job(1, 1, job_id=1)
    assert recorded.events() == [("alloc", 1, "b")]


def test_modified_machines() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(1, 1, job_id=1)
    queue.create_job(1, 1, job_id=2, max_dead_boards=0)
    queue.create_job(1, 1, job_id=3)
    recorded.events()
    queue.modify_machine("m", dead_boards={(0, 0, 1)})
    assert recorded.events() == [("cancel", 2, NO_MACHINE)]
    queue.modify_machine("m", tags={"other"}, dead_links=set())
    assert recorded.events() == [("cancel", 3, NO_MACHINE)]


def test_unknown_machines_and_names_in_use() -> None:
    queue = Recorded().queue
    queue.add_machine("m", 1, 1)
    with pytest.raises(ValueError, match="there is a machine called 'm' already"):
        queue.add_machine("m", 2, 2)
    change: Callable[[str], None]
    for change in (
        queue.remove_machine,
        queue.modify_machine,
        queue.move_machine_to_end,
    ):
        with pytest.raises(KeyError):
            change("other")
    with pytest.raises(KeyError):
        queue.destroy_job(1)


def test_cancelled_jobs_do_not_pile_up_behind_a_blocked_head() -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(1, 1, job_id=0)
    queue.create_job(1, 1, job_id=1)
    for job_id in range(2, 1002):
        queue.create_job(1, 1, job_id=job_id)
        queue.destroy_job(job_id)
    assert len(queue._machines["m"].queue) < 100


def test_a_blocked_head_is_not_tried_again_before_something_changes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded = Recorded()
    queue = recorded.queue
    queue.add_machine("m", 1, 1)
    queue.create_job(1, 1, job_id=0)
    queue.create_job(1, 1, job_id=1)
    tried = []
    try_job = queue._try_job

    def count(job: _Job, machine: _Machine) -> bool:
        tried.append(job.id)
        return try_job(job, machine)

    monkeypatch.setattr(queue, "_try_job", count)
    for job_id in range(2, 10):
        queue.create_job(1, 1, job_id=job_id)
    assert tried == []
    recorded.finish(0)
    # Job 1 fits, then job 2 is found not to.
    assert tried == [1, 2]


def test_seconds_before_free_reach_every_machine() -> None:
    queue = Recorded(seconds_before_free=5).queue
    queue.add_machine("a", 1, 1)
    queue.seconds_before_free = 7
    queue.add_machine("b", 1, 1)
    assert queue.seconds_before_free == 7
    assert [m.allocator.seconds_before_free for m in queue._machines.values()] == [7, 7]


def test_a_queue_survives_pickling() -> None:
    recorded = Recorded()
    queue = recorded.queue
    for name in map(str, range(60)):
        queue.add_machine(name, 1, 1)
    for job_id in range(160):
        queue.create_job(1, 1, job_id=job_id)
    copy = pickle.loads(pickle.dumps(queue))
    assert (copy.on_allocate, copy.on_free, copy.on_cancel) == (None, None, None)
    events: list[tuple[Any, ...]] = []
    copy.on_allocate = lambda job_id, machine, *_: events.append((job_id, machine))
    copy.destroy_job(60)
    copy.destroy_job(7)
    copy.free(7)
    assert events == [(61, "7")]


class JobQueueMachine(RuleBasedStateMachine):
    """Random use of two machines: every job is in exactly one state, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.state: dict[int, str] = {}
        self.queue = JobQueue(self.on_allocate, self.on_free, self.on_cancel, 0)
        self.queue.add_machine("a", 2, 1)
        self.queue.add_machine("b", 1, 2, tags={"default", "b"})
        self.next_id = 1
        self.boards: dict[int, set[tuple[Any, ...]]] = {}

    def on_allocate(self, job_id: int, machine: str, boards: set[Any], *_: Any) -> None:
        assert self.state[job_id] == "queued"
        mine = {(machine, *board) for board in boards}
        for others in self.boards.values():
            assert not mine & others
        self.boards[job_id] = mine
        self.state[job_id] = "allocated"

    def on_free(self, job_id: int, reason: str | None) -> None:
        assert self.state[job_id] == "allocated"
        self.state[job_id] = "ending"

    def on_cancel(self, job_id: int, reason: str | None) -> None:
        assert self.state[job_id] == "queued"
        self.state[job_id] = "cancelled"

    def some_job(self, data: st.DataObject, *states: str) -> int:
        return data.draw(
            st.sampled_from([j for j, state in self.state.items() if state in states])
        )

    def has(self, *states: str) -> bool:
        return any(state in states for state in self.state.values())

    @rule(
        size=st.sampled_from([(), (2,), (1, 1), (2, 1), (1, 2), (2, 2)]),
        demands=st.sampled_from([{}, {"machine": "a"}, {"tags": {"b"}}]),
    )
    def create(self, size: tuple[int, ...], demands: dict[str, Any]) -> None:
        job_id, self.next_id = self.next_id, self.next_id + 1
        self.state[job_id] = "queued"
        self.queue.create_job(*size, job_id=job_id, **demands)

    @precondition(lambda self: self.has("queued", "allocated"))
    @rule(data=st.data())
    def destroy(self, data: st.DataObject) -> None:
        job_id = self.some_job(data, "queued", "allocated")
        expected = "cancelled" if self.state[job_id] == "queued" else "ending"
        self.queue.destroy_job(job_id)
        assert self.state[job_id] == expected

    @precondition(lambda self: self.has("ending"))
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        job_id = self.some_job(data, "ending")
        del self.boards[job_id]
        del self.state[job_id]
        self.queue.free(job_id)

    @rule(dead=st.frozensets(st.tuples(*[st.integers(0, 1)] * 2, st.integers(0, 2))))
    def modify(self, dead: frozenset[tuple[int, int, int]]) -> None:
        self.queue.modify_machine("a", dead_boards={b for b in dead if b[1] == 0})

    @rule()
    def restart(self) -> None:
        self.queue = pickle.loads(pickle.dumps(self.queue))
        self.queue.on_allocate = self.on_allocate
        self.queue.on_free = self.on_free
        self.queue.on_cancel = self.on_cancel

    @invariant()
    def no_head_could_run(self) -> None:
        for machine in self.queue._machines.values():
            pending = [job for job in machine.queue if job.pending]
            assert [job.id for job in pending] == sorted(job.id for job in pending)
            if pending:
                copy = pickle.loads(pickle.dumps(machine.allocator))
                assert copy.alloc(*pending[0].args, **pending[0].kwargs) is None

    @invariant()
    def queued_jobs_are_in_a_queue(self) -> None:
        waiting = {
            job.id
            for machine in self.queue._machines.values()
            for job in machine.queue
            if job.pending
        }
        queued = {j for j, state in self.state.items() if state == "queued"}
        assert waiting == queued


JobQueueMachine.TestCase.settings = settings(max_examples=50, stateful_step_count=30)
TestJobQueueMachine = JobQueueMachine.TestCase
