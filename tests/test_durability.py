"""What the command line keeps, and says, when the disk or the state is in trouble."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from spalloc_server import __version__
from tests import newer_version
from tests.support import (
    ONE_TRIAD,
    TIMEOUT,
    Client,
    CommandError,
    ServerProcess,
    ready,
    running_server,
    wait_until,
)

STATE = f".spalloc.cfg.state.{__version__}"

REFUSED = "nothing was changed, it cannot be stored: "


@contextmanager
def no_room(server: ServerProcess, folder: Path) -> Iterator[None]:
    """No file of the server may grow, nor be written beyond its beginning."""
    pid = server.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (1, limits[1]))
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


@contextmanager
def no_folder(server: ServerProcess, folder: Path) -> Iterator[None]:
    """The folder of the state is somewhere else for a while."""
    elsewhere = folder.with_name("elsewhere")
    folder.rename(elsewhere)
    try:
        yield
    finally:
        elsewhere.rename(folder)


@contextmanager
def no_snapshot(server: ServerProcess, folder: Path) -> Iterator[None]:
    """The files are gone, and the whole state cannot be written anew."""
    in_the_way = folder / f"{STATE}.new"
    in_the_way.mkdir()
    for file in folder.glob(f"{STATE}*"):
        if file.is_file():
            file.unlink()
    try:
        yield
    finally:
        in_the_way.rmdir()


CHANGES: tuple[tuple[str, tuple[Any, ...], dict[str, Any]], ...] = (
    ("create_job", (), {"owner": "me"}),
    ("destroy_job", (1,), {}),
    ("power_on_job_boards", (1,), {}),
    ("power_off_job_boards", (1,), {}),
)


@pytest.mark.parametrize("trouble", [no_room, no_folder, no_snapshot])
def test_what_cannot_be_stored_is_refused_and_everything_else_goes_on(
    tmp_path: Path, trouble: Callable[[ServerProcess, Path], Any]
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    with running_server(ONE_TRIAD, "--simulate", folder=folder) as server:
        with Client(server.port) as client:
            client.call("create_job", 1, 1, owner="me", keepalive=None)
            client.call("create_job", 1, 1, owner="other", keepalive=None)
            wait_until(lambda: ready(client, 1))
            before = client.call("list_jobs")
            with trouble(server, folder):
                for name, args, kwargs in CHANGES:
                    with pytest.raises(CommandError, match=REFUSED):
                        client.call(name, *args, **kwargs)
                assert client.call("list_jobs") == before
                assert client.call("get_job_state", 1)["state"] == 3
                assert client.call("job_keepalive", 1) is None
                assert client.call("get_job_machine_info", 1)["machine_name"] == "m"
                client.call("notify_job")
                with Client(server.port) as late:
                    assert late.call("version") == __version__
                server.wait_for_log("ERROR .*cannot (be stored|save state)")
            wait_until(lambda: is_created(client))
            server.wait_for_log("WARNING Changes are being stored again")
            client.call("destroy_job", 1, "over")
        server.kill()
        assert "Traceback" not in server.log
    with (
        running_server(folder / "spalloc.cfg", "--simulate") as server,
        Client(server.port) as client,
    ):
        jobs = client.call("list_jobs")
        assert [(job["job_id"], job["owner"]) for job in jobs] == [
            (2, "other"),
            (3, "late"),
        ]
        assert client.call("get_job_state", 1)["reason"] == "over"


def test_files_that_somebody_removes_are_written_anew_at_once(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            client.call("create_job", 1, 1, owner="me", keepalive=None)
            wait_until(lambda: ready(client, 1))
            for file in tmp_path.glob(f"{STATE}*"):
                file.unlink()
            with pytest.raises(CommandError, match=f"{REFUSED}.*has been removed"):
                client.call("create_job", owner="refused", keepalive=None)
            assert client.call("create_job", owner="late", keepalive=None) == 2
            server.kill()
        assert server.log.count(" ERROR ") == 1
        assert "Traceback" not in server.log
    with (
        running_server(tmp_path / "spalloc.cfg", "--simulate") as server,
        Client(server.port) as client,
    ):
        owners = [job["owner"] for job in client.call("list_jobs")]
        assert owners == ["me", "late"]


def is_created(client: Client) -> bool:
    client.send_command("create_job", owner="late", keepalive=None)
    reply = client.reply()
    if "exception" in reply:
        assert reply["exception"].startswith(REFUSED)
    return reply.get("return") == 3


def test_want_of_room_at_the_end_is_a_failure_that_loses_nothing(
    tmp_path: Path,
) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            client.call("create_job", owner="me")
        with no_room(server, tmp_path):
            assert server.stop() == 1
        assert "ERROR Changes cannot be stored: " in server.log
    with (
        running_server(tmp_path / "spalloc.cfg", "--simulate") as server,
        Client(server.port) as client,
    ):
        assert [job["owner"] for job in client.call("list_jobs")] == ["me"]


def test_a_later_version_goes_on_from_what_a_crash_has_left(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            client.call("create_job", 1, 1, owner="me")
            wait_until(lambda: ready(client, 1))
            client.call("create_job", owner="you", tags=["default"])
            before = client.call("list_jobs")
        server.kill()
    later = ServerProcess(
        server.config_file,
        (),
        [
            *("tests.newer_version", str(server.config_file)),
            *("--simulate", "--port", "0"),
        ],
        # The version has to be changed before anything is read.
        forked=False,
    )
    try:
        later.wait_until_ready()
        with Client(later.port) as client:
            assert client.call("version") == newer_version.VERSION
            assert client.call("list_jobs") == before
        assert later.stop() == 0
        assert [file.name for file in tmp_path.glob(".*")] == [
            f".spalloc.cfg.state.{newer_version.VERSION}"
        ]
    finally:
        later.kill()


def state_files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.glob(f"{STATE}*")}


def refuse_to_start(folder: Path) -> str:
    """Start a server that has to refuse; returns its only line."""
    done = subprocess.run(
        [sys.executable, "-m", "spalloc_server", folder / "spalloc.cfg", "-p", "0"],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    line = done.stderr.splitlines()[-1]
    assert " CRITICAL " in line
    assert "Traceback" not in done.stderr
    return line


@pytest.mark.parametrize("name", [STATE, f"{STATE}-wal"])
@pytest.mark.parametrize("problem", ["mode", "owner"])
def test_state_of_others_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    if problem == "owner" and os.geteuid() != 0:
        pytest.skip("only root can give files away")
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            client.call("create_job", owner="me")
        server.kill()
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    if problem == "mode":
        (tmp_path / name).chmod(0o620)
        expected = "is refused: others may write it (mode 0620, expected 0600)"
    else:
        os.chown(tmp_path / name, 1, -1)
        expected = "is refused: it belongs to user 1, not to user 0"
    before = state_files(tmp_path)
    assert f"{tmp_path / name} {expected}" in refuse_to_start(tmp_path)
    assert state_files(tmp_path) == before
    (tmp_path / name).chmod(0o600)
    os.chown(tmp_path / name, os.geteuid(), -1)
    with (
        running_server(tmp_path / "spalloc.cfg", "--simulate") as server,
        Client(server.port) as client,
    ):
        assert len(client.call("list_jobs")) == 1


def test_files_are_for_their_owner_only_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
            os.umask(old)
            with Client(server.port) as client:
                client.call("create_job", owner="me")
            modes = {
                file.name: file.stat().st_mode & 0o777 for file in tmp_path.glob(".*")
            }
    finally:
        os.umask(old)
    assert modes == dict.fromkeys(
        [
            *(STATE, f"{STATE}-wal"),
            ".spalloc.cfg.state.lock",
            ".spalloc.cfg.admin",
        ],
        0o600,
    )
