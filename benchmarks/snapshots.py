"""How long a client waits while the server writes a snapshot of its state.

One client calls ``get_job_state`` and ``job_keepalive`` by turns, as fast as it can;
its longest call counts. Snapshots are written when this program asks for them, in the
way in which they are otherwise written when the journal has grown long.
"""

import contextlib
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final
from unittest import mock

from benchmarks.environments import FOLDER, Release
from benchmarks.results import Row, row
from benchmarks.servers import Client, Server, config_text, encode, free_port
from spalloc_server.controller import Controller
from spalloc_server.server import main as server_main
from spalloc_server.storage.store import StateStore

GROUP: Final = "Snapshots"

FULL: Final = (11_000, 100_000)
SHORT: Final = (100, 300)
"""How many jobs are queued."""

SNAPSHOTS: Final = 3
"""How many are written; the longest call of all counts."""

SIDE: Final = 8


def measure(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """Measure this server; the reference writes its state only at the end."""
    (release,) = (release for release in releases if not release.is_reference)
    for jobs in SHORT if short else FULL:
        size = f"{jobs:,} jobs"
        with _running(release) as (server, snapshot):
            for what, value in _figures(server, jobs, snapshot):
                unit = "s" if what == "a snapshot" else "ms"
                yield row(GROUP, what, size, unit, {release.name: value})


def _figures(
    server: Server, jobs: int, snapshot: Callable[[], threading.Event]
) -> Iterator[tuple[str, float]]:
    with server.client() as client:
        whole = encode("create_job", SIDE, SIDE, owner="me", keepalive=None)
        single = encode("create_job", owner="me", keepalive=None)
        # In the way of all that come after it.
        client.call_many([whole])
        client.wait_for_power()
        queued = client.call_many([single] * jobs)
        middle = queued[len(queued) // 2]
        took, longest = 0.0, 0.0
        for _ in range(SNAPSHOTS):
            # A change, so that there is something to store.
            client.call("power_off_job_boards", middle)
            began = time.perf_counter()
            longest = max(longest, _longest_call(client, middle, snapshot().is_set))
            took = max(took, time.perf_counter() - began)
        end = time.perf_counter() + SNAPSHOTS * took
        usual = _longest_call(client, middle, lambda: time.perf_counter() > end)
        yield "a snapshot", took
        yield "longest call while snapshots are written", 1e3 * longest
        yield "longest call in the same time without", 1e3 * usual


def _longest_call(client: Client, job_id: int, is_over: Callable[[], bool]) -> float:
    """Call all the time until something is over; seconds of the longest call."""
    commands = [encode(c, job_id) for c in ("get_job_state", "job_keepalive")]
    longest = 0.0
    while not is_over():
        for command in commands:
            began = time.perf_counter()
            client.send(command)
            client.reply()
            longest = max(longest, time.perf_counter() - began)
    return longest


@contextlib.contextmanager
def _running(
    release: Release,
) -> Iterator[tuple[Server, Callable[[], threading.Event]]]:
    """A server, and what asks it for a snapshot and tells when that is written."""
    with tempfile.TemporaryDirectory(prefix="spalloc-bench-") as folder:
        config = Path(folder) / "config.py"
        config.write_text(config_text(SIDE, 1, 30.0))
        process = subprocess.Popen(
            [release.python, "-m", "benchmarks.snapshots", str(config)],
            cwd=FOLDER,
            env=release.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        asking, telling = process.stdin, process.stdout

        def snapshot() -> threading.Event:
            written = threading.Event()

            def wait() -> None:
                telling.readline()
                written.set()

            asking.write(b"\n")
            asking.flush()
            threading.Thread(target=wait, daemon=True).start()
            return written

        try:
            server = Server(process, int(telling.readline()))
            server.wait_until_it_answers()
            yield server, snapshot
        finally:
            process.kill()
            process.wait()
            asking.close()
            telling.close()


# The server's side


class _OnDemand(StateStore):
    """Writes a snapshot for each line of standard input, and prints one after it."""

    def open(self, controller: Controller) -> None:
        """Begin to be asked."""
        self._asked = False
        super().open(controller)
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for _ in sys.stdin:
            self._asked = True

    def commit_events(self, controller: Controller) -> None:
        """Do what is asked, too."""
        was_busy = self.snapshots.is_working
        if self._asked:
            self._asked = False
            self.snapshots.request()
        super().commit_events(controller)
        if was_busy and not self.snapshots.is_working:
            print("written", flush=True)


def _serve(config: str) -> int:
    """Be the server."""
    port = free_port()
    print(port, flush=True)
    with mock.patch("spalloc_server.service.base_server.StateStore", _OnDemand):
        return server_main([config, "--simulate", "--quiet", "--port", str(port)])


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1]))
