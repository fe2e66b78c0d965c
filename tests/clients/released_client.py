"""One release of the client, whose commands are run as its users run them."""

import contextlib
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.support import TIMEOUT, wait_until

OWNER = "me@example.org"


class ReleasedClient:
    """The commands of one release, and its Python, for one server."""

    def __init__(self, bin_folder: Path, folder: Path, port: int) -> None:
        """Prepare to run commands.

        :param bin_folder: where the release has its commands and its Python
        :param folder: to run them in
        :param port: of the server, on loopback
        """
        self._bin = bin_folder
        self._folder = folder
        self._port = port
        # Nothing of the user who runs the tests, such as a config file of theirs
        self._environment = {
            "PATH": f"{bin_folder}:{os.defpath}",
            "HOME": str(folder),
            "XDG_CONFIG_DIRS": str(folder),
            "TMPDIR": str(folder),
            "LC_ALL": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            # For the programs that tests run by the release's Python
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }

    def fails(
        self, command: str, *arguments: object
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end, whatever that is; its standard input is empty."""
        return subprocess.run(
            self._command_line(command, arguments),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
        )

    def run(self, command: str, *arguments: object) -> str:
        """Run a command that has to succeed, and return what it has printed."""
        done = self.fails(command, *arguments)
        assert done.returncode == 0, f"{done.args}: {done.stdout}{done.stderr}"
        return done.stdout

    @contextlib.contextmanager
    def start(self, command: str, *arguments: object) -> Iterator["Conversation"]:
        """Run a command beside the test, until left."""
        # A session of its own: with the command go its keepalives and what it wraps.
        process = subprocess.Popen(
            self._command_line(command, arguments),
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        conversation = Conversation(process)
        try:
            yield conversation
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            conversation.wait()

    def _command_line(self, command: str, arguments: tuple[object, ...]) -> list[str]:
        """Return the words to start a command, or a program, of this release with."""
        if command.startswith("tests."):
            # A program of ours
            options: list[object] = ["-m", command, self._port]
            command = "python"
        else:
            # Not by a config file: from Python 3.12 on, releases 0.2.6 and 2.0.1 call
            # something of ConfigParser that is gone, as soon as there is a file.
            options = ["--hostname", "127.0.0.1", "--port", self._port]
            options += ["--timeout", 30]
            if command == "spalloc":
                options += ["--reconnect-delay", 0.1]
            if command in ("spalloc", "spalloc-job"):
                options += ["--owner", OWNER]
        return [str(self._bin / command), *map(str, options), *map(str, arguments)]


class Conversation:
    """A command under way: read what it prints, type what it waits for."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._read = b""
        self._reader = threading.Thread(target=self._read_output, daemon=True)
        self._reader.start()

    def _read_output(self) -> None:
        assert self._process.stdout is not None
        # Not by lines: a prompt is none.
        while data := os.read(self._process.stdout.fileno(), 65536):
            self._read += data

    @property
    def output(self) -> str:
        """All that was printed so far, as output and as errors."""
        return self._read.decode(errors="replace")

    def wait_for(self, pattern: str, times: int = 1) -> re.Match[str]:
        """Wait until a regular expression was printed so often; the last match."""

        def found() -> re.Match[str] | None:
            ended = not self._reader.is_alive()
            matches = list(re.finditer(pattern, self.output, re.MULTILINE))
            if len(matches) >= times:
                return matches[times - 1]
            assert not ended, f"no {pattern!r} in:\n{self.output}"
            return None

        match = wait_until(found)
        assert match is not None
        return match

    def type(self, line: str = "") -> None:
        """Type a line, or just press enter."""
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Close the input, wait for the end, and return the exit status."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        status = self._process.wait(TIMEOUT)
        self._reader.join(TIMEOUT)
        self._process.stdout.close()
        return status


def fields(output: str) -> dict[str, str]:
    """Read a listing of ``Name: value`` lines; of what is on several, the first."""
    found = re.findall(r"^ *(\w[\w -]*): *(.*?) *$", output, re.MULTILINE)
    return dict(found)


def table(output: str) -> list[list[str]]:
    """Read the rows of a table, of which two spaces or more are between the cells."""
    return [
        re.split(r" {2,}", line.strip()) for line in output.splitlines() if line.strip()
    ]
