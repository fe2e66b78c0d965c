"""Two servers for the same boards, however their locks are treated."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import ONE_TRIAD, TIMEOUT, Client, free_port, running_server

LOCK = ".spalloc.cfg.state.lock"


def second(
    config: Path, *options: str, prefix: tuple[str, ...] = ()
) -> tuple[str, float, int]:
    """Start a second server: the line it ends with, the time that took, its port."""
    port = free_port()
    began = time.monotonic()
    done = subprocess.run(
        [
            *(*prefix, sys.executable, "-m", "spalloc_server", str(config)),
            *("--simulate", "--port", str(port), *options),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    [*_, line] = done.stderr.splitlines()
    return line, time.monotonic() - began, port


@pytest.mark.parametrize("options", [(), ("--cold-start",)])
@pytest.mark.parametrize("treatment", ["kept", "removed", "replaced", "all removed"])
def test_a_second_server_is_refused_at_once(
    tmp_path: Path, treatment: str, options: tuple[str, ...]
) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me")
        if treatment != "kept":
            (tmp_path / LOCK).unlink()
        if treatment == "replaced":
            (tmp_path / LOCK).write_text("1\n")
        if treatment == "all removed":
            for file in tmp_path.glob(".*"):
                file.unlink()
        line, seconds, port = second(server.config_file, *options)
        assert f"in use by another server, process {server.process.pid}" in line
        assert seconds < 10
        with pytest.raises(ConnectionRefusedError):
            Client(port)
        with Client(server.port) as client:
            assert client.call("get_job_state", job_id)["state"] in (2, 3)


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode
    != 0,
    reason="no network namespaces can be made here",
)
def test_a_second_server_in_a_container_of_its_own(tmp_path: Path) -> None:
    """With its own network it has its own abstract sockets."""
    prefix = ("unshare", "--net", "--pid", "--fork")
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        for _ in range(2):
            line, _, _ = second(server.config_file, "--cold-start", prefix=prefix)
            assert "in use by another server" in line
            (tmp_path / LOCK).unlink(missing_ok=True)
            line, _, _ = second(server.config_file, "--cold-start", prefix=prefix)
            assert "in use by another server" in line


def test_a_lock_file_that_is_removed_comes_back(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        for count in (1, 2):
            (tmp_path / LOCK).unlink()
            lock = re.escape(str(tmp_path / LOCK))
            server.wait_for_log(
                rf"ERROR The lock file {lock} was removed; it has been ", count
            )
        check = subprocess.run(
            [
                sys.executable,
                "-m",
                "spalloc_server",
                "--check",
                str(server.config_file),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=True,
        )
        assert f"process {server.process.pid}, at 127.0.0.1 port {server.port}" in (
            check.stdout
        )
        assert server.stop() == 0
        assert LOCK not in os.listdir(tmp_path)


def test_servers_of_other_files_may_be_in_the_same_folder(tmp_path: Path) -> None:
    other = tmp_path / "other.cfg"
    other.write_text(ONE_TRIAD)
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        running_server(other, "--simulate") as beside,
    ):
        for one in (server, beside):
            with Client(one.port) as client:
                assert client.call("version")
        assert server.stop() == 0
        with running_server(server.config_file, "--simulate") as again:
            assert again.stop() == 0
        assert beside.stop() == 0


def test_what_was_killed_holds_nothing(tmp_path: Path) -> None:
    for _ in range(3):
        with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
            assert server.stop(signal.SIGKILL) == -signal.SIGKILL


def test_a_stranger_with_the_name_does_not_keep_the_server_from_starting(
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can act as somebody else")
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        names = Path("/proc/net/unix").read_text().splitlines()
        inode = f"/{tmp_path.stat().st_ino:x}/"
        [name] = [
            n.split("@")[1] for n in names if "@spalloc_server/" in n and inode in n
        ]
        assert server.stop() == 0
    child = os.fork()
    if child == 0:
        os.setuid(65534)
        taken = socket.socket(socket.AF_UNIX)
        taken.bind(f"\0{name}")
        taken.listen(5)
        signal.pause()
        os._exit(0)
    try:
        with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
            server.wait_for_log(
                f"WARNING Process {child} of user 65534 has taken the socket name"
            )
            assert server.stop() == 0
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
