"""Rounds of load, sudden death, restart and checks."""

from __future__ import annotations

import random
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from spalloc_server.simulator import BMPSimulator, SimulatedFrame
from tests.bmp_helpers import loopback_host
from tests.crash.kill_points import AT_START, POINTS, REWRITES
from tests.crash.load import Watcher, Worker
from tests.crash.model import STATE_QUEUED, STATE_READY, Model
from tests.support import TIMEOUT, Client, ServerProcess, wait_until

WORKERS = 4

COOLING_SECONDS = 1.5
"""Longer than a restart takes, so that it goes on after that."""

POWER_ON_SECONDS = 0.02

LONGEST_LOAD = 0.6
"""Seconds from the first command to the latest kill at a random time."""

LONGEST_WAIT_FOR_POINT = 3.0
"""Seconds to wait for a kill point that may never be reached."""

CONFIG = """
configuration = Configuration(
    machines=[
        Machine(
            "m",
            board_locations={{
                (x, y, z): (0, x, 3 * y + z)
                for x in range(4) for y in range(2) for z in range(3)
            }},
            bmp_ips={{(0, x): host for x, host in enumerate({m_hosts})}},
            spinnaker_ips={{
                (x, y, z): f"m-{{x}}-{{y}}-{{z}}"
                for x in range(4) for y in range(2) for z in range(3)
            }},
        ),
        Machine(
            "n",
            board_locations={{(0, 0, z): (0, 0, z) for z in range(3)}},
            bmp_ips={{(0, 0): {n_host!r}}},
            spinnaker_ips={{(0, 0, z): f"n-{{z}}" for z in range(3)}},
        ),
    ],
    ip="127.0.0.1",
    max_retired_jobs=1_000_000,
    seconds_before_free={cooling},
    timeout_check_interval=0.05,
    scheduling={scheduling!r},
    longest_overtaking=0.3,
)
"""


class Hardware:
    """The boards, which live on when the server dies; sees who is rough with them."""

    def __init__(self, simulator: BMPSimulator | None) -> None:
        """Make the frames; without a simulator, the server simulates its own."""
        self.complaints: list[str] = []
        hosts = [
            loopback_host() if simulator else f"10.9.{number}.0" for number in range(5)
        ]
        self.hosts = hosts
        self.frames: list[SimulatedFrame] = []
        self._off_since: dict[tuple[int, int], float] = {}
        if simulator is not None:
            for number, host in enumerate(hosts):
                frame = simulator.add_frame(host)
                frame.power_on_seconds = POWER_ON_SECONDS
                self._watch(number, frame)
                self.frames.append(frame)

    def _watch(self, number: int, frame: SimulatedFrame) -> None:
        """Have boards that are given out too soon after power-off complained about."""
        handle = frame.handle

        def watched(request: Any) -> Any:
            now = time.monotonic()
            before = frame.powered_boards
            known = len(frame.power_commands())
            answer = handle(request)
            for on, boards in frame.power_commands()[known:]:
                for board in boards:
                    if not on and board in before:
                        self._off_since[number, board] = now
                    elif on and board not in before:
                        rest = now - self._off_since.get((number, board), 0.0)
                        if rest < COOLING_SECONDS:
                            self.complaints.append(
                                f"board {board} of frame {number} got {rest:.3f} s"
                            )
            return answer

        frame.handle = watched  # type: ignore[method-assign]

    @staticmethod
    def place(machine: str, board: list[int]) -> tuple[int, int]:
        """The number of the frame, and that of a board in it."""
        x, y, z = board
        return (4, z) if machine == "n" else (x, 3 * y + z)

    def powered(self) -> set[tuple[int, int]]:
        return {
            (number, board)
            for number, frame in enumerate(self.frames)
            for board in frame.powered_boards
        }

    def commanded(self) -> set[tuple[int, int]]:
        """The boards that power commands were about since they were forgotten."""
        return {
            (number, board)
            for number, frame in enumerate(self.frames)
            for _, boards in frame.power_commands()
            for board in boards
        }

    def forget_commands(self) -> None:
        for frame in self.frames:
            frame.forget_received()


