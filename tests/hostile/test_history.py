"""A history that is damaged, or in the way, never stops the service."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.test_http import OPTIONS, http_port
from tests.support import ONE_TRIAD, Client, ServerProcess, running_server, wait_until

HISTORY = ".spalloc.cfg.history"

Damage = Callable[[Path], object]


def ended(server: ServerProcess) -> Any:
    url = f"http://127.0.0.1:{http_port(server)}/api/ended"
    with urllib.request.urlopen(url) as answer:
        return json.load(answer)


def run_a_job(server: ServerProcess) -> int:
    with Client(server.port) as client:
        job_id: int = client.call("create_job", owner="me")
        client.call("destroy_job", job_id)
    return job_id


def flip(position: float) -> Damage:
    """Change some bits at a place that is given as a share of the file."""

    def damage(file: Path) -> None:
        contents = bytearray(file.read_bytes())
        at = int(position * (len(contents) - 1))
        for i in range(at, min(at + 64, len(contents))):
            contents[i] ^= 0x55
        file.write_bytes(contents)

    return damage


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zeros(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def nonsense(file: Path) -> None:
    file.write_bytes(b"nonsense" * 10_000)


def empty(file: Path) -> None:
    file.write_bytes(b"")


def folder(file: Path) -> None:
    file.unlink()
    (file / "inside").mkdir(parents=True)


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


def dangling(file: Path) -> None:
    file.unlink()
    file.symlink_to(file.with_name("nowhere") / "at-all")


def itself(file: Path) -> None:
    file.unlink()
    file.symlink_to(file)


def folder_as_log(file: Path) -> None:
    for suffix in ("-wal", "-shm"):
        other = file.with_name(file.name + suffix)
        other.unlink(missing_ok=True)
        other.mkdir()


def other_tables(file: Path) -> None:
    file.unlink()
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("create table events (something text)")


def bad_entries(file: Path) -> None:
    with contextlib.closing(sqlite3.connect(file)) as database, database:
        database.execute("update events set entry = '{nonsense'")


DAMAGES: list[Damage] = [
    *(flip(position) for position in (0.0, 0.001, 0.01, 0.2, 0.35, 0.5, 0.9, 1.0)),
    *(cut, zeros, nonsense, empty, folder, fifo, dangling, itself),
    *(folder_as_log, other_tables, bad_entries),
]

QUICK = (1, 8, 9, 12, 13, 17)

JOBS = 20
"""Jobs of which a history is kept that is going to be damaged."""


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server has left in its folder: only for copying."""
    left = tmp_path_factory.mktemp("kept")
    with running_server(ONE_TRIAD, *OPTIONS, folder=left) as server:
        for _ in range(JOBS):
            last = run_a_job(server)
        assert last == JOBS
        wait_until(lambda: len(ended(server)) == JOBS)
        assert server.stop() == 0
    return left


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(
            damage,
            id=f"{number}-{damage.__name__}",
            marks=() if number in QUICK else pytest.mark.slow,
        )
        for number, damage in enumerate(DAMAGES)
    ],
)
def test_a_damaged_history_is_kept_aside_and_begun_anew(
    tmp_path: Path, kept: Path, damage: Damage
) -> None:
    shutil.copytree(kept, tmp_path, dirs_exist_ok=True)
    history = tmp_path / HISTORY
    damage(history)
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        job_id = run_a_job(server)
        assert job_id == JOBS + 1
        # What can be read of the old ones may still be told, but the new one is.
        wait_until(lambda: job_id in [entry["job"] for entry in ended(server)])
        assert server.stop() == 0
    assert "Traceback" not in server.log
    assert server.log.count(" ERROR") <= 1
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        assert job_id in [entry["job"] for entry in ended(server)]
        assert server.stop() == 0
    assert " ERROR" not in server.log
    if history.is_dir():
        shutil.rmtree(history)


@pytest.mark.parametrize("damage", [zeros, nonsense, cut, folder])
def test_a_history_that_breaks_while_the_server_runs(
    tmp_path: Path, damage: Damage
) -> None:
    history = tmp_path / HISTORY
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        for _ in range(20):
            run_a_job(server)
        wait_until(lambda: len(ended(server)) == 20)
        damage(history)

        def is_told() -> bool:
            job_id = run_a_job(server)
            with contextlib.suppress(urllib.error.HTTPError):
                return job_id in [entry["job"] for entry in ended(server)]
            return False

        wait_until(is_told)
        assert server.stop() == 0
    assert "Traceback" not in server.log
    assert server.log.count(" ERROR") <= 2


def test_without_permission_there_is_a_service_without_history(tmp_path: Path) -> None:
    # Root may write everywhere; but nobody can make a file in /proc.
    options = (*OPTIONS, "--job-log", str(tmp_path / "log"))
    (tmp_path / HISTORY).symlink_to("/proc/self/fdinfo/none")
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        run_a_job(server)
        assert ended(server) is not None
        assert server.stop() == 0
    assert "Traceback" not in server.log
