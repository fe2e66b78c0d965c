"""Coordinates of boards and chips, against the manual's table and SpiNNMachine."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from spinn_machine import SpiNNakerTriadGeometry

from spalloc_server.coordinates import (
    WrapAround,
    board_down_link,
    board_to_chip,
    chip_to_board,
    link_to_vector,
    triad_dimensions_to_chips,
)
from spalloc_server.links import Links

SIZES = st.integers(1, 8)


@st.composite
def boards_in_machines(draw: st.DrawFn) -> tuple[int, int, int, int, int]:
    """Make (x, y, z, width, height) of a board in a machine."""
    width, height = draw(SIZES), draw(SIZES)
    x, y = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return x, y, draw(st.integers(0, 2)), width, height


def test_link_to_vector_is_the_established_table() -> None:
    """The table is worked out from SpiNNMachine's geometry; these are its values."""
    east, north_east, north, west, south_west, south = Links
    assert link_to_vector == {
        (0, east): (0, -1, 2),
        (0, north_east): (0, 0, 1),
        (0, north): (0, 0, 2),
        (0, west): (-1, 0, 1),
        (0, south_west): (-1, -1, 2),
        (0, south): (-1, -1, 1),
        (1, east): (1, 0, -1),
        (1, north_east): (1, 0, 1),
        (1, north): (1, 1, -1),
        (1, west): (0, 0, 1),
        (1, south_west): (0, 0, -1),
        (1, south): (0, -1, 1),
        (2, east): (0, 0, -1),
        (2, north_east): (1, 1, -2),
        (2, north): (0, 1, -1),
        (2, west): (0, 1, -2),
        (2, south_west): (-1, 0, -1),
        (2, south): (0, 0, -2),
    }
    for (_, link), vector in link_to_vector.items():
        assert isinstance(link, Links)
        assert isinstance(vector, tuple)


@pytest.mark.parametrize(
    ("start", "link", "size", "end"),
    [
        ((0, 0, 0), Links.north, (3, 3), (0, 0, 2, WrapAround.none)),
        ((1, 1, 1), Links.north, (3, 3), (2, 2, 0, WrapAround.none)),
        ((0, 1, 0), Links.west, (3, 3), (2, 1, 1, WrapAround.x)),
        ((2, 0, 1), Links.east, (3, 3), (0, 0, 0, WrapAround.x)),
        ((1, 0, 0), Links.east, (3, 3), (1, 2, 2, WrapAround.y)),
        ((1, 2, 2), Links.north, (3, 3), (1, 0, 1, WrapAround.y)),
        ((0, 0, 0), Links.south, (3, 3), (2, 2, 1, WrapAround.both)),
        ((2, 1, 1), Links.north, (3, 2), (0, 0, 0, WrapAround.both)),
        # In narrow machines a board reaches itself and its neighbours both ways.
        ((0, 0, 0), Links.west, (1, 1), (0, 0, 1, WrapAround.x)),
        ((0, 0, 0), Links.north_east, (1, 1), (0, 0, 1, WrapAround.none)),
        ((0, 0, 0), Links.south_west, (1, 2), (0, 1, 2, WrapAround.both)),
        ((0, 1, 0), Links.south_west, (1, 2), (0, 0, 2, WrapAround.x)),
        ((1, 0, 2), Links.north_east, (2, 1), (0, 0, 0, WrapAround.both)),
    ],
)
def test_board_down_link(
    start: tuple[int, int, int],
    link: Links,
    size: tuple[int, int],
    end: tuple[int, int, int, WrapAround],
) -> None:
    found = board_down_link(*start, link, *size)

    assert found == end
    assert isinstance(found[3], WrapAround)


@given(boards_in_machines(), st.sampled_from(Links))
def test_going_back_by_the_opposite_link(
    board: tuple[int, int, int, int, int], link: Links
) -> None:
    x, y, z, width, height = board

    there = board_down_link(x, y, z, link, width, height)
    back = board_down_link(*there[:3], link.opposite, width, height)

    assert back == (x, y, z, there[3])


@given(boards_in_machines(), st.sampled_from(Links))
def test_every_chip_agrees_on_the_board_down_a_link(
    board: tuple[int, int, int, int, int], link: Links
) -> None:
    """An edge's worth of chips is linked to the board that the link leads to."""
    x, y, z, width, height = board
    w, h = triad_dimensions_to_chips(width, height, WrapAround.both)
    dx, dy = link.to_vector()
    chips = [
        (chip_x, chip_y)
        for chip_x in range(w)
        for chip_y in range(h)
        if chip_to_board(chip_x, chip_y, w, h) == (x, y, z)
    ]
    assert len(chips) == 48

    neighbours = [chip_to_board(cx + dx, cy + dy, w, h) for cx, cy in chips]

    # The chips along the edge have this link across it, all others go elsewhere by it.
    target = board_down_link(x, y, z, link, width, height)[:3]
    assert neighbours.count(target) >= 4


