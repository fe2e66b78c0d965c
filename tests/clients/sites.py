"""The machines of the rounds, and what any client should be told about them.

What is expected is worked out from the CSV file of the real ``spinner-ethernet-chips``
and the rule of the standard IPs alone, by nothing of the server's own code.
"""

import csv
import subprocess
import sys
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import NamedTuple

Board = tuple[int, int, int]

_CHIP_OF_BOARD = {0: (0, 0), 1: (8, 4), 2: (4, 8)}
"""Where in its triad of 12 x 12 chips the Ethernet chip of a board is, by z."""


class Place(NamedTuple):
    """Where one board is, in every way a client may ask."""

    board: Board
    physical: tuple[int, int, int]
    """Cabinet, frame, board"""
    chip: tuple[int, int]
    """Its Ethernet chip, if the whole machine were booted as one"""
    hostname: str


class Style(NamedTuple):
    """A request as it is typed, and what has to come of it."""

    arguments: tuple[str, ...]
    boards: int
    width: int
    height: int


@dataclass(frozen=True)
class Site:
    """One machine that a server runs, alone."""

    name: str
    config: str
    """The text of the server's config file"""
    places: dict[Board, Place]
    some: int
    """How many boards the jobs of the round ask for"""
    styles: tuple[Style, ...]
    """Every way to ask"""
    example: Board
    """A board that is asked for by its position"""

    @property
    def size(self) -> int:
        """How many boards there are."""
        return len(self.places)

    def connections(self, boards: list[list[int]]) -> dict[tuple[int, int], str]:
        """Return the Ethernet chips of a job with these boards, and their hostnames."""
        places = [self.places[x, y, z] for x, y, z in boards]
        # A block of triads starts with its bottom-left triad's board 0.
        left = min(place.chip[0] for place in places)
        bottom = min(place.chip[1] for place in places)
        return {
            (place.chip[0] - left, place.chip[1] - bottom): place.hostname
            for place in places
        }


def million_cores(folder: Path) -> Site:
    """Describe 1,200 boards in 50 frames, 20 x 20 triads."""
    name = "million-core-machine"
    csv_file = _spinner_csv(1200, folder)
    return Site(
        name=name,
        config=_standard_ips_config(name, csv_file, "10.2.0.0"),
        places=_places(csv_file, IPv4Address("10.2.0.0")),
        some=3,
        styles=(
            Style((), 1, 8, 8),
            Style(("3",), 3, 16, 16),
            # 20 x 10 triads reach from side to side, so 240 chips wrap around.
            Style(("600",), 600, 240, 124),
            Style(("4", "2"), 24, 52, 28),
            Style(("3", "4", "0", "--machine", name), 1, 8, 8),
        ),
        example=(3, 4, 0),
    )


def one_frame(folder: Path) -> Site:
    """Describe one frame of 24 boards, 4 x 2 triads."""
    name = "one-frame-machine"
    csv_file = _spinner_csv(24, folder)
    return Site(
        name=name,
        config=_standard_ips_config(name, csv_file, "10.3.0.0"),
        places=_places(csv_file, IPv4Address("10.3.0.0")),
        some=3,
        styles=(
            Style((), 1, 8, 8),
            Style(("3",), 3, 16, 16),
            Style(("12",), 12, 28, 24),
            Style(("4", "2", "--require-torus"), 24, 48, 24),
            Style(("3", "1", "0", "--machine", name), 1, 8, 8),
        ),
        example=(3, 1, 0),
    )


def single_board() -> Site:
    """Describe a board on a desk."""
    name = "board-on-a-desk"
    machine = (
        f"Machine.single_board({name!r}, bmp_ip='10.4.0.0', spinnaker_ip='10.4.0.1')"
    )
    return Site(
        name=name,
        config=_config(machine),
        places={(0, 0, 0): Place((0, 0, 0), (0, 0, 0), (0, 0), "10.4.0.1")},
        some=1,
        styles=(
            Style((), 1, 8, 8),
            Style(("1",), 1, 8, 8),
            Style(("0", "0", "0", "--machine", name), 1, 8, 8),
        ),
        example=(0, 0, 0),
    )


def _spinner_csv(boards: int, folder: Path) -> Path:
    """Have the real program describe a machine, as the README says."""
    program = Path(sys.executable).with_name("spinner-ethernet-chips")
    csv_file = folder / f"ethernet_chips_{boards}.csv"
    with csv_file.open("w") as output:
        subprocess.run(
            [program, "-n", str(boards)], stdout=output, check=True, timeout=60
        )
    return csv_file


def _places(csv_file: Path, base_ip: IPv4Address) -> dict[Board, Place]:
    """Read where everything is from a CSV file of SpiNNer's."""
    places = {}
    with csv_file.open() as lines:
        for row in csv.DictReader(lines):
            cabinet, frame, board = (int(row[c]) for c in ("cabinet", "frame", "board"))
            chip_x, chip_y = int(row["x"]), int(row["y"])
            (z,) = (
                z
                for z, chip in _CHIP_OF_BOARD.items()
                if chip == (chip_x % 12, chip_y % 12)
            )
            position = (chip_x // 12, chip_y // 12, z)
            offset = cabinet * (5 << 8) + frame * (1 << 8) + board * 8 + 1
            places[position] = Place(
                position,
                (cabinet, frame, board),
                (chip_x, chip_y),
                str(base_ip + offset),
            )
    return places


def _standard_ips_config(name: str, csv_file: Path, base_ip: str) -> str:
    """Return a config of a machine whose description is in a CSV file."""
    return _config(
        f"Machine.with_standard_ips({name!r}, base_ip={base_ip!r},"
        f" board_locations=board_locations_from_spinner({str(csv_file)!r}))"
    )


def _config(machine: str) -> str:
    """Return a config that gives boards to the next job without a rest."""
    return (
        "configuration = Configuration(\n"
        f"    machines=[{machine}],\n"
        '    ip="127.0.0.1",\n'
        "    seconds_before_free=0,\n"
        "    timeout_check_interval=0.1,\n"
        ")\n"
    )
