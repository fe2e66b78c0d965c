"""The order of a line against a model that counts, and what may pass a job."""

from __future__ import annotations

from collections import Counter
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from spalloc_server.scheduling import group, order
from spalloc_server.scheduling.line import LARGE, Line

OWNERS = ["ann", "bob", "cy", None]


class LineMachine(RuleBasedStateMachine):
    """Random use of a line; jobs of one request and one class of size are alike."""

    fair = True

    def __init__(self) -> None:
        super().__init__()
        self.line = Line(self.fair)
        self.next_id = 1
        self.jobs: dict[int, tuple[str | None, int]] = {}
        self.blocked: set[int] = set()
        self.aside: set[tuple[int, str | None]] = set()
        # For each job, how many rounds it was behind, and who came later and was the
        # head before it.
        self.behind: dict[int, int] = {}
        self.passed_by: dict[int, set[int]] = {}
        self.all: dict[int, tuple[str | None, int]] = {}

    def area(self, request: int) -> int:
        return request // 2

    @rule(owner=st.sampled_from(OWNERS), request=st.integers(0, 5))
    def append(self, owner: str | None, request: int) -> None:
        job_id, self.next_id = self.next_id, self.next_id + 1
        area = self.area(request)
        self.line.append(job_id, owner, job_id, request, area, 3, area)
        if request not in {r for _, r in self.jobs.values()}:
            self.blocked.discard(request)
        self.jobs[job_id] = self.all[job_id] = owner, request
        self.behind[job_id] = self.line.rounds_before(job_id)
        self.passed_by[job_id] = set()

    def leave(self, job_id: int) -> None:
        self.line.discard(job_id)
        owner, request = self.jobs.pop(job_id)
        if (owner, request) not in self.jobs.values():
            self.aside.discard((request, owner))

    @precondition(lambda self: self.line.head() is not None)
    @rule()
    def serve_the_head(self) -> None:
        head = self.line.head()
        assert head is not None
        self.leave(head)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def serve_somebody(self, data: st.DataObject) -> None:
        self.leave(data.draw(st.sampled_from(list(self.jobs))))

    @precondition(lambda self: self.line.next_to_try() is not None)
    @rule()
    def block(self) -> None:
        job_id = self.line.next_to_try()
        assert job_id is not None
        self.line.block(job_id)
        self.blocked.add(self.jobs[job_id][1])

    @rule(room=st.integers(-1, 3))
    def unblock(self, room: int) -> None:
        self.line.unblock(room)
        self.blocked = {r for r in self.blocked if self.area(r) > room}

    @invariant()
    def the_order_is_that_of_the_model(self) -> None:
        def tried(job_id: int) -> bool:
            owner, request = self.jobs[job_id]
            return (request, owner) not in self.aside

        order = sorted(self.jobs, key=self.line.key_of)
        assert list(self.line) == order
        assert [self.line.jobs_before(job) for job in order] == list(range(len(order)))
        assert self.line.head() == next(filter(tried, order), None)
        ready = [j for j in order if tried(j) and self.jobs[j][1] not in self.blocked]
        large = [job for job in ready if self.area(self.jobs[job][1]) >= LARGE]
        assert self.line.next_to_try() == next(iter(large or ready), None)
        for owner in OWNERS:
            for size in range(3):
                mine = [
                    job
                    for job in order
                    if self.jobs[job][0] == owner
                    and self.area(self.jobs[job][1]) == size
                ]
                assert mine == sorted(mine)


class FairLineMachine(LineMachine):
    """Owners take turns: what may pass a job is bounded."""

    @invariant()
    def nobody_is_passed_by_more_than_is_said(self) -> None:
        head = self.line.head()
        if head is None:
            return
        for job_id in self.jobs:
            if job_id < head:
                self.passed_by[job_id].add(head)
        for job_id in self.jobs:
            passed_by = Counter(
                (self.all[other][0], self.area(self.all[other][1]))
                for other in self.passed_by[job_id]
            )
            assert all(n <= self.behind[job_id] for n in passed_by.values())

    @invariant()
    def an_owner_has_one_place_in_a_round(self) -> None:
        places = Counter(
            (owner, self.area(request), self.line.key_of(job_id)[0])
            for job_id, (owner, request) in self.jobs.items()
        )
        assert set(places.values()) <= {1}


