"""The packing tree, by properties and by its rules of placement."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    multiple,
    rule,
)

from spalloc_server.pack_tree import FreeError, PackTree

sizes = st.integers(1, 12)


class PackTreeMachine(RuleBasedStateMachine):
    """Random allocations, checked against a plain set of unit squares."""

    allocations = Bundle("allocations")

    def __init__(self) -> None:
        super().__init__()
        self.tree = PackTree(2, 3, 7, 5)
        self.held: dict[tuple[int, int], set[tuple[int, int]]] = {}

    def hold(self, x: int, y: int, width: int, height: int) -> None:
        squares = {(x + dx, y + dy) for dx in range(width) for dy in range(height)}
        assert all(square in self.tree for square in squares)
        for others in self.held.values():
            assert not squares & others
        self.held[x, y] = squares

    @rule(target=allocations, width=st.integers(1, 4), height=st.integers(1, 4))
    def alloc(self, width: int, height: int) -> object:
        corner = self.tree.alloc(width, height)
        if corner is None:
            return multiple()
        self.hold(*corner, width, height)
        return corner

    @rule(
        target=allocations,
        area=st.integers(1, 12),
        ratio=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    )
    def alloc_area(self, area: int, ratio: float) -> object:
        found = self.tree.alloc_area(area, ratio)
        if found is None:
            return multiple()
        assert found[2] * found[3] >= area
        self.hold(*found)
        return found[:2]

    @rule(target=allocations, x=st.integers(1, 9), y=st.integers(2, 8))
    def request(self, x: int, y: int) -> object:
        squares = {square for held in self.held.values() for square in held}
        is_free = (x, y) in self.tree and (x, y) not in squares
        assert self.tree.request(x, y) == ((x, y) if is_free else None)
        if not is_free:
            return multiple()
        self.hold(x, y, 1, 1)
        return x, y

    @rule(corner=consumes(allocations))
    def free(self, corner: tuple[int, int]) -> None:
        self.tree.free(*corner)
        del self.held[corner]
        with pytest.raises(FreeError):
            self.tree.free(*corner)

    @rule()
    def pickle(self) -> None:
        self.tree = pickle.loads(pickle.dumps(self.tree))

    @invariant()
    def empty_when_all_is_freed(self) -> None:
        if not self.held:
            assert self.tree.children is None
            assert not self.tree.allocated

    def teardown(self) -> None:
        for corner in list(self.held):
            self.tree.free(*corner)
        assert self.tree.children is None
        assert self.tree.alloc(7, 5) == (2, 3)


PackTreeMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestPackTreeMachine = PackTreeMachine.TestCase


@given(sizes, sizes)
def test_unit_squares_fill_the_space_exactly(width: int, height: int) -> None:
    tree = PackTree(0, 0, width, height)
    corners = [tree.alloc(1, 1) for _ in range(width * height)]
    assert len(set(corners)) == width * height
    assert tree.alloc(1, 1) is None


@given(sizes, sizes, st.data())
def test_only_what_the_filter_accepts_is_allocated(
    width: int, height: int, data: st.DataObject
) -> None:
    tree = PackTree(0, 0, width, height)
    wanted = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    rejected = []

    def accepts(x: int, y: int, w: int, h: int) -> bool:
        assert (w, h) == (1, 1)
        rejected.append((x, y))
        return (x, y) == wanted

    corner = tree.alloc(1, 1, accepts)
    corners = {(x, y) for x in (0, width - 1) for y in (0, height - 1)}
    assert set(rejected) <= corners
    assert corner == (wanted if wanted in corners else None)
    if corner is None:
        assert tree.children is None


def test_corners_are_tried_in_the_established_order() -> None:
    tried = []

    def reject(x: int, y: int, width: int, height: int) -> bool:
        tried.append((x, y))
        return False

    assert PackTree(1, 2, 5, 4).alloc(2, 1, reject) is None
    assert tried == [(1, 2), (1, 5), (4, 2), (4, 5)]


def test_the_smaller_child_is_searched_first() -> None:
    tree = PackTree(0, 0, 5, 1)
    tree.vsplit(3)
    assert tree.alloc(1, 1) == (3, 0)
    tree = PackTree(0, 0, 1, 4)
    tree.hsplit(2)
    assert tree.alloc(1, 1) == (0, 0)


@pytest.mark.parametrize(
    ("size", "first", "second"),
    [
        # More spare height than width: the rows above stay whole.
        ((3, 4), (3, 3), (0, 1)),
        # As much spare height as width: the columns to the right stay whole.
        ((3, 3), (2, 3), (1, 0)),
    ],
)
def test_the_larger_rest_stays_whole(
    size: tuple[int, int], first: tuple[int, int], second: tuple[int, int]
) -> None:
    tree = PackTree(0, 0, *size)
    assert tree.alloc(1, 1) == (0, 0)
    assert tree.alloc(*first) == second


def test_the_shape_for_an_area_follows_the_free_region() -> None:
    tree = PackTree(0, 0, 4, 4)
    tree.hsplit(1)
    assert tree.alloc_area(4) == (0, 0, 4, 1)
    assert tree.alloc_area(4) == (0, 1, 2, 2)


def test_a_request_cuts_away_the_largest_side_first() -> None:
    tree = PackTree(0, 0, 5, 5)
    assert tree.request(1, 3) == (1, 3)
    # Right of it 3 columns went first (as large as the 3 rows below).
    assert tree.alloc(3, 5) == (2, 0)
    assert tree.request(1, 3) is None
    assert tree.request(5, 0) is None


def test_splits_by_hand() -> None:
    tree = PackTree(1, 1, 4, 4)
    tree.hsplit(3)
    assert tree.children is not None
    lower, upper = tree.children
    assert (lower.x, lower.y, lower.width, lower.height) == (1, 1, 4, 2)
    assert (upper.x, upper.y, upper.width, upper.height) == (1, 3, 4, 2)
    with pytest.raises(ValueError, match="cannot be cut at column 2"):
        tree.vsplit(2)
    for row in (1, 5):
        with pytest.raises(ValueError, match=f"cannot be cut at row {row}"):
            PackTree(1, 1, 4, 4).hsplit(row)
    for column in (1, 5):
        with pytest.raises(ValueError, match=f"cannot be cut at column {column}"):
            PackTree(1, 1, 4, 4).vsplit(column)


def test_containment() -> None:
    tree = PackTree(1, 2, 3, 4)
    inside = {(x, y) for x in range(9) for y in range(9) if (x, y) in tree}
    assert inside == {(x, y) for x in (1, 2, 3) for y in (2, 3, 4, 5)}


def test_senseless_requests_are_refused_even_when_all_is_taken() -> None:
    tree = PackTree(0, 0, 1, 1)
    assert tree.alloc(1, 1) == (0, 0)
    with pytest.raises(ValueError, match="not 0 x 1"):
        tree.alloc(0, 1)
    with pytest.raises(ValueError, match="must be positive"):
        tree.alloc_area(0)
    with pytest.raises(ValueError, match="aspect ratio"):
        tree.alloc_area(1, -1.0)


def test_what_is_not_allocated_cannot_be_freed() -> None:
    tree = PackTree(0, 0, 3, 3)
    with pytest.raises(FreeError, match=r"no allocation starts at \(0, 0\)"):
        tree.free(0, 0)
    tree.alloc(2, 2)
    with pytest.raises(FreeError, match=r"\(1, 1\)"):
        tree.free(1, 1)


def test_a_deeply_cut_tree_can_be_pickled() -> None:
    tree = PackTree(0, 0, 1, 3000)
    for _ in range(2990):
        tree.alloc(1, 1)
    copy = pickle.loads(pickle.dumps(tree))
    rest = [copy.alloc(1, 1) for _ in range(11)]
    assert rest == [*((0, y) for y in range(2990, 3000)), None]
