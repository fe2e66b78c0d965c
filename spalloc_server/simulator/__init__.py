"""Simulated BMPs and chips: real SCP over real UDP, on the loopback interface only.

For trying the server without hardware (``spalloc_server --simulate``) and for tests,
which can make it fail in the ways of real hardware: see `Faults`. The chips themselves
(`chip_simulator`) are left out here: they run in a process of their own.
"""

from spalloc_server.simulator.chip_process import ChipProcess
from spalloc_server.simulator.frame import ReceivedCommand, SimulatedFrame
from spalloc_server.simulator.injected_faults import Faults
from spalloc_server.simulator.scp import Command, Result
from spalloc_server.simulator.simulator import BMPSimulator

__all__ = [
    "BMPSimulator",
    "ChipProcess",
    "Command",
    "Faults",
    "ReceivedCommand",
    "Result",
    "SimulatedFrame",
]