class CrashTest:
    """One server's history, with many sudden ends.

    :param simulate: run ``python -m spalloc_server --simulate`` just like that, and
        kill it at random times; else kill it at chosen points, too, and look at what
        becomes of boards that outlive it
    """

    def __init__(
        self,
        folder: Path,
        seed: int,
        simulate: bool,
        stack: ExitStack,
        scheduling: str = "backfill",
    ) -> None:
        self._rng = random.Random(seed)
        self._simulate = simulate
        self.model = Model()
        simulator = None if simulate else stack.enter_context(BMPSimulator())
        self.hardware = Hardware(simulator)
        *m_hosts, n_host = self.hardware.hosts
        self._config_file = folder / "spalloc.cfg"
        self._config = CONFIG.format(
            m_hosts=m_hosts,
            n_host=n_host,
            cooling=COOLING_SECONDS,
            scheduling=scheduling,
        )
        self._config_file.write_text(self._config)
        self.kills: Counter[str] = Counter()
        """How often the server was killed where."""
        self.jobs = 0
        self._stack = stack
        self._at_end = False

    def run(self, kills: int) -> None:
        """Kill the server so often, and check each time that nothing is lost."""
        while self.kills.total() < kills:
            self._round(after_crash=self.kills.total() > 0)
        with self._server() as server:
            self._check(server)
            assert server.stop() == 0, server.log

    @contextmanager
    def _server(
        self, point: str | None = None, times: int = 0, fail: int = 0
    ) -> Iterator[Any]:
        arguments = [str(self._config_file), "--port", "0"]
        if self._simulate:
            server = ServerProcess(self._config_file, ("--simulate", "--port", "0"))
        else:
            kill = ["--kill", point, str(times)] if point else []
            if fail:
                kill += ["--fail", str(fail)]
            server = ServerProcess(
                self._config_file,
                ("--port", "0"),
                command=["tests.crash.kill_points", *kill, "--", *arguments],
            )
        try:
            yield server
            assert "Traceback" not in server.log, server.log
            assert "unreadable" not in server.log, server.log
        finally:
            server.kill()

    def _round(self, after_crash: bool) -> None:
        point, times, fail = None, 0, 0
        if not self._simulate and self._rng.random() < 0.6:
            point = self._rng.choice(sorted(POINTS))
            often = "commit" in point or "events" in point
            times = self._rng.randint(1, 40 if often else 4)
            if point in AT_START | REWRITES:
                times = 1
            if point in REWRITES or self._rng.random() < 0.2:
                fail = self._rng.randint(1, 40)
        if point in REWRITES and self._rng.random() < 0.3:
            # At an orderly end, which does not come to its end.
            self._at_end, fail = True, 0
        else:
            self._at_end = False
        with self._server(point, times, fail) as server:
            try:
                server.wait_until_ready()
            except AssertionError:
                assert server.wait() == -signal.SIGKILL, server.log
                self.kills[f"{point} (at start)"] += 1
                return
            try:
                if after_crash:
                    self._check(server)
                self._load(server, point)
            except OSError:
                # The point was reached earlier than expected, or it is a failure.
                assert server.wait() == -signal.SIGKILL, server.log
            self.kills[self._death(server, point)] += 1

    def _death(self, server: ServerProcess, point: str | None) -> str:
        at_point = server.process.poll() is not None
        server.process.kill()
        assert server.wait() == -signal.SIGKILL, server.log
        return point if at_point and point is not None else "random time"

    def _load(self, server: ServerProcess, point: str | None) -> None:
        """Keep the server busy until it is dead."""
        seeds = [self._rng.random() for _ in range(WORKERS)]
        threads: list[Worker | Watcher] = [Watcher(server.port, self.model)]
        for number, seed in enumerate(seeds):
            rng = random.Random(seed)
            threads.append(
                Worker(
                    f"worker {number}", server.port, self.model, rng, COOLING_SECONDS
                )
            )
        for thread in threads:
            thread.start()
        reload = self._rng.random() < 0.3
        wait = self._rng.uniform(0.0, LONGEST_LOAD)
        if reload and self._wait_for_end(server, wait / 2):
            # Another kind of snapshot.
            self._config_file.write_text(self._config + f"# {time.time_ns()}\n")
            server.process.send_signal(signal.SIGHUP)
        at_point = point and not self._at_end
        self._wait_for_end(server, LONGEST_WAIT_FOR_POINT if at_point else wait)
        if self._at_end:
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(TIMEOUT)
        server.process.kill()
        for thread in threads:
            thread.stopping = True
            thread.join()
        self.hardware.forget_commands()

    @staticmethod
    def _wait_for_end(server: ServerProcess, seconds: float) -> bool:
        """Wait for some time; is the server still there?"""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and server.process.poll() is None:
            time.sleep(0.005)
        return server.process.poll() is None

    def _check(self, server: ServerProcess) -> None:
        """Compare the server with what it said before, and then with the hardware."""
        if not server.port:
            server.wait_until_ready()
        untouched = self.model.untouched()
        with Client(server.port) as client:
            self.model.check(client)
            self.jobs = len(self.model.jobs)
            if not self._simulate:
                self._check_hardware(client)
                left_alone = {
                    self.hardware.place(job.seen["allocated_machine_name"], board)
                    for job in untouched
                    if job.seen is not None
                    for board in job.seen["boards"]
                }
                reset = left_alone & self.hardware.commanded()
                assert not reset, f"boards of jobs that were ready: {reset}"
                assert not self.hardware.complaints, self.hardware.complaints
        self.model.forget_intentions()

    def _check_hardware(self, client: Client) -> None:
        """Wait until boards are on, or off, as jobs say."""

        def settled() -> bool:
            expected = set()
            for job in client.call("list_jobs"):
                if job["state"] not in (STATE_QUEUED, STATE_READY):
                    return False
                if job["power"]:
                    machine = job["allocated_machine_name"]
                    expected |= {
                        self.hardware.place(machine, board) for board in job["boards"]
                    }
            return expected == self.hardware.powered()

        wait_until(settled)
