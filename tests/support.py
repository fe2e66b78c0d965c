"""What tests need to run the real server and to wait for what it does."""

import contextlib
import functools
import json
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar
from unittest import mock

from spalloc_server.config.script import load_config_file
from spalloc_server.server import SpallocServer
from spalloc_server.service import config_source
from spalloc_server.simulator import BMPSimulator
from tests.forked_process import ForkedProcess

Result = TypeVar("Result")

TIMEOUT = 60.0
"""Seconds to wait for anything; only a test that fails takes this long."""


def wait_until(predicate: Callable[[], Result], timeout: float = TIMEOUT) -> Result:
    """Call a function until what it returns is true, and return that.

    Raises :py:exc:`TimeoutError` with the last value where it never is.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while not (result := predicate()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still {result!r} after {timeout} s: {predicate}")
        time.sleep(pause)
        pause = min(0.05, 2 * pause)
    return result


def free_port() -> int:
    """A TCP port that nobody uses, nor will be given by the kernel meanwhile."""
    while True:
        # Below the range from which port 0 and outgoing connections are served.
        port = random.SystemRandom().randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("0.0.0.0", port)):
            return port


class ServerProcess:
    """A real server in a process of its own; made by :py:func:`running_server`."""

    def __init__(
        self,
        config_file: Path,
        options: tuple[str, ...],
        command: list[str] | None = None,
        forked: bool = True,
    ) -> None:
        """Start it.

        :param command: a module to be run instead of the server itself, and arguments
        :param forked: may it be forked from a process that has read all modules?
        """
        self.config_file = config_file
        self.options = options
        self.port = 0
        self._log: list[str] = []
        command = command or ["spalloc_server", str(config_file), *options]
        self.process = ForkedProcess(command) if forked else _plain_process(command)
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._log.append(line)

    @property
    def log(self) -> str:
        """All that the server has written so far."""
        return "".join(self._log)

    def wait_for_log(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until a regular expression was found so often; the last match."""

        def matches() -> list[re.Match[str]]:
            found = list(re.finditer(pattern, self.log))
            if len(found) < times and not self._reader.is_alive():
                raise AssertionError(f"no {pattern!r} in the log:\n{self.log}")
            return found if len(found) >= times else []

        return wait_until(matches)[-1]

    def wait_until_ready(self) -> None:
        """Wait for the line that says where the server listens."""
        self.port = int(self.wait_for_log(r"Listening on \S+ port (\d+)")[1])

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and return the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def wait(self) -> int:
        """Wait for the end of the process, and return the exit status."""
        status = self.process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        return status

    def kill(self) -> None:
        """End the process, whatever state it is in."""
        self.process.kill()
        self.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()


def _plain_process(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@contextlib.contextmanager
def running_server(
    config: str | Path,
    *options: str,
    folder: Path | None = None,
    forked: bool = True,
) -> Iterator[ServerProcess]:
    """Run ``python -m spalloc_server`` on a free port of loopback, until left.

    :param config: the text of a config file, for which ``folder`` is needed, or the
        path of one
    :param options: further options of the command line
    :param folder: where to write the config file, ``spalloc.cfg``; its state, too
    :param forked: see `ServerProcess`
    """
    if isinstance(config, str):
        assert folder is not None, "a config text needs a folder to be written to"
        config_file = folder / "spalloc.cfg"
        config_file.write_text(config, encoding="utf-8")
    else:
        config_file = config
    server = ServerProcess(config_file, ("--port", "0", *options), forked=forked)
    try:
        server.wait_until_ready()
        yield server
    finally:
        server.kill()


from_nothing = functools.partial(running_server, forked=False)
"""As `running_server`, by the very command line of a user."""


class Client:
    """A plain client: a socket, and lines of JSON."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection((host, port), TIMEOUT)
        self._file = self.socket.makefile("rb")
        self.notifications: list[dict[str, Any]] = []

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self,
        _type: type[BaseException] | None,
        _value: BaseException | None,
        _tb: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def send_command(self, name: str, *args: Any, **kwargs: Any) -> None:
        message = {"command": name, "args": args, "kwargs": kwargs}
        self.send(json.dumps(message).encode() + b"\n")

    def receive(self) -> dict[str, Any] | None:
        """The next message, None if the server has closed the connection."""
        try:
            line = self._file.readline()
        except ConnectionResetError:
            return None
        if not line:
            return None
        message = json.loads(line)
        assert isinstance(message, dict)
        return message

    def reply(self) -> dict[str, Any]:
        """The next message that is no notification; those are kept."""
        while (message := self.receive()) is not None:
            if message.keys() & {"return", "exception"}:
                return message
            self.notifications.append(message)
        raise ConnectionError("disconnected")

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        """Call a command; returns what it returns, raises what it raises."""
        self.send_command(name, *args, **kwargs)
        reply = self.reply()
        if "exception" in reply:
            raise CommandError(reply["exception"])
        return reply["return"]

    def notification(self) -> dict[str, Any]:
        """The next notification."""
        if self.notifications:
            return self.notifications.pop(0)
        message = self.receive()
        assert message is not None, "disconnected"
        assert not message.keys() & {"return", "exception"}, message
        return message

    def is_disconnected(self) -> bool:
        """Read to the end, which has to come without another reply."""
        while (message := self.receive()) is not None:
            assert not message.keys() & {"return", "exception"}, message
        return True


class CommandError(Exception):
    """The server has answered with an exception."""


ONE_TRIAD = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m",
            board_locations={(0, 0, z): (0, 0, z) for z in range(3)},
            base_ip="10.11.12.0",
        )
    ],
    seconds_before_free=0,
)
"""
"""A config file with one machine of three boards."""


class Site:
    """A config file, a simulator of its BMPs, and servers for it in this process.

    For their start they read it in this process, too. One of its own, as for every
    reload and every server of `running_server`, takes as long as all else of a start.
    """

    def __init__(self, folder: Path, undo: ExitStack) -> None:
        self.config = folder / "spalloc.cfg"
        self.undo = undo
        self.simulator = undo.enter_context(BMPSimulator())
        self.write(ONE_TRIAD)

    def write(self, config: str) -> None:
        self.config.write_text(config)

    def start(self, **options: Any) -> SpallocServer:
        self.serve_bmps()
        with mock.patch.object(config_source, "read_configuration", load_config_file):
            started = SpallocServer(str(self.config), port=0, **options)
        self.undo.callback(started.stop_and_join)
        return started

    def serve_bmps(self) -> None:
        """Simulate the BMPs of the config file."""
        for machine in re.findall(r'base_ip="([0-9.]+)\.0"', self.config.read_text()):
            if f"{machine}.0" not in self.simulator.frames:
                self.simulator.add_frame(f"{machine}.0")

    def connect(self, to: SpallocServer) -> Client:
        return self.undo.enter_context(Client(to.address[1]))


def ready(client: Client, job_id: int) -> bool:
    """Are the boards of a job on, or off, as they were asked to be?"""
    return bool(client.call("get_job_state", job_id)["state"] == 3)
