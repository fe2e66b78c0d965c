"""Programs of ours in processes of their own that are up in a moment.

Most of the time in which a server starts is spent on reading modules. A process that
has done that once is forked for each program; what then runs there is ``python -m
MODULE ARGUMENTS``, with memory, signals and standard streams of its own.
"""

import atexit
import contextlib
import importlib
import io
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO

_FORK = multiprocessing.get_context("forkserver")
_FORK.set_forkserver_preload(
    [
        "spalloc_server.server",
        "spalloc_server.simulator",
        "spalloc_server.web.app",
        "spalloc_server.command_line.admin",
        "spalloc_server.command_line.check",
        "spalloc_server.command_line.usage_report",
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


def run(
    *command: object,
    folder: Path | None = None,
    environment: dict[str, str] | None = None,
    umask: int = -1,
    timeout: float = 60.0,
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m COMMAND`` to its end, in a fork; its standard input is empty.

    For what a command does and says; how it starts, and what Python takes from the
    environment then, is to be tested with a process from nothing.

    :param command: name of the module, or of a function as ``MODULE:NAME`` that is
        called as an installed command calls it; and arguments
    :param folder: to run it in, instead of the one where this process is
    :param environment: instead of this process's
    :param umask: of the new process, -1 for this process's
    :param timeout: seconds that it may take
    :return: as of `subprocess.run` with both outputs captured
    :raises subprocess.TimeoutExpired: if it takes longer
    """
    words = [str(word) for word in command]
    environment = dict(os.environ) if environment is None else environment
    with tempfile.TemporaryDirectory() as outputs:
        files = Path(outputs, "stdout"), Path(outputs, "stderr")
        process = _FORK.Process(
            target=_run_to_files,
            args=(words, str(folder or os.getcwd()), environment, files, umask),
        )
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(words, timeout)
        stdout, stderr = (file.read_text(encoding="utf-8") for file in files)
        return subprocess.CompletedProcess(words, process.exitcode, stdout, stderr)


def _run(
    command: list[str], folder: str, environment: dict[str, str], stderr: Connection
) -> None:
    """Be a server with a pipe to its parent, in the forked process."""
    os.dup2(stderr.fileno(), 2)
    stderr.close()
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    os.close(nothing)
    _be(command, folder, environment)


def _run_to_files(
    command: list[str],
    folder: str,
    environment: dict[str, str],
    files: tuple[Path, Path],
    umask: int,
) -> None:
    """Be a command whose outputs go to files, in the forked process."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, 1):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    for output in (sys.stdout, sys.stderr):
        assert isinstance(output, io.TextIOWrapper)
        output.reconfigure(encoding="utf-8")
    if umask != -1:
        os.umask(umask)
    _be(command, folder, environment)


def _be(command: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be ``python -m COMMAND``."""
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    program, *sys.argv[1:] = command
    module, _, function = program.partition(":")
    try:
        if function:
            sys.exit(getattr(importlib.import_module(module), function)())
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        # A process of multiprocessing leaves these out.
        atexit._run_exitfuncs()