class LimitedLineMachine(LineMachine):
    """Owners are passed over now and then, since they have too much."""

    @precondition(lambda self: self.line.next_to_try() is not None)
    @rule()
    def set_aside(self) -> None:
        job_id = self.line.next_to_try()
        assert job_id is not None
        owner, request = self.jobs[job_id]
        self.line.set_aside(job_id, owner)
        self.aside.add((request, owner))
        assert self.line.is_set_aside(job_id)

    @rule(owner=st.sampled_from(OWNERS))
    def restore(self, owner: str | None) -> None:
        self.line.restore(owner)
        self.aside = {(r, o) for r, o in self.aside if o != owner}

    @rule()
    def restore_all(self) -> None:
        self.line.restore_all()
        self.aside.clear()


class PlainLineMachine(LineMachine):
    """First come, first served."""

    fair = False

    @invariant()
    def first_come_first_served(self) -> None:
        assert list(self.line) == sorted(self.jobs)


class SeldomAskedLineMachine(LimitedLineMachine):
    """Nobody asks for the whole order, which has those cleared away who have left."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = [mock.patch.object(m, "_MANY", 2) for m in (group, order)]
        for patch in self.patches:
            patch.start()

    def teardown(self) -> None:
        for patch in self.patches:
            patch.stop()

    @rule()
    def the_order_is_that_of_the_model(self) -> None:
        super().the_order_is_that_of_the_model()


SETTINGS = settings(max_examples=100, stateful_step_count=60, deadline=None)
FairLineMachine.TestCase.settings = SETTINGS
LimitedLineMachine.TestCase.settings = SETTINGS
PlainLineMachine.TestCase.settings = SETTINGS
SeldomAskedLineMachine.TestCase.settings = SETTINGS
TestFairLine = FairLineMachine.TestCase
TestLimitedLine = LimitedLineMachine.TestCase
TestPlainLine = PlainLineMachine.TestCase
TestSeldomAskedLine = SeldomAskedLineMachine.TestCase


def test_three_hundred_jobs_of_one_do_not_stand_before_everybody_elses_one() -> None:
    line = Line(fair=True)
    for job_id in range(300):
        line.append(job_id, "sweep", job_id, "same", 8, 24)
    for job_id, owner in enumerate(["ann", "bob", "ann"], 300):
        line.append(job_id, owner, job_id, "same", 1, 3)
    assert list(line)[:6] == [0, 300, 301, 1, 302, 2]
    # The head stays the head, and turns that were had count.
    line.discard(0)
    line.append(303, "sweep", 303, "same", 8, 24)
    line.append(304, "cy", 304, "same", 8, 24)
    assert list(line)[:4] == [300, 301, 304, 1]


def test_large_jobs_do_not_wait_for_the_turns_of_small_ones() -> None:
    line = Line(fair=True)
    for job_id in range(50):
        line.append(job_id, "ann", job_id, "small", 1, 3, 0)
    line.append(50, "ann", 50, "large", 200, 600, 2)
    line.append(51, "bob", 51, "small", 1, 3, 0)
    assert list(line)[:4] == [0, 50, 51, 1]


def test_who_is_served_out_of_turn_has_the_turn_back() -> None:
    line = Line(fair=True)
    line.append(0, "ann", 0, "large", 200, 600)
    line.append(1, "bob", 1, "small", 1, 3)
    line.append(2, "bob", 2, "small", 1, 3)
    line.discard(2)
    line.append(3, "bob", 3, "small", 1, 3)
    line.append(4, "cy", 4, "small", 1, 3)
    assert [line.rounds_before(job) for job in (1, 3, 4)] == [0, 1, 0]
    assert list(line) == [0, 1, 4, 3]


def test_first_places() -> None:
    line = Line(fair=True)
    line.insert(1, "ann", line.first_place(), "x", 1, 3)
    line.append(2, "ann", 2, "x", 1, 3)
    line.insert(3, "ann", line.first_place(), "x", 1, 3)
    assert list(line) == [3, 1, 2]
    for job_id in (4, 5):
        line.insert(job_id, "bob", line.first_place(behind=3), "x", 1, 3)
    assert list(line) == [3, 4, 5, 1, 2]
