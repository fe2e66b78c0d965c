"""``spalloc_server --check``, through the real command line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import forked_process
from tests.admin_command import Admin
from tests.support import (
    ONE_TRIAD,
    Client,
    ready,
    running_server,
    wait_until,
)

SPARE = """
spare = Machine.with_standard_ips(
    "spare",
    tags={"default", "spare"},
    board_locations={(0, 0, z): (0, 0, z) for z in range(3)},
    base_ip="10.11.99.0",
    dead_boards={(0, 0, 2)},
)
"""
TWO = SPARE + ONE_TRIAD.replace("    ],\n", "    ] + [spare],\n")


def check(*args: str) -> subprocess.CompletedProcess[str]:
    return forked_process.run("spalloc_server", "--check", *args)


def write(folder: Path, config: str) -> str:
    file = folder / "spalloc.cfg"
    file.write_text(config)
    return str(file)


def test_what_is_in_a_config(tmp_path: Path) -> None:
    config = write(tmp_path, TWO)
    done = check(config)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"{config}: the configuration is valid",
        "machine m: 1 x 1 triads, 3 boards, 3 of them working; tags: default",
        "  cabinet 0 frame 0: BMP 10.11.12.0, 3 working boards",
        "machine spare: 1 x 1 triads, 3 boards, 2 of them working; "
        "tags: default, spare",
        "  cabinet 0 frame 0: BMP 10.11.99.0, 2 working boards",
        "  dead board (0, 0, 2): cabinet 0 frame 0 board 2",
        "suspicious: seconds_before_free is 0: boards switched on again too soon "
        "come up unstable",
        "suspicious: machine spare: 1 of its 3 boards are dead",
        "server: none is running with this config file",
    ]
    assert os.listdir(tmp_path) == ["spalloc.cfg"]


@pytest.mark.parametrize(
    ("config", "problem"),
    [("x = (\n", ":1: '(' was never closed"), (None, ": cannot be read: No such")],
)
def test_a_config_that_the_server_would_refuse(
    tmp_path: Path, config: str | None, problem: str
) -> None:
    file = str(tmp_path / "spalloc.cfg") if config is None else write(tmp_path, config)
    done = check(file)
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith(f"{file}{problem}")


def test_probing(tmp_path: Path) -> None:
    config = write(tmp_path, TWO)
    done = check("--probe", "--simulate", config)
    assert done.returncode == 0
    assert "probed: 2 of 2 BMPs answer" in done.stdout
    assert "no answer" not in done.stdout

    # A loopback address at which nobody serves.
    config = write(
        tmp_path,
        'configuration = Configuration(machines=[Machine.single_board("m", '
        'bmp_ip="127.99.31.7", spinnaker_ip="127.99.31.8")])',
    )
    done = check("--probe", config)
    assert done.returncode == 1
    assert "error: machine m cabinet 0 frame 0: BMP 127.99.31.7: " in done.stdout
    assert "probed: 0 of 1 BMPs answer" in done.stdout


def test_probing_is_a_part_of_checking(tmp_path: Path) -> None:
    config = write(tmp_path, ONE_TRIAD)
    done = subprocess.run(
        [sys.executable, "-m", "spalloc_server", "--probe", config],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "--probe is for use with --check" in done.stderr


def test_what_a_reload_would_do(tmp_path: Path) -> None:
    with (
        running_server(TWO, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        config = str(server.config_file)
        kept = client.call("create_job", owner="ada", machine="m")
        lost = client.call("create_job", 2, owner="bob", machine="spare")
        queued = client.call("create_job", owner="cyd", machine="spare")
        wait_until(lambda: all(ready(client, job) for job in (kept, lost)))
        before = client.call("list_jobs")
        state = sorted(os.listdir(tmp_path))

        done = check(config)
        assert f"process {server.process.pid}, " in done.stdout
        assert f" port {server.port}\n" in done.stdout
        assert reload_lines(done) == [
            "changes no machine",
            "destroys none of 3 jobs",
        ]

        # What is drained, or out of service, is not dead by the configuration.
        Admin(server).text("drain", "m", "--board", 0, 0, 2)
        write(tmp_path, ONE_TRIAD.replace('"m",', '"m", dead_boards={(0, 0, 1)},'))
        done = check(config)
        assert done.returncode == 0
        assert reload_lines(done) == [
            "removes machine spare",
            "changes machine m, jobs go on; dead boards: +(0, 0, 1)",
            f"destroys job {lost} of bob: 2 boards of spare",
            f"cancels queued job {queued} of cyd, which asks for machine spare",
        ]

        write(tmp_path, TWO.replace("10.11.99.0", "10.11.98.0").replace('"m"', '"n"'))
        assert reload_lines(check(config)) == [
            "adds machine n",
            "removes machine m",
            "changes machine spare, which is wired or addressed anew",
            f"destroys job {kept} of ada: 1 boards of m",
            f"destroys job {lost} of bob: 2 boards of spare",
        ]

        write(tmp_path, "")
        assert check(config).returncode == 1
        # Nothing has changed by it.
        assert [job["job_id"] for job in client.call("list_jobs")] == [
            job["job_id"] for job in before
        ]
        assert sorted(os.listdir(tmp_path)) == state


def reload_lines(done: subprocess.CompletedProcess[str]) -> list[str]:
    lines = done.stdout.splitlines()
    return [line[8:] for line in lines if line.startswith("reload: ")]


def test_what_a_reload_would_do_with_state_elsewhere(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir()
    options = ("--state-dir", str(state))
    with running_server(ONE_TRIAD, "--simulate", *options, folder=tmp_path) as server:
        config = str(server.config_file)
        assert "none is running" in check(config).stdout
        assert f"process {server.process.pid}" in check(config, *options).stdout
        server.process.kill()
        server.wait()
        # What it has left behind is not taken for a server.
        assert (state / ".spalloc.cfg.state.lock").exists()
        assert "none is running" in check(config, *options).stdout


def test_a_server_that_cannot_be_asked(tmp_path: Path) -> None:
    config = ONE_TRIAD.replace(
        "seconds_", "allowed_networks=['192.0.2.0/24'], seconds_"
    )
    with running_server(config, "--simulate", folder=tmp_path) as server:
        done = check(str(server.config_file))
    assert done.returncode == 0
    assert "server: cannot be asked for its jobs: " in done.stdout
    assert "reload: changes no machine" in done.stdout


def test_a_lock_file_of_somebody_else(tmp_path: Path) -> None:
    config = write(tmp_path, ONE_TRIAD)
    (tmp_path / ".spalloc.cfg.state.lock").write_text("nonsense\n")
    done = check(config)
    assert done.returncode == 0
    assert "server: cannot understand lock file " in done.stdout
