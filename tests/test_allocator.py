"""The allocator: properties over random use, and what each kind of request gets."""

from __future__ import annotations

import itertools
import pickle
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
)

from spalloc_server.allocator import Allocation, Allocator, _AllocationType
from spalloc_server.coordinates import Board, WrapAround, board_down_link
from spalloc_server.links import Links


def boards_of(width: int, height: int) -> list[Board]:
    return list(itertools.product(range(width), range(height), (0, 1, 2)))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class AllocatorMachine(RuleBasedStateMachine):
    """Random use of a machine with faults that come and go."""

    allocations = Bundle("allocations")

    @initialize(width=st.integers(1, 5), height=st.integers(1, 5), data=st.data())
    def start(self, width: int, height: int, data: st.DataObject) -> None:
        self.width, self.height = width, height
        self.all_boards = boards_of(width, height)
        links = [(*board, link) for board in self.all_boards for link in Links]
        self.clock = Clock()
        self.allocator = Allocator(
            width,
            height,
            data.draw(st.frozensets(st.sampled_from(self.all_boards), max_size=5)),
            data.draw(st.frozensets(st.sampled_from(links), max_size=8)),
            seconds_before_free=10,
        )
        self.allocator.clock = self.clock
        self.held: dict[int, set[Board]] = {}
        self.cooling: dict[int, tuple[float, set[Board]]] = {}

    def hold(self, allocation: Allocation | None, at_least: int) -> object:
        if allocation is None:
            return multiple()
        allocation_id, boards, periphery, _torus = allocation
        assert boards
        assert boards <= set(self.all_boards)
        assert not boards & self.allocator.dead_boards
        assert len(boards) >= at_least
        for others in self.held.values():
            assert not boards & others
        for _, others in self.cooling.values():
            assert not boards & others
        if len(boards) > 1:
            assert periphery == {
                (*board, link)
                for board in boards
                for link in Links
                if board_down_link(*board, link, self.width, self.height)[:3]
                not in boards
            }
        assert allocation_id not in self.held
        self.held[allocation_id] = boards
        return allocation_id

    @rule(target=allocations)
    def alloc_any_board(self) -> object:
        allocation = self.allocator.alloc()
        if allocation is not None:
            assert allocation.periphery == {
                (*board, link) for board in allocation.boards for link in Links
            }
            assert allocation.torus is WrapAround.none
        return self.hold(allocation, 1)

    @rule(target=allocations, data=st.data())
    def alloc_this_board(self, data: st.DataObject) -> object:
        board = data.draw(st.sampled_from(self.all_boards))
        allocation = self.allocator.alloc(*board)
        if allocation is not None:
            assert allocation.boards == {board}
        return self.hold(allocation, 1)

    @rule(
        target=allocations,
        boards=st.integers(2, 20),
        max_dead_boards=st.sampled_from([None, 0, 1, 3]),
        max_dead_links=st.sampled_from([None, 0, 2]),
        min_ratio=st.sampled_from([0.0, 0.5, 1.0]),
    )
    def alloc_boards(
        self,
        boards: int,
        max_dead_boards: int | None,
        max_dead_links: int | None,
        min_ratio: float,
    ) -> object:
        allocation = self.allocator.alloc(
            boards,
            max_dead_boards=max_dead_boards,
            max_dead_links=max_dead_links,
            min_ratio=min_ratio,
        )
        least = 1 if max_dead_boards is None else boards - max_dead_boards
        return self.hold(allocation, least)

    @rule(target=allocations, width=st.integers(1, 5), height=st.integers(1, 5))
    def alloc_triads(self, width: int, height: int) -> object:
        allocation = self.allocator.alloc(width, height, max_dead_boards=0)
        return self.hold(allocation, 3 * width * height)

    @rule(allocation_id=consumes(allocations))
    def free(self, allocation_id: int) -> None:
        self.allocator.free(allocation_id)
        until = self.clock.now + 10
        self.cooling[allocation_id] = until, self.held.pop(allocation_id)
        with pytest.raises(KeyError):
            self.allocator.free(allocation_id)

    @rule(seconds=st.sampled_from([0.0, 3.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds
        cooled = [
            i for i, (until, _) in self.cooling.items() if until <= self.clock.now
        ]
        assert self.allocator.check_free() == len(cooled)
        for allocation_id in cooled:
            del self.cooling[allocation_id]

    @rule(data=st.data())
    def change_faults(self, data: st.DataObject) -> None:
        self.allocator.dead_boards = data.draw(
            st.frozensets(st.sampled_from(self.all_boards), max_size=4)
        )

    @rule()
    def restart(self) -> None:
        allocator = pickle.loads(pickle.dumps(self.allocator))
        # Unpickled on another clock, with the same time left.
        shift = allocator.clock() - self.clock.now
        allocator._cooling = {
            held: round(until - shift, 3) for held, until in allocator._cooling.items()
        }
        allocator.clock = self.clock
        self.allocator = allocator

    @invariant()
    def empty_when_all_is_freed(self) -> None:
        if not self.held and not self.cooling:
            assert self.allocator.pack_tree.children is None
            assert not self.allocator.pack_tree.allocated

    def teardown(self) -> None:
        if not hasattr(self, "allocator"):
            return
        for allocation_id in list(self.held):
            self.allocator.free(allocation_id)
        self.clock.now += 10
        self.allocator.check_free()
        self.allocator.dead_boards = frozenset()
        everything = self.allocator.alloc(self.width, self.height)
        assert everything is not None


AllocatorMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30)
TestAllocatorMachine = AllocatorMachine.TestCase


@given(st.integers(1, 6), st.integers(1, 6), st.data())
def test_what_is_possible_succeeds_on_the_empty_machine(
    width: int, height: int, data: st.DataObject
) -> None:
    dead = data.draw(st.frozensets(st.sampled_from(boards_of(width, height))))
    request = data.draw(
        st.one_of(
            st.just(()),
            st.tuples(st.integers(1, 40)),
            st.tuples(st.integers(1, 7), st.integers(1, 7)),
            st.tuples(st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)),
        )
    )
    limit = data.draw(st.sampled_from([None, 0, 2]))
    possible = Allocator(width, height, dead).alloc_possible(
        *request, max_dead_boards=limit
    )
    allocation = Allocator(width, height, dead).alloc(*request, max_dead_boards=limit)
    assert possible == (allocation is not None)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (1, 3), (2, 2)])
