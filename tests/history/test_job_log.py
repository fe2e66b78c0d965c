import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.history.job_log import JobLog
from spalloc_server.model.job_events import JobEvent
from tests.support import ONE_TRIAD, TIMEOUT, Client, ready, running_server, wait_until


def event(**changes: Any) -> JobEvent:
    return JobEvent(
        **{
            **{"kind": "allocated", "time": 1000.0625, "job_id": 7, "owner": "me <x>"},
            **{"host": "192.0.2.1", "args": (1, 2), "kwargs": {"tags": {"b", "a"}}},
            **{"start_time": 999.5, "machine": "m", "power": True, "reason": None},
            **{"boards": frozenset({(0, 0, 1), (0, 0, 0)})},
            **changes,
        }
    )


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_a_line(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    log = JobLog(str(file))
    log.open()
    log.take([event(), event(kind="created", boards=None, owner="\u2028é\n")])
    log.close()
    first, second = lines(file)
    assert first == {
        "time": 1000.062,
        "event": "allocated",
        "job": 7,
        "owner": "me <x>",
        "host": "192.0.2.1",
        "created": 999.5,
        "args": [1, 2],
        "kwargs": {"tags": ["a", "b"]},
        "machine": "m",
        "boards": [[0, 0, 0], [0, 0, 1]],
        "power": True,
        "reason": None,
    }
    assert (second["owner"], second["boards"]) == ("\u2028é\n", None)


def test_it_is_continued_also_after_a_line_that_was_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    for start in (b"", b'{"x": 1}\n', b'{"x": 1}\n{"time'):
        file.write_bytes(start)
        log = JobLog(str(file))
        log.open()
        log.take([event()])
        log.close()
        found = file.read_text().splitlines()
        assert json.loads(found[-1])["job"] == 7
        assert len(found) == len(start.splitlines()) + 1


def test_it_is_rotated(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    log = JobLog(str(file), max_bytes=1000, max_files=2)
    log.open()
    for job_id in range(20):
        log.take([event(job_id=job_id)])
    log.close()
    assert sorted(os.listdir(tmp_path)) == ["jobs.log", "jobs.log.1", "jobs.log.2"]
    kept = [
        entry["job"]
        for name in ("jobs.log.2", "jobs.log.1", "jobs.log")
        for entry in lines(tmp_path / name)
    ]
    assert kept == list(range(20))[-len(kept) :]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())


def test_a_full_disk_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full")
    log = JobLog("/dev/full")
    log.open()
    log.take([event(), event()])
    log.take([event()])
    log.close()
    assert [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR] == [
        "Cannot write job log /dev/full: No space left on device"
    ]


def test_what_the_server_writes(tmp_path: Path) -> None:
    file = tmp_path / "jobs.log"
    options = ("--simulate", "--job-log", str(file))
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        with Client(server.port) as client:
            first = client.call("create_job", 1, 1, owner="ada", tags=["default"])
            wait_until(lambda: ready(client, first))
            second = client.call("create_job", owner="bob", machine="m")
            client.call("power_off_job_boards", first)
            wait_until(lambda: ready(client, first))
            client.call("destroy_job", first, "done")
            wait_until(lambda: ready(client, second))
        assert server.stop() == 0
    entries = lines(file)
    of_first = [entry for entry in entries if entry["job"] == first]
    events = [entry["event"] for entry in of_first]
    assert events[0] == "created"
    assert events[1] == "allocated"
    assert events[-1] == "destroyed"
    assert {"power", "ready"} <= set(events)
    assert of_first[0]["kwargs"] == {"tags": ["default"]}
    assert of_first[-1]["reason"] == "done"
    assert {tuple(board) for board in of_first[-1]["boards"]} == {
        (0, 0, 0),
        (0, 0, 1),
        (0, 0, 2),
    }
    assert {entry["owner"] for entry in of_first} == {"ada"}
    assert {entry["host"] for entry in entries} == {"127.0.0.1"}
    assert {entry["machine"] for entry in of_first[1:]} == {"m"}
    times = [entry["time"] for entry in entries]
    assert times == sorted(times)
    assert [e["job"] for e in entries if e["event"] == "ready"][-1] == second

    # A warm start goes on with the same file.
    with running_server(server.config_file, *options) as server:
        with Client(server.port) as client:
            client.call("destroy_job", second)
        assert server.stop() == 0
    assert lines(file)[: len(entries)] == entries
    assert lines(file)[-1]["event"] == "destroyed"


def test_a_file_that_cannot_be_written_is_told_at_the_start(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    command = [sys.executable, "-m", "spalloc_server", "--simulate", str(config)]
    missing = tmp_path / "none" / "jobs.log"
    done = subprocess.run(
        [*command, "--port", "0", "--job-log", str(missing)],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith(f"cannot write job log {missing}: No such file or directory")


def test_only_the_running_server_opens_the_file(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        other = tmp_path / "other.log"
        command = [sys.executable, "-m", "spalloc_server", str(server.config_file)]
        for options in (["--port", "0"], ["--check"]):
            subprocess.run(
                [*command, "--job-log", str(other), *options],
                capture_output=True,
                timeout=TIMEOUT,
                check=False,
            )
        assert not other.exists()
