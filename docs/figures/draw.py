"""Draw the figures of the coordinate systems: ``python docs/figures/draw.py``.

Writes the SVG files beside it, which are committed; a test holds them to what this
draws. All that has to do with the shape of boards is asked of the package. Places in
a figure are complex numbers, the imaginary axis upwards.
"""

from cmath import rect
from collections.abc import Callable, Iterable
from math import radians, sqrt
from pathlib import Path

from spalloc_server.coordinates import (
    Board,
    Chip,
    WrapAround,
    board_down_link,
    board_to_chip,
    chip_to_board,
    triad_dimensions_to_chips,
)
from spalloc_server.links import Links

FOLDER = Path(__file__).resolve().parent

# One colour for each z, light enough for dark text on it.
FILLS = ("#f6c7a8", "#b9d8f2", "#c9e6b8")
FADED = "#f1f1f1"
WHITE = "#ffffff"
INK = "#22303c"
PALE_INK = "#6c7983"
STRONG = "#b3261e"


def polar(distance: float, degrees: float) -> complex:
    """Return the point at a distance from the origin, anticlockwise from the right."""
    return rect(distance, radians(degrees))


class Figure:
    """Shapes and words, and the smallest picture that holds them all."""

    def __init__(self, title: str) -> None:
        """Start an empty figure; the title is for readers who cannot see it."""
        self._title = title
        self._parts: list[str] = []
        self._corners: list[complex] = []

    def polygon(
        self,
        points: Iterable[complex],
        fill: str,
        stroke: str = INK,
        width: float = 1.0,
    ) -> None:
        """Draw a filled outline."""
        corners = list(points)
        self._corners += corners
        path = " ".join(f"{p.real:.1f},{-p.imag:.1f}" for p in corners)
        self._parts.append(
            f'<polygon points="{path}" fill="{fill}" stroke="{stroke}" '
            f'stroke-width="{width:g}" stroke-linejoin="round"/>'
        )

    def box(
        self,
        corner: complex,
        size: complex,
        fill: str,
        stroke: str = INK,
        width: float = 1,
    ) -> None:
        """Draw a rectangle, of this width and height, from its bottom-left corner."""
        right, up = size.real, 1j * size.imag
        corners = [corner, corner + right, corner + right + up, corner + up]
        self.polygon(corners, fill, stroke, width)

    def text(
        self,
        place: complex,
        words: str,
        size: float = 14,
        ink: str = INK,
        bold: bool = False,
    ) -> None:
        """Write words around a place."""
        extent = complex(len(words) * size * 0.3, size / 2)
        self._corners += [place - extent, place + extent]
        weight = ' font-weight="bold"' if bold else ""
        self._parts.append(
            f'<text x="{place.real:.1f}" y="{-place.imag + size * 0.35:.1f}" '
            f'font-size="{size:g}" fill="{ink}" text-anchor="middle"{weight}>'
            f"{words}</text>"
        )

    def arrow(
        self, start: complex, end: complex, ink: str = INK, width: float = 2.0
    ) -> None:
        """Draw a line with a head at its end."""
        along = (end - start) / abs(end - start)
        neck = end - 9 * along
        self._parts.append(
            f'<line x1="{start.real:.1f}" y1="{-start.imag:.1f}" '
            f'x2="{neck.real:.1f}" y2="{-neck.imag:.1f}" '
            f'stroke="{ink}" stroke-width="{width:g}"/>'
        )
        self._corners.append(start)
        self.polygon([end, neck + 5j * along, neck - 5j * along], ink, ink)

    def svg(self) -> str:
        """Return the whole figure as the text of an SVG file."""
        margin = 16
        left = min(p.real for p in self._corners) - margin
        right = max(p.real for p in self._corners) + margin
        top = -max(p.imag for p in self._corners) - margin
        bottom = -min(p.imag for p in self._corners) + margin
        width, height = right - left, bottom - top
        return "\n".join(
            [
                '<svg xmlns="http://www.w3.org/2000/svg" role="img" '
                f'width="{width:.0f}" height="{height:.0f}" '
                f'viewBox="{left:.1f} {top:.1f} {width:.1f} {height:.1f}" '
                'font-family="Helvetica, Arial, sans-serif">',
                f"<title>{self._title}</title>",
                # Its own background, so that it can be read on a dark page, too.
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}" fill="{WHITE}"/>',
                *self._parts,
                "</svg>",
                "",
            ]
        )


