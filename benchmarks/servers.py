"""Servers to be measured, with simulated hardware, on this computer only."""

import contextlib
import itertools
import json
import random
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.bmps import hostname
from benchmarks.environments import FOLDER, Release

HOST: Final = "127.0.0.1"
BOARDS_PER_FRAME: Final = 24
POWERED_SECONDS: Final = 20.0
"""How long to wait for boards to be powered; the reference would need minutes."""

_CONFIG: Final = """\
from spalloc_server.configuration import Configuration, Machine

boards = [(x, y, z) for y in range({side}) for x in range({side}) for z in range(3)]
frames = [i // {per_frame} for i in range(len(boards))]
machine = Machine(
    name="bench",
    width={side},
    height={side},
    board_locations={{
        board: (frames[i] // 5, frames[i] % 5, i % {per_frame})
        for i, board in enumerate(boards)
    }},
    bmp_ips={bmp_ips},
    spinnaker_ips={{board: "10.%d.%d.%d" % board for board in boards}},
)
configuration = Configuration(
    machines=[machine], ip="{host}", seconds_before_free={seconds_before_free}
)
"""


def frames_of(side: int) -> int:
    """How many frames, and so BMPs, a machine of this many triads a side has."""
    return -(-3 * side * side // BOARDS_PER_FRAME)


def config_text(side: int, network: int, seconds_before_free: float) -> str:
    """A config file that both releases understand."""
    bmps = {(f // 5, f % 5): hostname(network, f) for f in range(frames_of(side))}
    return _CONFIG.format(
        side=side,
        per_frame=BOARDS_PER_FRAME,
        bmp_ips=bmps,
        host=HOST,
        seconds_before_free=seconds_before_free,
    )


class Client:
    """A client that calls one command after the other, and waits for replies."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), timeout=120)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._lines = self.socket.makefile("rb")

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_exception: object) -> None:
        self._lines.close()
        self.socket.close()

    def call(self, command: str, *args: Any, **kwargs: Any) -> Any:
        """Call a command; what it returns."""
        self.send(encode(command, *args, **kwargs))
        return self.reply()

    def send(self, data: bytes) -> None:
        """Send encoded commands."""
        self.socket.sendall(data)

    def reply(self) -> Any:
        """The next reply; notifications are not expected."""
        reply = json.loads(self.line())
        if "return" not in reply:
            raise RuntimeError(f"the server answered {reply}")
        return reply["return"]

    def line(self) -> bytes:
        """The next line, a reply or a notification."""
        return self._lines.readline()

    def wait_for_power(self) -> None:
        """Wait until no board is being powered, since that takes time of the server."""
        deadline = time.perf_counter() + POWERED_SECONDS
        while time.perf_counter() < deadline:
            if all(job["state"] != 2 for job in self.call("list_jobs")):
                break
            time.sleep(0.2)

    def time_calls(self, commands: list[bytes], at_once: int = 50) -> float:
        """Like `call_many`, but tell the seconds that it took."""
        start = time.perf_counter()
        self.call_many(commands, at_once)
        return time.perf_counter() - start

    def call_many(self, commands: list[bytes], at_once: int = 50) -> list[Any]:
        """Send many commands, some in each packet; what they return."""
        replies = []
        for start in range(0, len(commands), at_once):
            batch = commands[start : start + at_once]
            self.send(b"".join(batch))
            replies += [self.reply() for _ in batch]
        return replies


def encode(command: str, *args: Any, **kwargs: Any) -> bytes:
    """A command as the line that a client sends."""
    message = {"command": command, "args": args, "kwargs": kwargs}
    return json.dumps(message).encode() + b"\n"


@dataclass
class Server:
    """A server that runs."""

    process: "subprocess.Popen[bytes]"
    port: int

    @property
    def cpu_seconds(self) -> float:
        """The processor time that the process has used, of all its threads."""
        # In schedstat it is in ns, in stat only in units of 10 ms.
        threads = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(thread.read_text().split()[0]) for thread in threads) / 1e9

    @property
    def rss_bytes(self) -> int:
        """The memory of the process that is in RAM."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (line,) = (x for x in status.splitlines() if x.startswith("VmRSS:"))
        return 1024 * int(line.split()[1])

    def client(self) -> Client:
        """A new client."""
        return Client(self.port)

    def wait_until_it_answers(self, timeout: float = 120) -> None:
        """Wait for the first answer to a command."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with self.client() as client:
                    client.call("version")
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)

    def stop(self, seconds: float) -> bool:
        """Stop in good order, so that the state is saved; was there time for it?"""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


class Site:
    """A folder with a config file, and hardware for it, to start servers in."""

    def __init__(self, release: Release, folder: Path, side: int) -> None:
        self._release = release
        self._folder = folder
        self.side = side

    def start(self, *options: str) -> Server:
        """Start a server and wait until it answers."""
        port = free_port()
        with (self._folder / "stderr").open("ab") as stderr:
            process = subprocess.Popen(
                [
                    *self._release.command,
                    *("config.py", "--port", str(port), "--quiet", *options),
                ],
                cwd=self._folder,  # where it may leave files
                env=self._release.environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )
        server = Server(process, port)
        try:
            server.wait_until_it_answers()
        except BaseException:
            process.kill()
            process.wait()
            print((self._folder / "stderr").read_text()[-2000:], file=sys.stderr)
            raise
        return server

    @contextlib.contextmanager
    def running(self, *options: str) -> Iterator[Server]:
        """A server for a while; it is killed in the end."""
        server = self.start(*options)
        try:
            yield server
        finally:
            if server.process.poll() is None:
                server.process.kill()
            server.process.wait()


# The loopback network of each site's BMPs: 127.2 to 127.250, in any order.
_networks = itertools.cycle(random.SystemRandom().sample(range(2, 251), 249))


@contextlib.contextmanager
def site(
    release: Release,
    side: int,
    seconds_before_free: float = 30.0,
    with_bmps: bool = True,
) -> Iterator[Site]:
    """A machine of ``side`` x ``side`` triads, and no server yet.

    :param with_bmps: is there hardware, or does the server simulate it?
    """
    _raise_descriptor_limit()
    network = next(_networks)
    with contextlib.ExitStack() as stack:
        folder = Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="spalloc-bench-"))
        )
        if with_bmps:
            stack.enter_context(_bmps(network, frames_of(side)))
        config = config_text(side, network, seconds_before_free)
        (folder / "config.py").write_text(config)
        yield Site(release, folder, side)


@contextlib.contextmanager
def _bmps(network: int, frames: int) -> Iterator[None]:
    """BMPs in a process of their own, which does not count as the server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.bmps", str(network), str(frames)],
        cwd=FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the simulated BMPs did not start")
        yield
    finally:
        process.communicate()


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.create_server((HOST, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
