"""BMP controllers that keep requests until a test answers them, and machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from spalloc_server.configuration import Machine
from spalloc_server.hardware.requests import AtomicRequests


class RecordedBMP:
    """Stands in for an AsyncBMPController: keeps requests until the test answers."""

    def __init__(
        self, hostname: str, on_thread_start: Callable[[], object] | None = None
    ) -> None:
        self.hostname = hostname
        self.on_thread_start = on_thread_start
        self.requests: list[AtomicRequests] = []
        self.on_answer: Callable[[str | None], object] | None = None
        self.stopped = False
        self.joined = False

    def add_requests(self, requests: AtomicRequests) -> None:
        if self.joined:
            raise RuntimeError(f"{self.hostname} has ended")
        self.requests.append(requests)

    def watch(self, on_answer: Callable[[str | None], object]) -> None:
        self.on_answer = on_answer

    def stop(self) -> None:
        self.stopped = True

    def join(self) -> None:
        self.joined = True


class BMPs:
    """All recorded BMPs that controllers have made."""

    def __init__(self) -> None:
        self.made: list[RecordedBMP] = []

    def make(self, *args: Any) -> RecordedBMP:
        self.made.append(RecordedBMP(*args))
        return self.made[-1]

    def __getitem__(self, hostname: str) -> RecordedBMP:
        """The one made last for a host."""
        return [bmp for bmp in self.made if bmp.hostname == hostname][-1]

    def pending(self) -> list[tuple[str, AtomicRequests]]:
        return [(bmp.hostname, r) for bmp in self.made for r in bmp.requests]

    def answer(self, success: bool = True, reason: str | None = None) -> None:
        """Answer all requests made so far, and those that these lead to."""
        while self.pending():
            for bmp in self.made:
                if bmp.requests:
                    bmp.requests.pop(0).on_done(success, reason)


def machine(
    name: str = "m", width: int = 1, height: int = 1, **options: Any
) -> Machine:
    """A machine with a frame for each column of triads."""
    triads = [(x, y) for x in range(width) for y in range(height)]
    return Machine(
        name,
        width=width,
        height=height,
        board_locations={
            (x, y, z): (0, x, 3 * y + z) for x, y in triads for z in range(3)
        },
        bmp_ips={(0, x): f"bmp-{name}-{x}" for x in range(width)},
        spinnaker_ips={
            (x, y, z): f"board-{name}-{x}-{y}-{z}" for x, y in triads for z in range(3)
        },
        **options,
    )
