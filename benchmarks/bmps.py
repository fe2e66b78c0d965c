"""Serve simulated BMPs until standard input ends: ``bmps.py NETWORK FRAMES``."""

import sys

from spalloc_server.simulator import BMPSimulator


def hostname(network: int, frame: int) -> str:
    """The loopback address of the BMP of a frame, the same for all releases."""
    return f"127.{network}.{frame // 250}.{1 + frame % 250}"


def main() -> None:
    """Serve, and say when that has begun."""
    network, frames = map(int, sys.argv[1:])
    with BMPSimulator() as simulator:
        for frame in range(frames):
            simulator.add_frame(hostname(network, frame), frame // 5, frame % 5)
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
