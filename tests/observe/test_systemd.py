"""The service unit, and what systemd is told through a real socket."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from spalloc_server.observe.systemd import SystemdObserver
from tests.support import ONE_TRIAD, TIMEOUT, wait_until

ROOT = Path(__file__).resolve().parents[2]
UNIT = ROOT / "contrib" / "spalloc-server.service"


class Manager:
    """The service manager's end: a datagram socket that keeps what it gets."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.messages: list[dict[str, str]] = []
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while data := self.socket.recv(4096):
            lines = data.decode().split("\n")
            self.messages.append(dict(line.split("=", 1) for line in lines))

    def wait_for(self, **wanted: str) -> dict[str, str]:
        def find() -> dict[str, str] | None:
            found = [m for m in self.messages if m.items() >= wanted.items()]
            return found[0] if found else None

        message = wait_until(find)
        assert message is not None
        return message

    def close(self) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
            end.sendto(b"", self.socket.getsockname())
        self._thread.join()
        self.socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(str(tmp_path / "notify"))
    yield made
    made.close()


@pytest.fixture
def server(tmp_path: Path, manager: Manager) -> Iterator[subprocess.Popen[str]]:
    config = tmp_path / "spalloc.cfg"
    config.write_text(
        ONE_TRIAD.replace("seconds_", "timeout_check_interval=3600, seconds_")
    )
    # The shell becomes the server, so that the process is the one that is meant.
    command = 'WATCHDOG_PID=$$ exec "$0" -m spalloc_server --simulate "$1" --port 0'
    with subprocess.Popen(
        ["sh", "-c", command, sys.executable, str(config)],
        env={
            **os.environ,
            "NOTIFY_SOCKET": manager.socket.getsockname(),
            "WATCHDOG_USEC": "800000",
        },
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_the_life_of_a_service(
    manager: Manager, server: subprocess.Popen[str], tmp_path: Path
) -> None:
    ready = manager.wait_for(READY="1")
    status = re.fullmatch(r"Listening on 127\.0\.0\.1 port (\d+)", ready["STATUS"])
    assert status is not None
    # It is true: clients can connect from now on.
    socket.create_connection(("127.0.0.1", int(status[1])), TIMEOUT).close()
    assert manager.messages[0] is ready

    # The loop is idle, and feeds the watchdog all the same.
    fed = [m for m in manager.messages if "WATCHDOG" in m]
    began = time.monotonic()
    wait_until(lambda: _feeds(manager) >= len(fed) + 4)
    assert time.monotonic() - began < 4 * 0.8

    before = time.monotonic()
    server.send_signal(signal.SIGHUP)
    reloading = manager.wait_for(RELOADING="1")
    assert before <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()
    wait_until(lambda: _kinds(manager).count("READY") == 2)

    (tmp_path / "spalloc.cfg").write_text("broken(")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: _kinds(manager).count("READY") == 3)

    server.send_signal(signal.SIGTERM)
    assert server.wait(TIMEOUT) == 0
    stopping = manager.wait_for(STOPPING="1")
    assert int(stopping["WATCHDOG_USEC"]) > 800_000
    assert [kind for kind in _kinds(manager) if kind != "WATCHDOG"] == [
        *("READY", "RELOADING", "READY", "RELOADING", "READY", "STOPPING")
    ]


def _feeds(manager: Manager) -> int:
    return _kinds(manager).count("WATCHDOG")


def _kinds(manager: Manager) -> list[str]:
    return [next(iter(message)) for message in manager.messages]


def test_a_loop_that_hangs_starves_the_watchdog(
    manager: Manager, server: subprocess.Popen[str]
) -> None:
    manager.wait_for(READY="1")
    wait_until(lambda: _feeds(manager) >= 1)
    server.send_signal(signal.SIGSTOP)
    wait_until(lambda: _is_stopped(server.pid))
    fed = _feeds(manager)
    assert fed <= _feeds(manager) <= fed + 1
    server.send_signal(signal.SIGCONT)
    wait_until(lambda: _feeds(manager) >= fed + 2)


def _is_stopped(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text()
    return stat.rpartition(")")[2].split()[0] == "T"


def test_a_server_that_cannot_start_is_never_ready(
    manager: Manager, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "spalloc_server", str(tmp_path / "none.cfg")],
        env={**os.environ, "NOTIFY_SOCKET": manager.socket.getsockname()},
        stderr=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 1
    assert manager.messages == []


def test_the_environment() -> None:
    assert SystemdObserver.from_environment({}) is None
    assert SystemdObserver.from_environment({"NOTIFY_SOCKET": "vsock:1:2"}) is None
    environment = {
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "4000000",
        "WATCHDOG_PID": str(os.getpid()),
        "OTHER": "stays",
    }
    observer = SystemdObserver.from_environment(environment)
    assert observer is not None
    assert observer.longest_wait == 1.0
    assert environment == {"OTHER": "stays"}
    # The watchdog of another process.
    other = {"NOTIFY_SOCKET": "/run/x", "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    observer = SystemdObserver.from_environment(other)
    assert observer is not None
    assert observer.longest_wait == float("inf")


def test_an_abstract_socket_and_a_manager_that_is_gone() -> None:
    name = f"spalloc-test-{os.getpid()}"
    manager = Manager("\0" + name)
    observer = SystemdObserver("@" + name, None)
    observer.open()
    observer.reloaded()
    manager.wait_for(READY="1")
    manager.close()
    observer.reloaded()
    observer.close()


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd is not installed"
)
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    text = UNIT.read_text()
    # It is for where the server is installed, which is not here.
    program = tmp_path / "spalloc_server"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/spalloc/bin/spalloc_server", str(program)))
    assert str(program) in unit.read_text()
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    # It also looks at the units of this machine, which are none of our business.
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert complaints == []
    exposure = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(unit)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    level = re.search(r"exposure level for \S+: ([0-9.]+)", exposure.stdout)
    assert level is not None, exposure.stderr
    assert float(level[1]) < 3.0


def test_the_options_of_the_unit_are_ones_that_the_server_has(tmp_path: Path) -> None:
    command = re.search(r"(?m)^ExecStart=\S+ (.*)$", UNIT.read_text())
    assert command is not None
    (tmp_path / "machines.cfg").write_text("configuration = Configuration()")
    words = [
        word.replace("/etc/spalloc", str(tmp_path))
        .replace("${STATE_DIRECTORY}", str(tmp_path))
        .replace("${LOGS_DIRECTORY}", str(tmp_path))
        for word in command[1].replace("\\\n", " ").split()
    ]
    done = subprocess.run(
        [sys.executable, "-m", "spalloc_server", *words, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
