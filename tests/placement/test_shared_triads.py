"""Sharing of triads by single boards."""

from __future__ import annotations

from spalloc_server.placement.shared_triads import SharedTriads

A, B = (0, 0), (1, 0)


def test_boards_are_left_lowest_first() -> None:
    triads = SharedTriads(frozenset({(*A, 1)}))
    assert triads.boards_left(A) == [0, 2]
    triads.take(A, 0)
    assert triads.boards_left(A) == [2]
    assert triads.boards_left(B) == [0, 1, 2]
    assert A in triads
    assert B not in triads


def test_the_triad_open_for_longest_comes_first() -> None:
    triads = SharedTriads(frozenset())
    assert triads.take_any() is None
    for z in (0, 1, 2):
        triads.take(A, z)
    triads.take(B, 0)
    # A was full, so it goes behind B.
    assert triads.give_back(A, 2) is False
    assert triads.give_back(A, 1) is False
    taken = [triads.take_any() for _ in range(5)]
    assert taken == [(*B, 1), (*B, 2), (*A, 1), (*A, 2), None]


def test_a_triad_is_no_longer_shared_when_its_last_board_is_given_back() -> None:
    triads = SharedTriads(frozenset())
    triads.take(A, 2)
    assert triads.give_back(A, 2) is True
    assert A not in triads
    assert triads.take_any() is None


def test_boards_that_die_and_come_back() -> None:
    triads = SharedTriads(frozenset())
    triads.take(A, 0)
    triads.set_dead_boards(frozenset({(*A, 1), (*A, 2)}))
    assert triads.take_any() is None
    triads.set_dead_boards(frozenset({(*A, 1)}))
    assert triads.boards_left(A) == [2]
    assert triads.take_any() == (*A, 2)


def test_opening_a_triad_takes_its_lowest_working_board() -> None:
    triads = SharedTriads(frozenset({(*A, 0), (*B, 0), (*B, 1)}))
    assert triads.open_triad(A) == (*A, 1)
    assert triads.open_triad(B) == (*B, 2)
    assert [triads.take_any() for _ in range(2)] == [(*A, 2), None]
