"""What the process of simulated chips does, which `ChipProcess` has started.

The server itself never reads this module, nor those of the chips.
"""

from __future__ import annotations

import contextlib
import resource
import signal
import sys
from typing import IO

from spalloc_server.simulator.chip_simulator import ChipSimulator


def serve(orders: IO[str]) -> None:
    """Be that process: do as one is told until there is nobody to tell anything.

    :param orders: lines of "on" or "off" and the address of a board
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with ChipSimulator() as simulator:
        for order in orders:
            what, address = order.split()
            try:
                if what == "on":
                    simulator.switch_on(address)
                else:
                    simulator.switch_off(address)
            except OSError as e:
                problem = f"No chips are simulated at {address}: {e.strerror}"
                print(problem, file=sys.stderr, flush=True)
