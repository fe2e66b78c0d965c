"""Faults of simulated hardware, with which operators rehearse real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from spalloc_server.admin.places import boards_of
from spalloc_server.hardware.transceiver import FPGAS_PER_BOARD
from spalloc_server.service.arguments import check_number
from spalloc_server.service.base_server import Server
from spalloc_server.service.registry import operator_command, reads
from spalloc_server.wire.connection import Connection

if TYPE_CHECKING:
    from spalloc_server.simulator import Faults


@operator_command
@reads
def fault(
    server: Server,
    _client: Connection,
    machine: str,
    board: list[int] | None = None,
    physical: list[int] | None = None,
    frame: list[int] | None = None,
    silent: bool = False,
    drop: float | None = None,
    fpga: bool = False,
    power: bool = False,
    mend: bool = False,
) -> dict[str, Any]:
    """Break the simulated hardware of a frame or board, or mend all of its frame.

    :return: the BMP, and what is the matter with it from now on
    """
    if server.simulator is None:
        raise ValueError("the hardware is not simulated: see --simulate")
    if board is physical is frame is None:
        raise TypeError("board, physical or frame must be given")
    found = boards_of(
        server.controller, machine, board=board, physical=physical, frame=frame
    )
    described = server.controller.machines[machine]
    cabinet, row, number = described.board_locations[found[0]]
    bmp = described.bmp_ips[cabinet, row]
    faults = server.simulator.frames[bmp].faults
    if mend:
        faults.clear()
    if silent:
        faults.silent = True
    if drop is not None:
        share = check_number("drop", drop)
        if share > 1:
            raise ValueError(f"drop is a share, from 0 to 1, not {drop}")
        faults.dropped_packets = share
    if fpga or power:
        if frame is not None:
            raise TypeError("this is a fault of a board, not of a frame")
        if fpga:
            for each in range(FPGAS_PER_BOARD):
                faults.load_wrong_fpga(number, each)
        else:
            faults.fail_power([number])
    return {"bmp": bmp, "cabinet": cabinet, "frame": row, "state": _describe(faults)}


def _describe(faults: Faults) -> str:
    """What is the matter, in words."""
    matters = []
    if faults.silent:
        matters.append("silent")
    if faults.dropped_packets:
        matters.append(f"loses {faults.dropped_packets:.0%} of all packets")
    for what, boards in faults.boards_at_fault().items():
        numbers = ", ".join(map(str, boards))
        matters.append(f"{what} of boards {numbers}")
    return "; ".join(matters) or "all is well"
