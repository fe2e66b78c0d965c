"""What is promised to those who wait, over random histories."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spalloc_server.job_queue import JobQueue
from tests.scheduling.room import Room

REQUESTS = st.sampled_from(
    [
        *((), (1,), (2,), (3,), (5,), (7,), (12,), (24,), (36,)),
        *((2, 1), (1, 3), (3, 3), (0, 0, 0), (1, 2, 1)),
    ]
)
JOBS = st.tuples(
    # Whole seconds, which no sum or difference rounds.
    st.integers(0, 400),
    REQUESTS,
    st.integers(1, 3000),
    st.sampled_from(["ann", "bob", "cy", None]),
    st.sampled_from([{}, {}, {}, {"machine": "a"}, {"machine": "b"}, {"tags": {"b"}}]),
    st.sampled_from([{}, {}, {"max_dead_boards": 0}, {"min_ratio": 0.5}]),
)
DEAD = st.frozensets(st.tuples(*[st.integers(0, 3)] * 2, st.integers(0, 2)), max_size=6)


def play(
    jobs: list[Any], patience: float, dead: Any, restart_every: int = 0
) -> tuple[Room, list[Any]]:
    """Hand jobs in one after the other, and wait until all have ended."""
    room = Room(restart_every=restart_every)
    room.queue.longest_overtaking = patience
    room.queue.add_machine("a", 4, 4, dead_boards=dead)
    room.queue.add_machine("b", 2, 3, tags={"default", "b"})
    for job_id, (pause, args, run, owner, where, demands) in enumerate(jobs):
        room.wait(pause)
        room.create(job_id, run, *args, owner=owner, **where, **demands)
        nobody_could_start(room.queue)
    room.wait_for_all()
    return room, sorted(room.started.items())


def nobody_could_start(queue: JobQueue) -> None:
    """Fail if there is room for somebody who waits, outside of what is kept."""
    for machine in queue._machines.values():
        for job in machine.queue:
            copy = pickle.loads(pickle.dumps(queue))._machines[machine.name].allocator
            assert (copy.kept is None) == (machine.allocator.kept is None)
            assert copy.alloc(*job.args, **job.kwargs) is None
            if machine.kept is not None and machine.kept.job_id == job.id:
                assert copy.alloc_kept(*job.args, **job.kwargs) is None


@settings(deadline=None, max_examples=150)
@given(st.lists(JOBS, max_size=40), st.sampled_from([0.0, 300.0, 28_800.0]), DEAD)
def test_what_is_kept_for_a_job_is_free_when_those_who_held_it_have_ended(
    jobs: list[Any], patience: float, dead: Any
) -> None:
    room, started = play(jobs, patience, dead)
    assert len(started) + len(room.cancelled) == len(jobs)
    for job_id, latest in room.latest.items():
        assert room.started[job_id][0] <= latest
    for machine in room.queue._machines.values():
        assert (machine.kept, machine.allocator.kept, len(machine.line)) == (
            None,
        ) * 2 + (0,)
        assert machine.allocator.pack_tree.children is None


@settings(deadline=None, max_examples=60)
@given(st.lists(JOBS, max_size=30), st.sampled_from([0.0, 300.0]), st.integers(1, 4))
def test_restarts_change_nothing(
    jobs: list[Any], patience: float, restart_every: int
) -> None:
    _, started = play(jobs, patience, ())
    assert play(jobs, patience, (), restart_every)[1] == started


@settings(deadline=None, max_examples=60)
@given(st.lists(JOBS, max_size=30), st.lists(DEAD, max_size=8))
def test_a_new_part_is_chosen_when_boards_of_the_old_one_fail(
    jobs: list[Any], failures: list[Any]
) -> None:
    room = Room()
    room.queue.longest_overtaking = 0.0
    room.queue.add_machine("a", 4, 4)
    room.queue.add_machine("b", 2, 3, tags={"default", "b"})
    for job_id, (pause, args, run, owner, where, demands) in enumerate(jobs):
        room.wait(pause)
        room.create(job_id, run, *args, owner=owner, **where, **demands)
        if failures and job_id % 3 == 2:
            had_part = {m.kept.job_id for m in room.queue._machines.values() if m.kept}
            room.queue.modify_machine("a", dead_boards=failures.pop())
            waiting = {j.id for m in room.queue._machines.values() for j in m.queue}
            kept_for = {m.kept.job_id for m in room.queue._machines.values() if m.kept}
            assert had_part & waiting <= kept_for
            nobody_could_start(room.queue)
            # Boards that fail may make a job wait for longer than it had to.
            room.latest.clear()
            room._look()
    room.wait_for_all()
    assert len(room.started) + len(room.cancelled) == len(jobs)
    for job_id, latest in room.latest.items():
        assert room.started[job_id][0] <= latest


def test_a_small_job_passes_a_large_one_that_waits_and_the_large_one_is_next() -> None:
    room = Room()
    room.queue.add_machine("m", 20, 20)
    room.create(1, 3600.0, 600, owner="ann")
    room.create(2, 600.0, 720, owner="bob")
    room.create(3, 60.0, owner="cy")
    assert set(room.started) == {1, 3}
    # In a minute a part is looked for. It is the whole machine: no smaller piece of the
    # packing tree has 720 boards.
    room.wait(60)
    room.create(4, 60.0, owner="cy")
    assert set(room.started) == {1, 3}
    room.wait(3600)
    assert room.started[2][0] == 1000.0 + 3600.0 + 30.0
    assert room.started[4][0] == room.started[2][0]


def test_single_boards_of_shared_triads_in_the_kept_part_are_kept() -> None:
    room = Room()
    room.queue.longest_overtaking = 0.0
    room.queue.add_machine("m", 2, 1)
    room.create(1, 1000.0, owner="ann")
    room.create(2, 500.0, 3, owner="ann")
    room.create(3, 100.0, 6, owner="bob")
    room.create(4, 100.0, owner="cy")
    assert set(room.started) == {1, 2}
    room.wait_for_all()
    assert room.started[3][0] == 1000.0 + 1000.0 + 30.0
    assert room.started[4][0] > room.started[3][0]


def test_the_parts_on_other_machines_are_let_go_when_a_job_starts() -> None:
    room = Room()
    room.queue.longest_overtaking = 0.0
    room.queue.add_machine("a", 2, 2)
    room.queue.add_machine("b", 2, 2)
    for job_id, machine in enumerate(["a", "b"]):
        room.create(job_id, 1000.0 * (job_id + 1), 3, machine=machine)
    room.create(2, 100.0, 12)
    assert [m.kept.job_id for m in room.queue._machines.values() if m.kept] == [2, 2]
    room.create(3, 100.0, 3)
    assert 3 not in room.started
    room.wait(1030)
    assert room.started[2] == (2030.0, "a")
    # What was kept on b is there for others.
    assert room.started[3] == (2030.0, "b")


def test_a_head_may_be_overtaken_for_as_long_as_is_set() -> None:
    room = Room()
    room.queue.longest_overtaking = 500.0
    room.queue.add_machine("m", 2, 1)
    # Two old jobs: the part is not expected to be free soon.
    room.create(1, 90_000.0, 3)
    room.wait(80_000)
    room.create(2, 100.0, 6)
    room.create(3, 400.0, 3)
    assert 3 in room.started
    room.wait(499)
    room.create(4, 400.0, 3)
    assert 4 in room.started
    room.wait(450)
    assert room.queue._machines["m"].kept is not None
    room.create(5, 400.0, 3)
    room.wait_for_all()
    assert room.started[2][0] == 91_030.0
    assert room.started[5][0] > room.started[2][0]


def test_time_that_is_set_back_does_not_make_a_head_wait() -> None:
    room = Room()
    room.queue.longest_overtaking = 500.0
    room.queue.add_machine("m", 1, 1)
    room.create(1, 1e9, 3)
    room.now += 1e6
    room.create(2, 100.0, 3)
    room.now -= 1e6 - 100
    room.create(3, 100.0, 3)
    assert room.queue._machines["m"].kept is None
    room.now += 501
    assert room.queue.is_due()
    room.queue.check_free()
    assert room.queue._machines["m"].kept is not None
    assert not room.queue.is_due()


def test_a_look_that_decides_nothing_leaves_no_trace() -> None:
    room = Room()
    room.queue.add_machine("m", 2, 1)
    room.create(1, 90_000.0, 3)
    room.create(2, 100.0, 6)
    before = room.queue.__getstate__()
    for _ in range(5):
        room.now += 7
        with room.queue:
            assert not room.queue.is_due()
            assert room.queue.check_free() == {}
    assert room.queue.__getstate__() == before


def test_words_can_be_changed_with_jobs_waiting() -> None:
    room = Room("fifo")
    room.queue.longest_overtaking = 0.0
    room.queue.add_machine("m", 2, 1)
    room.create(1, 1000.0, 3, owner="ann")
    room.create(2, 100.0, 6, owner="ann")
    room.create(3, 10.0, owner="bob")
    assert set(room.started) == {1}
    room.queue.longest_overtaking = 5000.0
    room.queue.scheduling = "backfill"
    assert set(room.started) == {1, 3}
    room.queue.longest_overtaking = 0.0
    assert room.queue._machines["m"].kept is not None
    room.queue.scheduling = "fifo"
    assert room.queue._machines["m"].allocator.kept is None
    room.create(4, 10.0, owner="bob")
    room.wait_for_all()
    assert [room.started[n][0] for n in (2, 4)] == [2030.0, 2160.0]


def test_there_are_two_words() -> None:
    with pytest.raises(ValueError, match=r"scheduling should be one of .*'lifo'"):
        JobQueue(None, None, None, scheduling="lifo")
    queue = JobQueue(None, None, None)
    assert queue.scheduling == "fifo"
    with pytest.raises(ValueError, match="'lifo'"):
        queue.scheduling = "lifo"


def test_a_job_that_is_queued_again_is_before_all_but_the_one_with_a_part() -> None:
    room = Room()
    room.queue.add_machine("m", 2, 1)
    room.create(1, 1000.0, 3, owner="ann")
    room.create(2, 1000.0, 3, owner="ann")
    room.create(3, 10.0, 3, owner="bob")
    room.queue.longest_overtaking = 5000.0
    room.boards.clear()
    room.ends |= {-1: 2000.0, -2: 2000.0}
    with room.queue:
        room.queue.requeue(1, -1)
    assert list(room.queue._machines["m"].line) == [1, 3]
    room.queue.longest_overtaking = 0.0
    room.create(4, 10.0, 3, owner="cy")
    assert room.queue._machines["m"].kept is not None
    with room.queue:
        room.queue.requeue(2, -2)
    assert list(room.queue._machines["m"].line) == [1, 2, 3, 4]