def chips_of_a_board() -> list[Chip]:
    """Return the chips of a board, relative to its Ethernet chip."""
    width, height = triad_dimensions_to_chips(1, 1, WrapAround.both)
    board = (1, 1, 0)
    x0, y0 = board_to_chip(*board)
    return [
        (x - x0, y - y0)
        # In a machine so large that the board is not wrapped around its edges.
        for x in range(4 * width)
        for y in range(4 * height)
        if chip_to_board(x, y, 4 * width, 4 * height) == board
    ]


class Plane:
    """Where the chips and boards of a machine are drawn.

    The six links of a chip leave at 60 degrees from one another, which makes a board
    the regular hexagon that it is.
    """

    def __init__(self, pitch: float) -> None:
        """Chips are drawn this far apart."""
        self._pitch = pitch
        self._chips = chips_of_a_board()

    def chip(self, x: float, y: float) -> complex:
        """Return the middle of a chip."""
        return polar(self._pitch * x, 0) + polar(self._pitch * y, 120)

    def chip_outline(self, x: float, y: float) -> list[complex]:
        """Return the corners of a chip's own small hexagon."""
        radius = self._pitch / sqrt(3)
        return [self.chip(x, y) + polar(radius, 30 + 60 * i) for i in range(6)]

    def board_chips(self, board: Board) -> list[Chip]:
        """Return the chips of a board, the Ethernet chip first."""
        x, y = board_to_chip(*board)
        return [(x + dx, y + dy) for dx, dy in self._chips]

    def board(self, board: Board) -> complex:
        """Return the middle of a board."""
        chips = [self.chip(*chip) for chip in self.board_chips(board)]
        return sum(chips) / len(chips)

    def board_outline(self, board: Board) -> list[complex]:
        """Return the corners of a board's hexagon."""
        x, y, z, _ = board_down_link(1, 1, 0, Links.north, 4, 4)
        edge = abs(self.board((x, y, z)) - self.board((1, 1, 0))) / sqrt(3)
        return [self.board(board) + polar(edge, 60 * i) for i in range(6)]


def label(board: Board) -> str:
    """Return board coordinates as they stand in the figures."""
    return ", ".join(map(str, board))


def triad() -> Figure:
    """Draw the boards of one triad with all of their chips."""
    figure = Figure("The three boards of a triad and their chips")
    plane = Plane(pitch=26)
    for z, fill in enumerate(FILLS):
        ethernet = board_to_chip(0, 0, z)
        for chip in plane.board_chips((0, 0, z)):
            colour = INK if chip == ethernet else fill
            figure.polygon(plane.chip_outline(*chip), colour, WHITE, 1.5)
        figure.text(plane.chip(*ethernet), "E", 12, WHITE, bold=True)
        figure.text(plane.board((0, 0, z)) + 12j, f"z = {z}", 30, bold=True)
        figure.text(plane.board((0, 0, z)) - 20j, f"E is chip {ethernet}", 15)
    return figure


def triads() -> Figure:
    """Draw how triads make a machine."""
    figure = Figure("The boards of a machine of 3 x 2 triads")
    plane = Plane(pitch=11)
    for x in range(3):
        for y in range(2):
            for z, fill in enumerate(FILLS):
                board = (x, y, z)
                figure.polygon(plane.board_outline(board), fill, width=1.2)
                figure.text(plane.board(board), label(board), 15)
    # The axes start left of and below board (0, 0, 0).
    origin = plane.board((0, 0, 0)) - 70 - 60j
    for name, direction in (("x", 0), ("y", 120)):
        end = origin + polar(300, direction)
        figure.arrow(origin, end, STRONG)
        figure.text(end + polar(18, direction), name, 20, STRONG, bold=True)
    return figure


def links() -> Figure:
    """Draw the six links of a board and the boards that they lead to."""
    figure = Figure("Board (1, 1, 0) and the boards that its six links lead to")
    plane = Plane(pitch=17)
    board = (1, 1, 0)
    middle = plane.board(board)
    neighbours = {}
    for link in Links:
        x, y, z, _ = board_down_link(*board, link, 4, 4)
        neighbours[link] = (x, y, z)
        figure.polygon(plane.board_outline((x, y, z)), FADED, PALE_INK)
    figure.polygon(plane.board_outline(board), FILLS[board[2]], width=1.6)
    figure.text(middle, label(board), 15, bold=True)
    for link, neighbour in neighbours.items():
        way = plane.board(neighbour) - middle
        figure.arrow(middle + 0.3 * way, middle + 0.66 * way)
        place = middle + 1.08 * way
        figure.text(place + 8j, f"{link.name} {link.value}", 13, bold=True)
        figure.text(place - 9j, label(neighbour), 13, PALE_INK)
    return figure


