"""The map of faults agrees with looking at every triad."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.links import Links
from spalloc_server.placement.fault_map import FaultMap

coordinates = st.integers(0, 5)
boards = st.tuples(coordinates, coordinates, st.integers(0, 2))
links = st.tuples(coordinates, coordinates, st.integers(0, 2), st.sampled_from(Links))


@given(st.sets(boards), st.sets(links), st.data())
def test_a_rectangle_is_intact_if_no_fault_lies_in_it(
    dead_boards: set[tuple[int, int, int]],
    dead_links: set[tuple[int, int, int, Links]],
    data: st.DataObject,
) -> None:
    faults = FaultMap(6, 6, dead_boards, dead_links)
    x, y = data.draw(coordinates), data.draw(coordinates)
    width, height = data.draw(st.integers(1, 6 - x)), data.draw(st.integers(1, 6 - y))
    inside = [
        fault
        for fault in (*dead_boards, *dead_links)
        if x <= fault[0] < x + width and y <= fault[1] < y + height
    ]
    assert faults.is_intact(x, y, width, height) == (not inside)
