"""Acceptance of rectangles, and the links that isolate them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.coordinates import Board, BoardLink, WrapAround, board_down_link
from spalloc_server.links import Links
from spalloc_server.placement.candidate_filter import (
    _CandidateFilter,
    periphery_of_shape,
)

EMPTY: frozenset[Board] = frozenset()
NO_LINKS: frozenset[BoardLink] = frozenset()


def all_boards(x: int, y: int, width: int, height: int) -> set[Board]:
    return set(itertools.product(range(x, x + width), range(y, y + height), (0, 1, 2)))


def leaving(boards: set[Board], width: int, height: int) -> set[BoardLink]:
    """The periphery, by definition: links from a board inside to one outside."""
    return {
        (*board, link)
        for board in boards
        for link in Links
        if board_down_link(*board, link, width, height)[:3] not in boards
    }


@given(st.data(), st.integers(1, 6), st.integers(1, 6))
def test_an_intact_rectangle_is_described_as_if_looked_at_board_by_board(
    data: st.DataObject, machine_width: int, machine_height: int
) -> None:
    x = data.draw(st.integers(0, machine_width - 1))
    y = data.draw(st.integers(0, machine_height - 1))
    width = data.draw(st.integers(1, machine_width - x))
    height = data.draw(st.integers(1, machine_height - y))
    accepts = _CandidateFilter(
        machine_width, machine_height, EMPTY, NO_LINKS, 0, 0, False
    )
    assert accepts(x, y, width, height)
    boards = all_boards(x, y, width, height)
    assert accepts.boards == boards
    assert accepts._enumerate_boards(x, y, width, height) == boards
    assert accepts.periphery == leaving(boards, machine_width, machine_height)
    links = accepts._classify_links(boards)
    assert links.periphery == accepts.periphery
    assert links.wrap_around_type == accepts.torus


@given(st.data(), st.integers(1, 4), st.integers(1, 4))
def test_links_fall_into_classes_by_what_they_connect(
    data: st.DataObject, width: int, height: int
) -> None:
    everything = sorted(all_boards(0, 0, width, height))
    boards = set(data.draw(st.lists(st.sampled_from(everything), min_size=1)))
    every_link = [(*board, link) for board in everything for link in Links]
    dead_links = frozenset(data.draw(st.lists(st.sampled_from(every_link))))
    accepts = _CandidateFilter(width, height, EMPTY, dead_links, 0, 0, False)
    links = accepts._classify_links(boards)

    around = WrapAround.none
    for link in every_link:
        *to, wrapped = board_down_link(*link, width, height)
        inside = link[:3] in boards and tuple(to) in boards
        dead = link in dead_links
        assert (link in links.alive) == (inside and not wrapped and not dead)
        assert (link in links.wrap) == (inside and bool(wrapped) and not dead)
        assert (link in links.dead) == (inside and not wrapped and dead)
        assert (link in links.dead_wrap) == (inside and bool(wrapped) and dead)
        if inside:
            around = WrapAround(around | wrapped)
    assert links.periphery == leaving(boards, width, height)
    assert links.wrap_around_type == around


def test_nothing_is_known_before_a_candidate_is_accepted() -> None:
    accepts = _CandidateFilter(
        2, 2, frozenset({(0, 0, 0)}), NO_LINKS, None, None, False
    )
    assert accepts(0, 0, 1, 1) is False
    assert (accepts.boards, accepts.periphery, accepts.torus) == (None, None, None)


def test_what_was_accepted_can_be_forgotten() -> None:
    accepts = _CandidateFilter(4, 4, frozenset(), frozenset(), 0, 0, False)
    assert accepts(1, 1, 2, 2)
    assert accepts.boards
    accepts.forget()
    assert accepts.boards is accepts.periphery is accepts.torus is None
    assert accepts(0, 0, 1, 1)
    assert accepts.boards == {(0, 0, 0), (0, 0, 1), (0, 0, 2)}


def test_a_rejected_candidate_does_not_replace_the_accepted_one() -> None:
    accepts = _CandidateFilter(3, 3, frozenset({(2, 2, 1)}), NO_LINKS, 0, None, False)
    assert accepts(0, 0, 1, 1)
    assert not accepts(2, 2, 1, 1)
    assert accepts.boards == all_boards(0, 0, 1, 1)


def test_boards_that_cannot_be_reached_count_as_dead() -> None:
    # Every way into (0, 0, 2) from inside the triad is dead.
    dead_links = frozenset(
        (*board, link)
        for board in all_boards(0, 0, 1, 1)
        for link in Links
        if board_down_link(*board, link, 3, 3)[:3] == (0, 0, 2)
    )
    for max_dead_boards, accepted in ((0, False), (1, True), (None, True)):
        accepts = _CandidateFilter(
            3, 3, EMPTY, dead_links, max_dead_boards, None, False
        )
        assert accepts(0, 0, 1, 1) is accepted
    assert accepts.boards == {(0, 0, 0), (0, 0, 1)}
    assert accepts.periphery == leaving(accepts.boards, 3, 3)


@pytest.mark.parametrize(
    ("expected", "max_dead_boards", "accepted"),
    [(None, 0, False), (None, 1, True), (2, 0, True), (3, 0, False)],
)
def test_dead_boards_count_against_the_boards_expected(
    expected: int | None, max_dead_boards: int, accepted: bool
) -> None:
    accepts = _CandidateFilter(
        2, 2, frozenset({(0, 0, 1)}), NO_LINKS, max_dead_boards, None, False, expected
    )
    assert accepts(0, 0, 1, 1) is accepted


def test_links_that_wrap_count_as_dead_only_where_a_torus_is_required() -> None:
    wrapping = frozenset(
        (*board, link)
        for board in all_boards(0, 0, 2, 2)
        for link in Links
        if board_down_link(*board, link, 2, 2)[3]
    )
    for require_torus, accepted in ((False, True), (True, False)):
        accepts = _CandidateFilter(2, 2, EMPTY, wrapping, None, 0, require_torus)
        assert accepts(0, 0, 2, 2) is accepted
    one = frozenset([(0, 0, 0, Links.north)])
    for max_dead_links, accepted in ((0, False), (1, True), (None, True)):
        accepts = _CandidateFilter(2, 2, EMPTY, one, None, max_dead_links, False)
        assert accepts(0, 0, 2, 2) is accepted


def test_a_required_torus_must_wrap_around_something() -> None:
    accepts = _CandidateFilter(3, 2, EMPTY, NO_LINKS, None, None, True)
    assert not accepts(0, 0, 2, 1)
    assert accepts(0, 0, 3, 1)
    assert accepts.torus == WrapAround.x
    assert accepts(0, 0, 1, 2)
    assert accepts.torus == WrapAround.y
    assert accepts(0, 0, 3, 2)
    assert accepts.torus == WrapAround.both
    assert accepts.periphery == set()


@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(WrapAround))
def test_the_periphery_of_a_shape_is_that_of_its_boards(
    width: int, height: int, torus: WrapAround
) -> None:
    # In a machine that is larger wherever the shape does not wrap.
    machine_width = width if torus & WrapAround.x else width + 2
    machine_height = height if torus & WrapAround.y else height + 2
    boards = all_boards(0, 0, width, height)
    periphery = periphery_of_shape(width, height, torus)
    assert len(periphery) == len(set(periphery))
    assert set(periphery) == leaving(boards, machine_width, machine_height)


@given(st.data(), st.integers(1, 7), st.integers(1, 7), st.integers(1, 8))
def test_a_rectangle_with_holes_is_described_as_if_looked_at_board_by_board(
    data: st.DataObject, machine_width: int, machine_height: int, most: int
) -> None:
    everything = sorted(all_boards(0, 0, machine_width, machine_height))
    dead = frozenset(data.draw(st.lists(st.sampled_from(everything), max_size=most)))
    every_link = [(*board, link) for board in everything for link in Links]
    links = st.lists(st.sampled_from(every_link), max_size=data.draw(st.integers(0, 1)))
    dead_links = frozenset(data.draw(links))
    x = data.draw(st.integers(0, machine_width - 1))
    y = data.draw(st.integers(0, machine_height - 1))
    width = data.draw(st.integers(1, machine_width - x))
    height = data.draw(st.integers(1, machine_height - y))
    accepts = _CandidateFilter(
        machine_width, machine_height, dead, dead_links, None, None, False
    )
    boards = accepts._enumerate_boards(x, y, width, height)
    assert accepts(x, y, width, height) == bool(boards)
    if boards:
        expected = accepts._classify_links(boards)
        assert accepts.boards == boards
        assert accepts.periphery == expected.periphery
        assert accepts.torus == expected.wrap_around_type
        # As many boards, and links that do not work, as were counted.
        n_dead = 3 * width * height - len(boards)
        for most_dead, accepted in ((n_dead, True), (n_dead - 1, False)):
            accepts.max_dead_boards = most_dead
            assert accepts(x, y, width, height) == accepted
        accepts.max_dead_boards = None
        accepts.max_dead_links = len(expected.dead)
        assert accepts(x, y, width, height)


def test_dead_boards_that_lie_apart_are_holes_and_others_are_looked_at() -> None:
    def holes(*dead: Board) -> list[Board] | None:
        accepts = _CandidateFilter(8, 8, frozenset(dead), NO_LINKS, 0, 0, False)
        return accepts._isolated_holes(0, 0, 6, 6)

    assert holes((2, 2, 0), (4, 3, 1)) == [(2, 2, 0), (4, 3, 1)]
    assert holes((2, 2, 0), (2, 2, 1)) == [(2, 2, 0), (2, 2, 1)], "side by side"
    across = [(2, y, z) for y in range(6) for z in range(3)]
    assert holes(*across) is None, "from one side to the other"
    ring = {board_down_link(3, 3, 0, link, 8, 8)[:3] for link in Links}
    assert holes(*ring) is None, "all around a board"
    assert set(holes(*ring, (3, 3, 0)) or ()) == {*ring, (3, 3, 0)}
    assert holes((0, 0, 0)) is None, "the corner"
    assert holes((7, 7, 0)) == [], "elsewhere"
    assert holes((5, 2, 1)) == [(5, 2, 1)], "at the edge"