def test_single_boards_fill_small_machines(width: int, height: int) -> None:
    allocator = Allocator(width, height)
    got: list[Board] = []
    while (allocation := allocator.alloc()) is not None:
        got += allocation.boards
    assert sorted(got) == boards_of(width, height)
    # Triad by triad, lowest z first.
    assert [z for _, _, z in got] == [0, 1, 2] * (width * height)


def test_single_boards_come_from_the_triad_open_for_longest() -> None:
    allocator = Allocator(3, 1, seconds_before_free=0)
    ids = {}
    for _ in range(5):
        allocation_id, boards, _, _ = allocator.alloc() or pytest.fail("no room")
        ids[boards.pop()] = allocation_id
    # (0, 0) is full, (1, 0) has one board left: what (0, 0) gets back goes last.
    allocator.free(ids[0, 0, 2])
    allocator.free(ids[0, 0, 0])
    order = [(allocator.alloc() or pytest.fail("no room")).boards for _ in range(4)]
    assert order == [{(1, 0, 2)}, {(0, 0, 0)}, {(0, 0, 2)}, {(2, 0, 0)}]


def test_a_triad_with_dead_boards_can_be_shared() -> None:
    allocator = Allocator(2, 1, {(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1), (1, 0, 2)})
    assert allocator.alloc_possible()
    assert (allocator.alloc() or pytest.fail("no room")).boards == {(0, 0, 2)}
    assert allocator.alloc() is None
    assert allocator.alloc(1, 1) is None


