"""What operators see of a running server, through the real command line."""

import json
import os
import signal
from pathlib import Path

from spalloc_server import __version__
from tests.support import ONE_TRIAD, Client, ready, running_server, wait_until

OTHER_WIRING = ONE_TRIAD.replace("(0, 0, z) for z", "(0, 0, z + 3) for z")


def test_state_is_kept_where_it_is_asked_for(tmp_path: Path) -> None:
    state_dir = tmp_path / "state"
    state_dir.mkdir()
    etc = tmp_path / "etc"
    etc.mkdir()
    options = ("--simulate", "--state-dir", str(state_dir))
    with running_server(ONE_TRIAD, *options, folder=etc) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me")
        assert (state_dir / ".spalloc.cfg.state.lock").exists()
        assert server.stop() == 0
    assert os.listdir(etc) == ["spalloc.cfg"]
    assert os.listdir(state_dir) == [f".spalloc.cfg.state.{__version__}"]
    with (
        running_server(etc / "spalloc.cfg", *options) as server,
        Client(server.port) as client,
    ):
        assert [job["job_id"] for job in client.call("list_jobs")] == [job_id]


def test_a_reload_names_the_jobs_that_it_destroys_and_their_owners(
    tmp_path: Path,
) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            lost = [
                client.call("create_job", owner=f"{name}@example.org")
                for name in ("ada", "bob")
            ]
            client.call("create_job", 1, 1, owner="waits@example.org")
            wait_until(lambda: all(ready(client, job_id) for job_id in lost))
            server.config_file.write_text(OTHER_WIRING)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("Machines: changed: m")
        first = server.log.index("will be destroyed")
        assert first < server.log.index("ended: Machine removed.")
        for job_id, owner in zip(lost, ("ada", "bob"), strict=True):
            assert (
                f"WARNING Job {job_id} of {owner}@example.org (1 boards) will be "
                "destroyed: machine m has been rewired or readdressed\n"
            ) in server.log
        assert "Job 3 of waits@example.org (" not in server.log

        wait_until(lambda: "Job 3 " in server.log or _allocated(server.port, 3))
        server.config_file.write_text("configuration = Configuration()")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("Machines: removed: m")
        assert (
            "Job 3 of waits@example.org (3 boards) will be destroyed: "
            "machine m has been removed\n"
        ) in server.log


def _allocated(port: int, job_id: int) -> bool:
    with Client(port) as client:
        return client.call("get_job_machine_info", job_id)["boards"] is not None


def test_a_harmless_reload_warns_of_nothing(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me")
            wait_until(lambda: ready(client, job_id))
        server.config_file.write_text(
            ONE_TRIAD.replace('"m",', '"m", dead_boards={(0, 0, 1)},')
        )
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("Machines: changed: m")
        assert "destroyed" not in server.log


def test_the_log_as_json(tmp_path: Path) -> None:
    options = ("--simulate", "--log-format", "json")
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        server.config_file.write_text("x = (\n")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("The old configuration stays")
        assert server.stop() == 0
        entries = [json.loads(line) for line in server.log.splitlines()]
    levels = {entry["message"].split(":")[0]: entry["level"] for entry in entries}
    assert levels["Cold start"] == "info"
    assert levels["The old configuration stays in force"] == "error"
    assert {"time", "level", "logger", "thread", "message"} == set(entries[0])


def test_log_levels(tmp_path: Path) -> None:
    options = ("--simulate", "--log-level", "debug")
    with (
        running_server(ONE_TRIAD, *options, folder=tmp_path) as server,
        Client(server.port),
    ):
        server.wait_for_log(r"DEBUG Client .* connected")


def test_simulated_hardware_is_for_this_computer_only(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        server.wait_for_log(r"Listening on 127\.0\.0\.1 port")
        # But for those who say where else.
        config = ONE_TRIAD.replace("seconds_", "ip='0.0.0.0', seconds_")
        server.config_file.write_text(config)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log(r"Listening on 0\.0\.0\.0 port")


def test_no_job_may_be_silent_for_longer_than_is_set(tmp_path: Path) -> None:
    config = ONE_TRIAD.replace("seconds_", "longest_keepalive=90.5, seconds_")
    with (
        running_server(config, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        for asked, given in (
            ({"keepalive": None}, 90.5),
            ({"keepalive": 1e6}, 90.5),
            ({"keepalive": 90}, 90.0),
            ({}, 60.0),
        ):
            job_id = client.call("create_job", owner="me", **asked)
            assert client.call("get_job_state", job_id)["keepalive"] == given
            client.call("destroy_job", job_id)
        # Nor is it told why a job has ended where nobody said so.
        server.wait_for_log(r"Job 1 of me ended\n")
        server.config_file.write_text(config.replace("90.5", "7"))
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("read again")
        wait_until(lambda: "Machines: unchanged" in server.log)
        job_id = client.call("create_job", owner="me")
        keepalive = client.call("get_job_state", job_id)["keepalive"]
        assert (keepalive, type(keepalive)) == (7.0, float)