@pytest.mark.parametrize(("z", "link"), [(3, Links.north), (-1, Links.north), (0, 6)])
def test_no_board_down_no_link(z: int, link: Links) -> None:
    with pytest.raises(KeyError):
        board_down_link(0, 0, z, link, 2, 2)


def test_board_to_chip() -> None:
    assert [board_to_chip(0, 0, z) for z in range(3)] == [(0, 0), (8, 4), (4, 8)]
    assert board_to_chip(2, 3, 1) == (32, 40)


@pytest.mark.parametrize("z", [-1, 3])
def test_board_to_chip_knows_three_boards_a_triad(z: int) -> None:
    with pytest.raises(ValueError, match=rf"board \(1, 2, {z}\): z must be 0, 1 or 2"):
        board_to_chip(1, 2, z)


@given(boards_in_machines(), st.sampled_from(WrapAround))
def test_ethernet_chip_is_on_its_board(
    board: tuple[int, int, int, int, int], torus: WrapAround
) -> None:
    x, y, z, width, height = board
    w, h = triad_dimensions_to_chips(width, height, torus)

    assert chip_to_board(*board_to_chip(x, y, z), w, h) == (x, y, z)


@given(SIZES, SIZES, st.data())
def test_chip_to_board_agrees_with_spinnmachine(
    width: int, height: int, data: st.DataObject
) -> None:
    w, h = triad_dimensions_to_chips(width, height, WrapAround.both)
    x = data.draw(st.integers(0, w - 1))
    y = data.draw(st.integers(0, h - 1))
    geometry = SpiNNakerTriadGeometry.get_spinn5_geometry()

    ethernet_chip = board_to_chip(*chip_to_board(x, y, w, h))

    assert ethernet_chip == geometry.get_ethernet_chip_coordinates(x, y, w, h)


@given(SIZES, SIZES, st.sampled_from(WrapAround))
def test_every_board_has_its_48_chips(
    width: int, height: int, torus: WrapAround
) -> None:
    width, height = min(width, 3), min(height, 3)
    w, h = triad_dimensions_to_chips(width, height, torus)
    chips: dict[tuple[int, int, int], int] = {}
    for x in range(w):
        for y in range(h):
            try:
                board = chip_to_board(x, y, w, h)
            except ValueError:
                continue
            chips[board] = chips.get(board, 0) + 1

    assert chips == {
        (x, y, z): 48 for x in range(width) for y in range(height) for z in range(3)
    }


def test_chip_to_board_around_the_edges_of_a_torus() -> None:
    assert chip_to_board(0, 4, 36, 24) == (2, 0, 1)
    assert chip_to_board(5, 0, 36, 24) == (0, 1, 2)
    assert chip_to_board(36, 24, 36, 24) == (0, 0, 0)
    assert chip_to_board(-1, -1, 36, 24) == chip_to_board(35, 23, 36, 24)


@pytest.mark.parametrize(
    ("x", "y"), [(0, 4), (5, 0), (15, 3), (0, 12), (12, 0), (16, 8), (-1, 0), (0, -1)]
)
def test_no_board_there_where_nothing_wraps(x: int, y: int) -> None:
    message = rf"chip \({x}, {y}\) is on no board of 16 x 16 chips"
    with pytest.raises(ValueError, match=message):
        chip_to_board(x, y, 16, 16)


def test_chip_of_a_single_board() -> None:
    assert chip_to_board(7, 7, 8, 8) == (0, 0, 0)
    with pytest.raises(ValueError, match=r"chip \(7, 0\) is on no board"):
        chip_to_board(7, 0, 8, 8)


@pytest.mark.parametrize(("w", "h"), [(0, 12), (12, 0), (-12, 12)])
def test_no_network_no_board(w: int, h: int) -> None:
    with pytest.raises(ValueError, match=f"{w} x {h} chips has no boards"):
        chip_to_board(0, 0, w, h)


@pytest.mark.parametrize(
    ("torus", "chips"),
    [
        (WrapAround.none, (28, 40)),
        (WrapAround.x, (24, 40)),
        (WrapAround.y, (28, 36)),
        (WrapAround.both, (24, 36)),
    ],
)
def test_triad_dimensions_to_chips(torus: WrapAround, chips: tuple[int, int]) -> None:
    assert triad_dimensions_to_chips(2, 3, torus) == chips


def test_wrap_around_is_a_set_of_axes() -> None:
    assert [int(wrap) for wrap in WrapAround] == [0, 1, 2, 3]
    assert not WrapAround.none
    assert WrapAround.x
    assert WrapAround.y
    assert WrapAround.both
    assert WrapAround.both & WrapAround.x
    assert WrapAround.both & WrapAround.y
    assert not WrapAround.x & WrapAround.y