def test_a_particular_board() -> None:
    allocator = Allocator(2, 2, {(1, 1, 0)})
    assert not allocator.alloc_possible(1, 1, 0)
    assert not allocator.alloc_possible(2, 0, 0)
    assert not allocator.alloc_possible(0, 0, 3)
    assert allocator.alloc(1, 1, 0) is None
    assert allocator.alloc(0, 0, 3) is None
    assert (allocator.alloc(1, 1, 2) or pytest.fail("no room")).boards == {(1, 1, 2)}
    assert allocator.alloc(1, 1, 2) is None
    # The rest of the triad is shared with others now, before a new one is opened.
    assert (allocator.alloc() or pytest.fail("no room")).boards == {(1, 1, 1)}
    assert (allocator.alloc() or pytest.fail("no room")).boards != {(1, 1, 0)}


def test_a_torus_is_the_whole_machine() -> None:
    allocator = Allocator(3, 2, seconds_before_free=0)
    assert allocator.alloc_possible(3, 2, require_torus=True)
    assert not allocator.alloc_possible(3, 1, require_torus=True)
    assert allocator.alloc(3, 1, require_torus=True) is None
    assert [
        n for n in range(2, 20) if allocator.alloc_possible(n, require_torus=True)
    ] == [
        16,
        17,
        18,
    ]
    allocation = allocator.alloc(16, require_torus=True) or pytest.fail("no room")
    assert allocation.torus is WrapAround.both
    assert allocation.periphery == set()


def test_boards_are_out_of_use_while_they_cool_down() -> None:
    clock = Clock()
    allocator = Allocator(1, 1, seconds_before_free=30)
    allocator.clock = clock
    first = allocator.alloc(1, 1) or pytest.fail("no room")
    allocator.free(first.allocation_id)
    clock.now += 29
    assert not allocator.check_free()
    assert allocator.alloc(1, 1) is None
    clock.now += 1
    assert allocator.check_free()
    assert allocator.alloc(1, 1) is not None


def test_cooling_can_be_cut_short() -> None:
    allocator = Allocator(1, 1)
    first = allocator.alloc(1, 1) or pytest.fail("no room")
    allocator.free(first.allocation_id)
    allocator._free_next()
    assert allocator.alloc(1, 1) is not None


def test_seconds_left_to_cool_survive_pickling() -> None:
    allocator = Allocator(1, 1, seconds_before_free=1000)
    first = allocator.alloc(1, 1) or pytest.fail("no room")
    allocator.free(first.allocation_id)
    copy = pickle.loads(pickle.dumps(allocator))
    assert copy.alloc(1, 1) is None
    start = copy.clock()
    copy.clock = lambda: start + 1001
    assert copy.check_free()
    second = copy.alloc(1, 1) or pytest.fail("no room")
    assert second.allocation_id == first.allocation_id + 1


def test_changed_faults_change_what_is_possible() -> None:
    allocator = Allocator(1, 1)
    assert allocator.alloc_possible(1, 1, max_dead_boards=0)
    allocator.dead_boards = frozenset({(0, 0, 1)})
    assert not allocator.alloc_possible(1, 1, max_dead_boards=0)
    allocator.dead_boards = frozenset()
    allocator.dead_links = frozenset({(0, 0, 0, Links.north)})
    assert allocator.alloc_possible(1, 1, max_dead_boards=0)
    assert not allocator.alloc_possible(1, 1, max_dead_links=0)


@pytest.mark.parametrize(
    ("args", "kind"),
    [
        ((), _AllocationType.board),
        ((1,), _AllocationType.board),
        ((1, 2, 0), _AllocationType.board),
        ((0, 0, 0), _AllocationType.board),
        ((2,), _AllocationType.boards),
        ((1, 1), _AllocationType.triads),
    ],
)
def test_kinds_of_request(args: tuple[Any, ...], kind: _AllocationType) -> None:
    assert Allocator(1, 1)._alloc_type(*args) is kind


def test_senseless_requests() -> None:
    allocator = Allocator(2, 2)
    for args in ((0,), (-1,), (0, 1), (1, -1), (3, 1), (13,)):
        assert not allocator.alloc_possible(*args)
        assert allocator.alloc(*args) is None
    with pytest.raises(ValueError, match="require_torus must be False"):
        allocator.alloc(1, require_torus=True)
    with pytest.raises(TypeError, match="colour"):
        allocator.alloc_possible(1, colour="red")
    with pytest.raises(KeyError):
        allocator.free(7)
