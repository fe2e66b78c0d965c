"""How long jobs that start together have to wait: ``python -m benchmarks.burst``.

Starts this server from its command line, with the five seconds that boards of real
hardware settle, on simulated frames that take two seconds to power boards on. Prints
how long single-board jobs that are created together take until the last one is ready,
and the ratio of that to the time of one alone.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from tests.hardware_faults.machine_room import open_room, seconds_until_ready

POWER_ON_SECONDS = 2.0


def measure(frames: int, jobs: int) -> float:
    """The seconds until so many jobs on so many frames of 24 boards are ready."""
    with tempfile.TemporaryDirectory() as folder, open_room(Path(folder)) as room:
        room.waits = None
        for frame in room.add(width=frames, height=8):
            frame.power_on_seconds = POWER_ON_SECONDS
        return seconds_until_ready(room.start(), jobs)


def main() -> int:
    """Measure and print."""
    alone = measure(1, 1)
    print("jobs  frames  seconds  ratio")
    print(f"{1:4}  {1:6}  {alone:7.2f}  {1:5.2f}", flush=True)
    for frames, jobs in ((1, 8), (1, 24), (50, 1200)):
        seconds = measure(frames, jobs)
        ratio = seconds / alone
        print(f"{jobs:4}  {frames:6}  {seconds:7.2f}  {ratio:5.2f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
