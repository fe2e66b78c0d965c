"""What two hunts for defects could not break, and nobody should."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.support import (
    ONE_TRIAD,
    Client,
    ServerProcess,
    ready,
    running_server,
    wait_until,
)

DAY = 24 * 60 * 60

PROMPT = ONE_TRIAD.replace(
    "seconds_before_free=0,", "seconds_before_free=0, timeout_check_interval=0.05,"
)
assert PROMPT != ONE_TRIAD


def state(client: Client, job_id: int) -> int:
    """The number of a job's state."""
    number = client.call("get_job_state", job_id)["state"]
    assert isinstance(number, int)
    return number


@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGQUIT, signal.SIGPIPE])
def test_signals_of_no_meaning_lose_nothing(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me", keepalive=None)
            wait_until(partial(ready, client, job_id))
        server.process.send_signal(number)
        if number == signal.SIGPIPE:
            with Client(server.port) as client:
                assert state(client, job_id) == 3
        else:
            assert server.wait() == -number
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        assert state(client, job_id) == 3


def test_a_clock_that_jumps_by_a_day(tmp_path: Path) -> None:
    wrong_by, config = tmp_path / "wrong_by", tmp_path / "spalloc.cfg"
    wrong_by.write_text("0")
    config.write_text(PROMPT)
    command = ["tests.hostile.jumping_clock", str(wrong_by), str(config)]
    server = ServerProcess(config, (), [*command, "--port", "0", "--simulate"])
    try:
        server.wait_until_ready()
        with Client(server.port) as client:
            lasting = client.call("create_job", owner="me", keepalive=30)
            for jump in (DAY, -DAY):
                # Replaced, since it is read all the time.
                wrong_by.with_suffix(".new").write_text(str(jump))
                wrong_by.with_suffix(".new").rename(wrong_by)
                before = time.monotonic()
                ending = client.call("create_job", owner="me", keepalive=0.5)
                started = client.call("list_jobs")[-1]["start_time"]
                assert abs(started - time.time() - jump) < 60
                while client.call("list_jobs")[-1]["job_id"] == ending:
                    assert time.monotonic() - before < 30
                assert time.monotonic() - before >= 0.5
                assert state(client, lasting) == 3
        assert server.stop() == 0
    finally:
        server.kill()


def test_jobs_expire_in_time_and_none_early(tmp_path: Path) -> None:
    with (
        running_server(PROMPT, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
        Client(server.port) as watcher,
    ):
        began: dict[int, float] = {}
        answered: dict[int, float] = {}
        for _ in range(20):
            before = time.monotonic()
            job_id = client.call("create_job", owner="me", keepalive=1.0)
            began[job_id], answered[job_id] = before, time.monotonic()
        watcher.call("notify_job")
        alive = set(began)
        while alive:
            watcher.notification()
            told = time.monotonic()
            listed = {job["job_id"] for job in watcher.call("list_jobs")}
            for job_id in alive - listed:
                assert told - began[job_id] >= 1.0
                # 0.2 s where nothing else is running.
                assert told - answered[job_id] < 3.0
            alive &= listed


def test_twenty_watchers_hear_of_every_job(tmp_path: Path) -> None:
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        ExitStack() as undo,
    ):
        watchers = [undo.enter_context(Client(server.port)) for _ in range(20)]
        for watcher in watchers:
            watcher.call("notify_job")
        client = undo.enter_context(Client(server.port))
        jobs = set()
        for _ in range(50):
            job_id = client.call("create_job", owner="me")
            client.call("destroy_job", job_id)
            jobs.add(job_id)
        for watcher in watchers:
            told: set[int] = set()
            while told != jobs:
                told.update(watcher.notification()["jobs_changed"])
                assert told <= jobs


def test_numbers_never_repeat_whatever_ends_the_server(tmp_path: Path) -> None:
    numbers: list[int] = []
    for end in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT):
        with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
            with Client(server.port) as client:
                for _ in range(3):
                    numbers.append(client.call("create_job", owner="me"))
                    client.call("destroy_job", numbers[-1])
            server.stop(end)
    assert numbers == sorted(set(numbers))


def test_a_job_that_is_ready_feels_nothing_of_a_restart(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", 3, owner="me", keepalive=None)
            wait_until(partial(ready, client, job_id))
        assert "powered on" in server.log
    for number in (signal.SIGTERM, signal.SIGKILL):
        with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
            with Client(server.port) as client:
                assert state(client, job_id) == 3
                if number == signal.SIGKILL:
                    client.call("destroy_job", job_id)
                    server.wait_for_log("powered off")
            # What its boards were told first was to go off, or they were told nothing.
            told = re.findall(r"powered (\w+)", server.log)
            assert told == ([] if number == signal.SIGTERM else ["off"])
            server.stop(number)


def test_mixed_load_with_reloads(tmp_path: Path) -> None:
    seconds = float(os.environ.get("HOSTILE_SECONDS", "4"))
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        end = time.monotonic() + seconds
        wrong: list[str] = []

        def load(number: int) -> None:
            owner = f"user {number}"
            try:
                with Client(server.port) as client:
                    while time.monotonic() < end:
                        job_id = client.call("create_job", number, owner=owner)
                        assert state(client, job_id) in (1, 2, 3)
                        client.call("power_off_job_boards", job_id)
                        client.call("job_keepalive", job_id)
                        jobs = client.call("list_jobs")
                        (own,) = (job for job in jobs if job["job_id"] == job_id)
                        assert own["owner"] == owner
                        client.call("destroy_job", job_id, "done")
                        assert state(client, job_id) in (4, 0)
            except Exception as e:
                wrong.append(repr(e))

        clients = [threading.Thread(target=load, args=[n]) for n in (1, 2, 3)]
        for thread in clients:
            thread.start()
        reloads = 0
        while time.monotonic() < end:
            server.config_file.write_text(f"# {reloads}\n{ONE_TRIAD}")
            server.process.send_signal(signal.SIGHUP)
            reloads += 1
            server.wait_for_log("read again", times=reloads)
        for thread in clients:
            thread.join()
        assert not wrong
        assert reloads > 2
        with Client(server.port) as client:
            assert client.call("list_jobs") == []
        assert server.stop() == 0
        assert "Traceback" not in server.log
