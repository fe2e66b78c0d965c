"""Small machines to describe."""

from typing import Any

from spalloc_server.configuration import Machine

THREE_BOARDS: dict[str, Any] = {
    "name": "m",
    "board_locations": {
        (0, 0, 0): (0, 0, 0),
        (0, 0, 1): (0, 0, 2),
        (0, 0, 2): (0, 1, 5),
    },
    "bmp_ips": {(0, 0): "bmp0", (0, 1): "bmp1"},
    "spinnaker_ips": {(0, 0, 0): "chip0", (0, 0, 1): "chip1", (0, 0, 2): "chip2"},
}


def three_boards(**changes: Any) -> Machine:
    return Machine(**{**THREE_BOARDS, **changes})


def locations(
    width: int, height: int
) -> dict[tuple[int, int, int], tuple[int, int, int]]:
    """Give the boards of a machine places in frames of 24."""
    boards = [(x, y, z) for x in range(width) for y in range(height) for z in range(3)]
    return {board: (0, i // 24, i % 24) for i, board in enumerate(boards)}
