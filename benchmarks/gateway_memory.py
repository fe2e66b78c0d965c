"""How fast is memory of chips through the gateway? ``python -m
benchmarks.gateway_memory``.

A real gateway with TLS, and a real server that simulates the chips, in a process of
their own. Also told: what the server's other clients notice of it.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.gateway.support import BOARDS, Place
from tests.support import Client


def answer_times(client: Client, stop: threading.Event) -> list[float]:
    """Milliseconds that the server takes to answer, until told to stop."""
    times = []
    while not stop.wait(0.001):
        began = time.perf_counter()
        client.call("version")
        times.append(1000 * (time.perf_counter() - began))
    return times


def main(megabytes: float, say: Callable[[str], object] = print) -> None:
    """Measure, and print what came of it."""
    net = f"127.{random.SystemRandom().randrange(2, 250)}.{os.getpid() % 250}"
    with ExitStack() as undo:
        place = Place(Path(undo.enter_context(tempfile.TemporaryDirectory())), undo)
        place.start_server(BOARDS.replace("127.0.1", net), chips=True)
        place.start_gateway()
        user = place.log_in("me")
        job = user.create(board={"x": 0, "y": 0, "z": 0})
        user.wait_until_ready(job)
        where = {"x": 0, "y": 0, "address": 0x6000_0000}
        data = random.Random(1).randbytes(int(megabytes * 1e6))
        path = f"jobs/{job}/memory"
        stop, times = threading.Event(), list[float]()
        client = place.old_client()
        idle = threading.Timer(1.0, stop.set)
        idle.start()
        say(
            "answer of the server, nothing else to do  "
            f"{statistics.median(answer_times(client, stop)):8.3f} ms at the median"
        )
        stop.clear()
        watching = threading.Thread(
            target=lambda: times.extend(answer_times(client, stop))
        )
        watching.start()
        began = time.perf_counter()
        written = user.ask("POST", path, params=where, data=data)
        write = time.perf_counter() - began
        began = time.perf_counter()
        read = user.ask("GET", path, params={**where, "size": len(data)})
        reading = time.perf_counter() - began
        stop.set()
        watching.join()
        assert (written.status_code, read.status_code) == (202, 200)
        assert read.content == data
        say(
            "the same meanwhile                        "
            f"{statistics.median(times):8.3f} ms at the median, "
            f"99%: {statistics.quantiles(times, n=100)[-1]:.3f} ms"
        )
        say(f"writing                                   {megabytes / write:8.2f} MB/s")
        say(
            f"reading                                   {megabytes / reading:8.2f} MB/s"
        )
        began = time.perf_counter()
        for number in range(50):
            place_of = {**where, "address": where["address"] + 4 * number}
            assert user.ask("POST", path, params=place_of, data=bytes(4)).ok
        one = 1000 * (time.perf_counter() - began) / 50
        say(f"a word, with a connection of its own      {one:8.1f} ms")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=4.0)
    main(parser.parse_args().megabytes)
