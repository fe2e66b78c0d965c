"""``--simulate``: what stands in for the hardware, while it does."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from spalloc_server.configuration import Configuration

if TYPE_CHECKING:
    from spalloc_server.simulator import BMPSimulator, ChipProcess


class Prepare:
    """Called with each configuration before the server uses it."""

    def __init__(
        self,
        simulator: BMPSimulator | None = None,
        chips: ChipProcess | None = None,
    ) -> None:
        self.simulator = simulator
        """What stands in for the BMPs, if anything does."""
        self._chips = chips

    def __call__(self, configuration: Configuration) -> None:
        """Have BMPs and chips simulated, if they are to be.

        :raises OSError: if that cannot be
        """
        if self.simulator is not None:
            self.simulator.serve(configuration)
        if self._chips is not None:
            self._chips.serve(configuration)


@contextlib.contextmanager
def simulation(with_chips: bool = False) -> Iterator[Prepare]:
    """Simulate the BMPs of all configurations, and of all others that are asked for.

    Others are asked for by saved state, whose machines a configuration may lack.

    :param with_chips: simulate chips too?
    """
    # It is not for those who have hardware.
    from spalloc_server.hardware import directory
    from spalloc_server.hardware.directory import BMPAddress
    from spalloc_server.simulator import BMPSimulator, ChipProcess

    chips = ChipProcess() if with_chips else None
    switch = None if chips is None else chips.switch
    with BMPSimulator(switch) as simulator:

        def serve(hostname: str) -> BMPAddress:
            with contextlib.suppress(ValueError):  # another thread was faster
                simulator.add_frame(hostname)
            return BMPAddress(*simulator.address(hostname), 0.0)

        directory.set_fallback(serve)
        try:
            yield Prepare(simulator, chips)
        finally:
            directory.set_fallback(None)
            if chips is not None:
                chips.close()
