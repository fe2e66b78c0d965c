"""Reads config files in a process of their own, which can be given up.

A config file is a program: it may loop, sleep, crash, or read a file from a disk that
hangs. None of that may keep the server from serving, or from being stopped.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import Any, Final

from spalloc_server.config import serialized
from spalloc_server.config.script import ConfigFileError
from spalloc_server.configuration import Configuration

TIME_LIMIT: Final = 30.0
"""Seconds that a config file may take."""

RESULT_BYTES: Final = 256 * 1024**2
"""How long the description of all machines may be."""

_READ_BYTES: Final = 64 * 1024
"""How much of a result is taken in at once."""

_EXIT_SECONDS: Final = 1.0
"""How long a process that has closed its end is left to say how it ended."""

_SLICE_SECONDS: Final = 0.1
"""After how long a signal that another thread has got is seen, at the start."""

_FOR_THE_SERVER: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
"""What the service manager has put into the environment, for nobody else."""

# It has the server's module search path before it imports anything.
_BOOTSTRAP: Final = (
    "import sys; given = sys.argv; sys.path[:] = given[4:]; "
    "from spalloc_server.config.script_process import main; "
    "main(int(given[1]), given[2], int(given[3]))"
)


class ConfigReading:
    """A config file that is being read. For one thread, which need not wait for it.

    Its descriptor is readable when there is something for `poll` to do. What
    the script prints goes to the server's standard error. See `begin_reading`.
    """

    def __init__(
        self,
        filename: str | os.PathLike[str],
        seconds: float,
        process: subprocess.Popen[bytes],
        result_fd: int,
    ) -> None:
        """Take over a process that reads it.

        :param seconds: how long that may take from now on
        :param result_fd: from which its result can be read
        """
        self._filename = os.fspath(filename)
        self._seconds = seconds
        self.due = time.monotonic() + seconds
        """When to call `poll` in any case (`time.monotonic`)."""
        self._process = process
        self._fd = result_fd
        self._data = bytearray()
        self._given_up = ""
        self._at_end = False

    def fileno(self) -> int:
        """The file descriptor to wait for."""
        return self._fd

    def poll(self) -> Configuration | None:
        """See how far it is: the configuration, or None while there is none yet.

        Never blocks. After a result or an error, only `close` is left to do.

        :raises ConfigFileError: where there is not going to be one
        """
        if not self._at_end:
            self._receive()
        if len(self._data) > RESULT_BYTES:
            raise self._error(f"describes more than fits into {RESULT_BYTES} bytes")
        head, newline, body = self._data.partition(b"\n")
        if newline:
            try:
                said = json.loads(head)
                if said["error"] is not None:
                    raise self._error(said["error"]["reason"], said["error"]["line"])
                if len(body) >= said["size"]:
                    return serialized.load(bytes(body))
            except (ValueError, TypeError, KeyError, AttributeError) as e:
                raise self._error(f"gave a result that makes no sense: {e}") from e
        if self._given_up:
            raise self._error(self._given_up)
        if self._at_end and self._process.poll() is not None:
            raise self._error(_describe_end(self._process.returncode))
        if time.monotonic() >= self.due:
            raise self._error(
                "closed what its result was to be written to"
                if self._at_end
                else f"took more than {self._seconds:g} s, and was given up"
            )
        return None

    def _receive(self) -> None:
        """Take in what has arrived."""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        self._data += data
        if not data:
            self._at_end = True
            self.due = min(self.due, time.monotonic() + _EXIT_SECONDS)

    def wait(self) -> Configuration:
        """Wait for the configuration; for when there is nobody to be served yet.

        :raises ConfigFileError: as `poll` does
        """
        while (configuration := self.poll()) is None:
            left = max(0.0, self.due - time.monotonic())
            if self._at_end:  # there is nothing more to be read, only an end to await
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(min(left, _SLICE_SECONDS))
            else:
                select.select([self], [], [], min(left, _SLICE_SECONDS))
        return configuration

    def give_up(self, reason: str) -> None:
        """Have it end with an error soon. From any signal handler."""
        self._given_up = reason
        self._kill()

    def close(self, seconds: float = 0.0) -> None:
        """Give up what is still going on.

        :param seconds: how long to wait for the end of the process, which comes at once
            unless that hangs in a disk
        """
        os.close(self._fd)
        self._kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
        if self._process.returncode is None:
            threading.Thread(
                target=self._process.wait, name="Config file", daemon=True
            ).start()

    def _kill(self) -> None:
        if self._process.returncode is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _error(self, reason: Any, line: Any = None) -> ConfigFileError:
        return ConfigFileError(
            self._filename, line if isinstance(line, int) else None, str(reason)
        )


def begin_reading(
    filename: str | os.PathLike[str], seconds: float = TIME_LIMIT
) -> ConfigReading:
    """Begin to read a config file.

    :param seconds: how long that may take
    :raises ConfigFileError: where no process can be started for it
    """
    fd, result_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        os.set_blocking(result_fd, True)
        process = _start(os.fspath(filename), seconds, result_fd)
    except (OSError, ValueError) as e:
        os.close(fd)
        reason = getattr(e, "strerror", None) or str(e)
        raise ConfigFileError(filename, None, f"cannot be run: {reason}") from e
    finally:
        os.close(result_fd)
    return ConfigReading(filename, seconds, process, fd)


def _start(filename: str, seconds: float, result_fd: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            *(sys.executable, "-c", _BOOTSTRAP),
            *(str(result_fd), filename, str(int(seconds) + 5)),
            *(path for path in sys.path if isinstance(path, str)),
        ],
        env={k: v for k, v in os.environ.items() if k not in _FOR_THE_SERVER},
        stdin=subprocess.DEVNULL,
        stdout=2,
        pass_fds=[result_fd],
        # What the script starts is ended together with it, and a Ctrl-C is not for any
        # of them.
        start_new_session=True,
    )


class Waiting:
    """Waits for config files, until it is told to give that up."""

    def __init__(self) -> None:
        self._readings: set[ConfigReading] = set()
        self._begun: tuple[str, ConfigReading] | None = None
        self._is_over = False

    def begin(self, filename: str) -> None:
        """Begin to read a file, so that `read` has less to wait for."""
        # What is wrong is for `read` to tell, which then tries it again.
        with contextlib.suppress(ConfigFileError):
            reading = begin_reading(filename)
            self._readings.add(reading)
            self._begun = filename, reading

    def forget(self) -> None:
        """Give up what was begun, if it has not been read."""
        if self._begun is not None:
            _, reading = self._begun
            self._begun = None
            self._readings.discard(reading)
            reading.close(_EXIT_SECONDS)

    def read(
        self, filename: str | os.PathLike[str], seconds: float = TIME_LIMIT
    ) -> Configuration:
        """Read a config file, and wait for that.

        :param seconds: how long it may take
        :raises ConfigFileError: where it does not give a valid configuration
        """
        if self._begun is not None and self._begun[0] == filename:
            _, reading = self._begun
            self._begun = None
        else:
            reading = begin_reading(filename, seconds)
            self._readings.add(reading)
        try:
            # It may have been told just before there was anything to be given up.
            if self._is_over:
                self.give_up()
            return reading.wait()
        finally:
            self._readings.discard(reading)
            reading.close(_EXIT_SECONDS)

    def give_up(self) -> None:
        """Have the calls that are going on, and all later ones, end by an error.

        For signal handlers of the thread that waits.
        """
        self._is_over = True
        for reading in list(self._readings):
            reading.give_up("was given up, as the server is to stop")

    def allow(self) -> None:
        """Let later calls wait again."""
        self._is_over = False


WAITING: Final = Waiting()
"""That of the process."""

read_configuration = WAITING.read


def _describe_end(status: int) -> str:
    if status >= 0:
        return f"ended its process (exit status {status}) without a result"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        name = f"signal {-status}"
    return f"crashed its process ({name})"
