"""How fast does the gateway carry packets? ``python -m benchmarks.gateway_proxy``.

A real server and a real gateway with TLS; what stands in for a board is a process that
sends back all that it gets. Packets are as long as a read of 256 bytes by SCP. The same
packets straight to that process, without the gateway, are what it is compared to.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import websocket

from tests.gateway.boards import open_proxy
from tests.gateway.support import Place

PAYLOAD: Final = bytes(280)
WINDOW: Final = 128
"""How many packets are under way at a time."""

ROUND_TRIPS: Final = 3000

ECHO: Final = """
import socket
board = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
board.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
board.bind(("127.0.1.1", 0))
print(board.getsockname()[1], flush=True)
buffer = bytearray(4096)
while True:
    size, sender = board.recvfrom_into(buffer)
    board.sendto(memoryview(buffer)[:size], sender)
"""

DIRECT: Final = """
import socket, sys, time
board = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
board.connect(("127.0.1.1", int(sys.argv[1])))
times = []
for _ in range(int(sys.argv[2])):
    began = time.perf_counter()
    board.send(bytes(280))
    board.recv(4096)
    times.append(time.perf_counter() - began)
print(1000 * sorted(times)[len(times) // 2])
"""


def frame_of(payload: bytes) -> bytes:
    """A WebSocket frame as a client sends it, with a mask that changes nothing."""
    size = len(payload)
    return b"\x82" + bytes([0x80 | 126, size >> 8, size & 255]) + bytes(4) + payload


def round_trips(proxy: websocket.WebSocket, message: bytes) -> list[float]:
    """Milliseconds of round trips, one at a time."""
    frame, sock = frame_of(message), proxy.sock
    assert sock is not None
    times = []
    for _ in range(ROUND_TRIPS):
        began = time.perf_counter()
        sock.sendall(frame)
        left = len(message) + 4
        while left:
            left -= len(sock.recv(left))
        times.append(1000 * (time.perf_counter() - began))
    return times


def throughput(
    proxy: websocket.WebSocket, message: bytes, seconds: float
) -> tuple[float, int]:
    """Packets a second each way, and how many are lost, with many under way."""
    frame, sock = frame_of(message), proxy.sock
    assert sock is not None
    size = len(message) + 4
    burst = frame * 16
    sent = heard = 0
    rest = 0
    sock.settimeout(1.0)
    began = time.perf_counter()
    while time.perf_counter() - began < seconds:
        while sent - heard <= WINDOW - 16:
            sock.sendall(burst)
            sent += 16
        try:
            rest += len(sock.recv(65536))
        except TimeoutError:
            break  # the rest is lost
        heard += rest // size
        rest %= size
    rate = heard / (time.perf_counter() - began)
    with contextlib.suppress(TimeoutError):
        while heard < sent:
            rest += len(sock.recv(65536))
            heard += rest // size
            rest %= size
    return rate, sent - heard


def cpu_seconds(pid: int) -> float:
    """How much processor time a process has had."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main(seconds: float, say: Callable[[str], object] = print) -> None:
    """Measure, and print what came of it."""
    with ExitStack() as undo:
        folder = Path(undo.enter_context(tempfile.TemporaryDirectory()))
        place = Place(folder, undo)
        place.start_server()
        place.start_gateway()
        user = place.log_in("me")
        job = user.create(board={"x": 0, "y": 0, "z": 0})
        user.wait_until_ready(job)
        board = subprocess.Popen(
            [sys.executable, "-c", ECHO], stdout=subprocess.PIPE, text=True
        )
        undo.callback(board.wait)
        undo.callback(board.kill)
        assert board.stdout is not None
        port = int(board.stdout.readline())
        proxy = open_proxy(user, job)
        words = (0, 1, 0, 0, port)
        proxy.send_binary(b"".join(n.to_bytes(4, "little") for n in words))
        opened = proxy.recv()
        assert isinstance(opened, bytes)
        message = b"\2\0\0\0" + opened[8:12] + PAYLOAD
        direct = float(
            subprocess.run(
                [sys.executable, "-c", DIRECT, str(port), str(ROUND_TRIPS)],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        times = round_trips(proxy, message)
        median = statistics.median(times)
        worst = statistics.quantiles(times, n=100)[-1]
        say(f"round trip straight to the board   {direct:8.3f} ms at the median")
        say(f"the same through the gateway       {median:8.3f} ms, 99%: {worst:.3f} ms")
        say(f"added                              {median - direct:8.3f} ms")
        before = cpu_seconds(place.gateway.process.pid)
        began = time.perf_counter()
        rate, lost = throughput(proxy, message, seconds)
        used = cpu_seconds(place.gateway.process.pid) - before
        share = 100 * used / (time.perf_counter() - began)
        say(f"packets each way                   {rate:8.0f} a second, lost {lost}")
        say(f"processor of the gateway           {share:8.0f} % of one core")
        proxy.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    main(parser.parse_args().seconds)