def cabinets() -> Figure:
    """Draw how cabinets, frames and boards are counted."""
    figure = Figure("Three cabinets of five frames, and one frame of 24 boards")
    count, frames, boards = 3, 5, 24
    frame, gap = 150 + 40j, 12
    inside = frames * (frame.imag + gap) + gap
    distance = frame.real + 4 * gap
    for cabinet in range(count):
        left = (count - 1 - cabinet) * distance
        figure.box(left, complex(frame.real + 2 * gap, inside), WHITE, width=2)
        above = left + gap + frame.real / 2 + 1j * (inside + 16)
        figure.text(above, f"cabinet {cabinet}", 14, bold=True)
        for number in range(frames):
            corner = left + gap + 1j * (inside - (number + 1) * (frame.imag + gap))
            shown_below = (cabinet, number) == (0, 0)
            figure.box(corner, frame, FILLS[1] if shown_below else FADED)
            figure.text(corner + frame / 2, f"frame {number}", 13)
    slot = complex((count * distance - 4 * gap) / boards, 90)
    corner = complex(0, -slot.imag - 2 * gap - 60)
    whole = complex(boards * slot.real, slot.imag) + complex(2 * gap, 2 * gap)
    figure.box(corner, whole, FILLS[1])
    above = corner + complex(whole.real / 2, whole.imag + 16)
    figure.text(above, "the boards of frame 0 in cabinet 0", 14, bold=True)
    for board in range(boards):
        place = corner + complex(gap, gap) + (boards - 1 - board) * slot.real
        figure.box(place + 2, slot - 4, WHITE)
        figure.text(place + complex(slot.real / 2, slot.imag - 14), f"{board}", 12)
    return figure


def architecture() -> Figure:
    """Draw the threads of the server, and what crosses between them."""
    figure = Figure("The parts of the server, and what goes from one to the other")

    def part(place: complex, size: complex, fill: str, name: str, *words: str) -> None:
        figure.box(place - size / 2, size, fill, width=1.5)
        top = place + 1j * (9 * len(words))
        figure.text(top, name, 15, bold=True)
        for i, line in enumerate(words, 1):
            figure.text(top - 19j * i, line, 12)

    def way(start: complex, end: complex, words: str, beside: complex = 0) -> None:
        figure.arrow(start, end)
        figure.text((start + end) / 2 + beside, words, 12, PALE_INK)

    wide = 230 + 84j
    loop = ("polling_server_core, base_server", "clients, connection, commands")
    part(0 + 330j, wide, WHITE, "clients", "spalloc, other programs")
    part(0 + 180j, wide, FILLS[1], "the loop: one thread", *loop)
    part(0 + 30j, wide, FILLS[2], "controller", "job_queue, allocator, pack_tree")
    frames = ("async_bmp_controller", "bmp_schedule, bmp_transceiver")
    part(0 - 120j, wide, FILLS[0], "one thread for each frame", *frames)
    part(0 - 270j, wide, WHITE, "BMPs", "or the simulator")
    part(-390 + 180j, wide, FADED, "state on the disk", "journal and snapshots")
    part(390 + 180j, wide, FILLS[1], "web: one thread", "feed, app, metrics")
    part(390 + 330j, wide, WHITE, "browsers, Prometheus")
    part(390 + 30j, wide, FILLS[1], "history: one thread", "job_log, job_histories")
    part(-390 + 30j, wide, WHITE, "systemd", "ready, reloading, watchdog")
    way(286j, 224j, "commands, replies: TCP", 95)
    way(136j, 74j, "calls, under one lock", 90)
    way(-14j, -76j, "requests; results come back", 105)
    way(-164j, -226j, "SCP: UDP", 48)
    way(-117 + 180j, -273 + 180j, "before replies", 14j)
    way(117 + 180j, 273 + 180j, "snapshots, if asked", 14j)
    way(390 + 224j, 390 + 286j, "HTTP", 34)
    way(117 + 30j, 273 + 30j, "events, by a queue", 14j)
    way(-100 + 136j, -275 + 60j, "datagrams", -62 + 4j)
    return figure


FIGURES: dict[str, Callable[[], Figure]] = {
    "architecture.svg": architecture,
    "triad.svg": triad,
    "triads.svg": triads,
    "links.svg": links,
    "cabinets.svg": cabinets,
}


def main() -> None:
    """Write every figure."""
    for name, draw in FIGURES.items():
        (FOLDER / name).write_text(draw().svg(), encoding="utf-8")


if __name__ == "__main__":
    main()
