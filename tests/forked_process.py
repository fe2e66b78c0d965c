"""Programs of ours in processes of their own that are up in a moment.

Most of the time in which a server starts is spent on reading modules. A process that
has done that once is forked for each program; what then runs there is ``python -m
MODULE ARGUMENTS``, with memory, signals and standard streams of its own.
"""

import atexit
import contextlib
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from multiprocessing.connection import Connection
from typing import IO

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(
    [
        "spalloc_server.server",
        "spalloc_server.simulator",
        "spalloc_server.web.app",
        "spalloc_server_gateway.run",
        __name__,
    ]
)


class ForkedProcess:
    """A fork that runs a module as ``__main__``, with the methods of a `Popen`."""

    def __init__(self, command: list[str]) -> None:
        """Start it.

        :param command: name of the module, and arguments
        """
        reading, writing = _FORK.Pipe(duplex=False)
        self._process = _FORK.Process(
            target=_run,
            args=(command, os.getcwd(), dict(os.environ), writing),
            daemon=True,
        )
        self._process.start()
        writing.close()
        self.stderr: IO[str] = os.fdopen(os.dup(reading.fileno()), encoding="utf-8")
        reading.close()

    @property
    def pid(self) -> int:
        pid = self._process.pid
        assert pid is not None
        return pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        status = self._process.exitcode
        if status is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return status

    def send_signal(self, sig: int) -> None:
        if self.poll() is None:
            # It may have ended, and its parent know it, before that is told here.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, sig)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(
    command: list[str], folder: str, environment: dict[str, str], stderr: Connection
) -> None:
    """Be ``python -m COMMAND``, in the forked process."""
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    module, *sys.argv[1:] = command
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # A process of multiprocessing leaves these out.
        atexit._run_exitfuncs()
