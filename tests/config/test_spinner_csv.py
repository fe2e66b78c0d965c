"""Machine descriptions: real ones of SpiNNer's, and broken ones."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spalloc_server.configuration import Machine, board_locations_from_spinner
from spalloc_server.coordinates import board_to_chip


def spinner(count: int, path: Path) -> Path:
    """Have SpiNNer describe a machine."""
    command = Path(sys.executable).with_name("spinner-ethernet-chips")
    with path.open("w") as file:
        subprocess.run([command, "-n", str(count)], stdout=file, check=True)
    return path


@pytest.mark.parametrize(
    ("count", "size", "frames"),
    [
        (3, (1, 1), 1),
        (6, (2, 1), 1),
        (24, (4, 2), 1),
        (600, (20, 10), 25),
        (1200, (20, 20), 50),
    ],
)
def test_real_descriptions(
    tmp_path: Path, count: int, size: tuple[int, int], frames: int
) -> None:
    path = spinner(count, tmp_path / "chips.csv")

    board_locations = board_locations_from_spinner(str(path))
    machine = Machine.with_standard_ips("m", board_locations=board_locations)

    assert len(board_locations) == count
    assert (machine.width, machine.height) == size
    assert len(machine.bmp_ips) == frames
    header, *lines = path.read_text().splitlines()
    assert header == "cabinet,frame,board,x,y"
    assert {tuple(map(int, line.split(","))) for line in lines} == {
        place + board_to_chip(*board) for board, place in board_locations.items()
    }


def test_columns_may_come_in_any_order_with_others_between(tmp_path: Path) -> None:
    path = tmp_path / "chips.csv"
    path.write_text("\ufeffx, y ,note,board,cabinet,frame\r\n8,4,hi,3,1,2\r\n\r\n")

    assert board_locations_from_spinner(path) == {(0, 0, 1): (1, 2, 3)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "",
            ", line 1: there is no column called 'cabinet' or 'frame' or 'board' or "
            "'x' or 'y'",
        ),
        ("cabinet,board,x,y\n", ", line 1: there is no column called 'frame'"),
        ("cabinet,frame,board,x,y\n", ", line 1: there are no boards"),
        (
            "cabinet,frame,board,x,y\n0,0,0,0,0\n0,0,1,8,b\n",
            ", line 3: 'y' should be a number from 0 up, not 'b'",
        ),
        (
            "cabinet,frame,board,x,y\n0,-1,0,0,0\n",
            ", line 2: 'frame' should be a number from 0 up, not '-1'",
        ),
        ("cabinet,frame,board,x,y\n0,0,0,0\n", ", line 2: there is no value for 'y'"),
        (
            "cabinet,frame,board,x,y\n0,0,0,8,8\n",
            ", line 2: (8, 8) are not the coordinates of an Ethernet chip",
        ),
        (
            "cabinet,frame,board,x,y\n0,0,0,4,8\n\n0,0,1,4,8\n",
            ", line 4: the board with Ethernet chip (4, 8) is given twice",
        ),
        (
            "cabinet,frame,board,x,y\n0,1,2,0,0\n0,1,2,4,8\n",
            ", line 3: boards (0, 0, 0) and (0, 0, 2) are both at cabinet 0, frame 1, "
            "board 2",
        ),
        (
            "cabinet,frame,board,x,y\n0,0,0,0," + "0" * 200_000,
            ", line 2: field larger than field limit (131072)",
        ),
    ],
)
def test_descriptions_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "chips.csv"
    path.write_text(text)

    with pytest.raises(ValueError, match=f"^{re.escape(str(path) + message)}$"):
        board_locations_from_spinner(path)


def test_description_that_is_no_text(tmp_path: Path) -> None:
    path = tmp_path / "chips.csv"
    path.write_bytes(b"cabinet,frame,board,x,y\n\xff\xfe\n")

    with pytest.raises(ValueError, match=r"chips\.csv: not a text file in UTF-8$"):
        board_locations_from_spinner(path)


def test_description_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file.*missing\.csv"):
        board_locations_from_spinner(tmp_path / "missing.csv")
