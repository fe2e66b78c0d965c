"""Signals at any time, to any thread."""

import ctypes
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import (
    ONE_TRIAD,
    TIMEOUT,
    Client,
    ServerProcess,
    running_server,
    wait_until,
)

WITHIN = 10.0
"""Seconds within which a signal is acted on, on a busy machine."""

LIBC = ctypes.CDLL(None, use_errno=True)


def send(pid: int, thread: int, number: signal.Signals) -> None:
    """Send a signal to one thread of a process."""
    if LIBC.tgkill(pid, thread, number):
        raise OSError(ctypes.get_errno(), "tgkill")


def threads(pid: int) -> dict[int, str]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): (task / "comm").read_text().strip() for task in tasks}


def started(server: ServerProcess) -> dict[int, str]:
    """The threads of a server with a frame that has something to do, and a page."""
    with Client(server.port) as client:
        client.call("create_job", owner="me")
    server.wait_for_log("powered on board")
    found = threads(server.process.pid)
    # The loop, the frame, the simulator, the log, the page, the history, and who waits.
    assert len(found) >= 7
    return found


OPTIONS = ("--simulate", "--http", "0")


def test_a_reload_is_acted_on_by_whichever_thread_gets_it(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        for count, thread in enumerate(started(server), 1):
            began = time.monotonic()
            send(server.process.pid, thread, signal.SIGHUP)
            server.wait_for_log("read again", count)
            assert time.monotonic() - began < WITHIN
        assert server.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("index", [0, 1, -1])
def test_the_end_is_acted_on_by_some_threads(
    tmp_path: Path, number: signal.Signals, index: int
) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        thread = sorted(started(server))[index]
        began = time.monotonic()
        send(server.process.pid, thread, number)
        assert server.wait() == 0
        assert time.monotonic() - began < WITHIN
        assert "state saved" in server.log


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_is_acted_on_by_whichever_thread_gets_it(
    tmp_path: Path, number: signal.Signals
) -> None:
    index, number_of_threads = 0, 1
    while index < number_of_threads:
        # Each with a state of its own, or the boards are soon all in use.
        folder = tmp_path / str(index)
        folder.mkdir()
        with running_server(ONE_TRIAD, *OPTIONS, folder=folder) as server:
            found = started(server)
            number_of_threads = len(found)
            began = time.monotonic()
            send(server.process.pid, sorted(found)[index], number)
            assert server.wait() == 0, found
            assert time.monotonic() - began < WITHIN
        index += 1


def interrupted_after(
    seconds: float, *args: str, number: signal.Signals = signal.SIGINT
) -> tuple[int, str]:
    """Start a command, interrupt it after so long; its exit status and stderr."""
    with subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", *args],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    ) as process:
        # Before there is anything of ours, the interpreter alone decides.
        wait_until(lambda: _has_imported_something_of_ours(process.pid))
        time.sleep(seconds)  # what is tested is another moment of the start each time
        process.send_signal(number)
        _, log = process.communicate(timeout=TIMEOUT)
    return process.returncode, log


def _has_imported_something_of_ours(pid: int) -> bool:
    """Does it handle SIGINT and SIGHUP itself, as the first lines of ours have it?"""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    assert caught is not None
    wanted = 1 << (signal.SIGHUP - 1)
    return bool(int(caught[1], 16) & wanted)


@pytest.mark.parametrize("milliseconds", [0, 20, 50, 100, 150, 200, 300])
def test_an_early_interrupt_is_a_line_and_no_traceback(
    tmp_path: Path, milliseconds: int
) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    status, log = interrupted_after(
        milliseconds / 1000, str(config), "--port", "0", "--simulate"
    )
    assert "Traceback" not in log
    if status == 0:
        assert re.search("INFO Stopped", log)
    else:
        assert (status, log) == (130, "spalloc_server: interrupted\n")


def test_an_interrupted_check_is_a_line_and_no_traceback(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    begun = tmp_path / "begun"
    config.write_text(f"open({str(begun)!r}, 'w').close()\nwhile True: pass")
    with subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", str(config), "--check"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(begun.exists)
        os.kill(process.pid, signal.SIGINT)
        _, log = process.communicate(timeout=TIMEOUT)
    assert (process.returncode, log) == (130, "spalloc_server: interrupted\n")
