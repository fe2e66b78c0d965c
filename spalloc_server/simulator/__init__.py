"""Simulated BMPs: real SCP over real UDP, on the loopback interface only.

For trying the server without hardware (``spalloc_server --simulate``) and for tests,
which can make it fail in the ways of real hardware: see `Faults`.
"""

from spalloc_server.simulator.frame import ReceivedCommand, SimulatedFrame
from spalloc_server.simulator.injected_faults import Faults
from spalloc_server.simulator.scp import Command, Result
from spalloc_server.simulator.simulator import BMPSimulator

__all__ = [
    "BMPSimulator",
    "Command",
    "Faults",
    "ReceivedCommand",
    "Result",
    "SimulatedFrame",
]
