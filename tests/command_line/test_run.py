"""The real command line, in processes of its own."""

import gc
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from spalloc_server import __version__
from spalloc_server.command_line import run as cli
from tests import forked_process
from tests.support import (
    ONE_TRIAD,
    TIMEOUT,
    Client,
    free_port,
    from_nothing,
    ready,
    running_server,
    wait_until,
)

NO_MACHINE = "configuration = Configuration()\n"
TWO = ONE_TRIAD.replace("configuration =", "first =") + ONE_TRIAD.replace(
    '"m"', '"n"'
).replace(".12.0", ".13.0").replace(
    "],\n    seconds", "] + first.machines,\n    seconds"
)


def run(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "spalloc_server", *args],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        **options,
    )


def write(folder: Path, config: str) -> str:
    file = folder / "spalloc.cfg"
    file.write_text(config)
    return str(file)


def test_version() -> None:
    for option in ("--version", "-V"):
        done = run(option)
        assert (done.returncode, done.stdout) == (0, f"spalloc_server {__version__}\n")


def test_help_names_every_option() -> None:
    done = run("--help")
    assert done.returncode == 0
    for option in (
        *("--version", "--quiet", "--cold-start", "--port PORT"),
        *("--watch-config", "--simulate", "CONFIG_FILE"),
    ):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("args", "problem"),
    [
        ((), "required: CONFIG_FILE"),
        (("a.cfg", "b.cfg"), "unrecognized arguments: b.cfg"),
        (("a.cfg", "--port", "x"), "argument -p/--port: invalid port value: 'x'"),
        (("a.cfg", "--port", "65536"), "invalid port value: '65536'"),
        (("a.cfg", "--port", "-1"), "invalid port value: '-1'"),
        (("a.cfg", "--nonsense"), "unrecognized arguments: --nonsense"),
    ],
)
def test_wrong_arguments(args: tuple[str, ...], problem: str) -> None:
    done = forked_process.run("spalloc_server", *args)
    assert done.returncode == 2
    assert problem in done.stderr
    assert "Traceback" not in done.stderr


def test_options() -> None:
    defaults = cli.parse_arguments(["a.cfg"])
    assert defaults == cli.Options(
        config="a.cfg",
        quiet=False,
        cold_start=False,
        port=None,
        watch_config=False,
        simulate=False,
    )
    assert cli.parse_arguments(
        ["-q", "--cold-start", "-p", "0", "a.cfg", "--watch-config", "--simulate"]
    ) == cli.Options("a.cfg", True, True, 0, True, True)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_stop_the_server_in_good_order(
    tmp_path: Path, number: signal.Signals
) -> None:
    with from_nothing(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            client.call("create_job", 1, 1, owner="me")
        assert server.stop(number) == 0
        state = tmp_path / f".spalloc.cfg.state.{__version__}"
        assert state.exists()
        assert state.stat().st_mode & 0o777 == 0o600
        assert f"state saved to {state}" in server.log
        # Flushed: the power command of the job was still carried out.
        assert "powered on boards" in server.log
        assert "Traceback" not in server.log
        left = os.listdir(tmp_path)
        assert not [name for name in left if name.endswith((".lock", ".new"))]


def test_one_line_says_where_the_server_listens(tmp_path: Path) -> None:
    with from_nothing(NO_MACHINE, folder=tmp_path) as server:
        line = server.wait_for_log(
            r"(?m)^\d{4}-\d\d-\d\d \S+ INFO Listening on (\S+) port (\d+)$"
        )
        assert line[1] == "0.0.0.0"
        with Client(int(line[2])) as client:
            assert client.call("version") == __version__


def test_a_job_outlives_a_restart(tmp_path: Path) -> None:
    with from_nothing(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me")
            wait_until(lambda: ready(client, job_id))
            before = client.call("list_jobs")
        assert server.stop() == 0
    with from_nothing(server.config_file, "--simulate") as server:
        server.wait_for_log("Warm start")
        with Client(server.port) as client:
            assert client.call("list_jobs") == before
            client.call("destroy_job", job_id)
        assert server.stop() == 0
    with from_nothing(server.config_file, "--simulate", "--cold-start") as server:
        server.wait_for_log("Cold start")
        with Client(server.port) as client:
            assert client.call("create_job", owner="me") == 1


def test_simulated_machines_that_only_the_saved_state_knows(tmp_path: Path) -> None:
    with running_server(TWO, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            job_id = client.call("create_job", 1, 1, owner="me", machine="n")
            wait_until(lambda: ready(client, job_id))
        server.stop()
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            reason = client.call("get_job_state", job_id)["reason"]
            assert reason == "Machine removed."
        # Its boards are powered off, at the simulator.
        server.wait_for_log(r"BMP 10\.11\.13\.0: powered off boards")
        server.wait_for_log(r"Simulating BMP 10\.11\.13\.0 at 127\.0\.0\.1")
        assert server.stop() == 0


def test_sighup_and_broken_configs(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        write(tmp_path, TWO)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("Machines: added: n")
        with Client(server.port) as client:
            job_id = client.call("create_job", owner="me", machine="n")
            wait_until(lambda: ready(client, job_id))
            config = write(tmp_path, "\nx = Machine(\n")
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log(rf"ERROR The old configuration stays.*{config}:2: ")
            assert ready(client, job_id)
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_watching_the_config(tmp_path: Path) -> None:
    with running_server(
        ONE_TRIAD, "--simulate", "--watch-config", folder=tmp_path
    ) as server:
        write(tmp_path, TWO)
        server.wait_for_log("Machines: added: n")
        other = tmp_path / "new.cfg"
        other.write_text(ONE_TRIAD)
        os.replace(other, server.config_file)
        server.wait_for_log("Machines: removed: n")
        assert server.stop() == 0


def test_the_config_is_not_watched_unless_asked(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        write(tmp_path, TWO)
        with Client(server.port) as client:
            assert len(client.call("list_machines")) == 1
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("Machines: added: n")
        assert server.log.count("read again") == 1


def test_quiet_hides_all_but_errors(tmp_path: Path) -> None:
    config = write(tmp_path, NO_MACHINE)
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", "-q", "-p", str(port), config],
        stderr=subprocess.PIPE,
        text=True,
    )

    def answers() -> bool:
        try:
            with Client(port) as client:
                return bool(client.call("version") == __version__)
        except ConnectionRefusedError:
            return False

    wait_until(answers)
    process.terminate()
    assert process.communicate(timeout=TIMEOUT)[1] == ""
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        (
            "x = 1\nraise ValueError('no\\nsuch\\nluck')\n",
            ":2: ValueError: no such luck",
        ),
        ("x = (\n", ":1: '(' was never closed"),
        ("import sys\nsys.exit(0)\n", ":2: SystemExit: 0"),
        ("", ": does not define the variable 'configuration'"),
        (None, ": cannot be read: No such file or directory"),
    ],
)
def test_configs_that_cannot_be_used(
    tmp_path: Path, config: str | None, problem: str
) -> None:
    file = str(tmp_path / "spalloc.cfg")
    if config is not None:
        write(tmp_path, config)
    done = forked_process.run("spalloc_server", file, "--port", "0")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"{file}{problem}" in line
    assert " CRITICAL " in line


def test_errors_at_start_are_told_even_when_quiet(tmp_path: Path) -> None:
    done = run("--quiet", str(tmp_path / "nothing.cfg"))
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


def test_a_port_in_use(tmp_path: Path) -> None:
    config = write(tmp_path, NO_MACHINE)
    with socket.create_server(("0.0.0.0", 0)) as other:
        port = other.getsockname()[1]
        done = run(config, "--port", str(port))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.endswith(f"cannot listen on any IP port {port}: Address already in use")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    config = write(tmp_path, NO_MACHINE)
    lock = tmp_path / ".spalloc.cfg.state.lock"
    if os.geteuid() == 0:
        lock.mkdir()  # root may write everywhere, but not this
    else:
        tmp_path.chmod(0o500)
    done = run(config, "--port", "0")
    tmp_path.chmod(0o700)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"cannot write state file {lock}: " in line


def test_a_second_server_on_the_same_state(tmp_path: Path) -> None:
    with from_nothing(NO_MACHINE, folder=tmp_path) as server:
        done = run(str(server.config_file), "--port", "0")
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert f"in use by another server, process {server.process.pid} " in line
        server.process.kill()
        server.wait()
    # What was killed holds nothing.
    with from_nothing(server.config_file) as server:
        assert server.stop() == 0


def test_a_bmp_address_that_cannot_be_simulated(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        'configuration = Configuration(machines=[Machine.single_board("m", '
        'bmp_ip="127.99.88.77", spinnaker_ip="127.99.88.78")])',
    )
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.99.88.77", 17893))
        done = run(config, "--port", "0", "--simulate")
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.search(r"CRITICAL .*127\.99\.88\.77 .*port 17893", done.stderr)


@pytest.mark.parametrize("explicit", [True, False])
def test_an_explicit_port_wins_over_the_config(tmp_path: Path, explicit: bool) -> None:
    asked, configured = free_port(), free_port()
    config = write(tmp_path, f"configuration = Configuration(port={configured})")
    options = ["--port", str(asked)] if explicit else []
    process = subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", config, *options],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Listening" in line:
            break
    process.terminate()
    process.communicate(timeout=TIMEOUT)
    assert line.endswith(f" port {asked if explicit else configured}\n")


class FakeServer:
    """Just enough of a server for the process around it."""

    def __init__(self, failed: bool) -> None:
        self.failed = failed
        self.stop_requests = 0
        self.frozen = 0
        self.collects = False

    def request_stop(self) -> None:
        self.stop_requests += 1

    def join(self) -> None:
        self.frozen = gc.get_freeze_count()
        self.collects = gc.isenabled()


@pytest.mark.parametrize("failed", [False, True])
def test_the_exit_status_tells_a_failure(failed: bool) -> None:
    assert cli.run(
        lambda _options, _prepare: FakeServer(failed), cli.parse_arguments(["x"])
    ) == int(failed)


def test_what_is_there_from_the_start_is_not_looked_through_for_garbage() -> None:
    server = FakeServer(False)
    gc.disable()  # as it is while modules are imported
    try:
        cli.run(lambda _options, _prepare: server, cli.parse_arguments(["x"]))
        assert server.frozen > 10_000
        assert server.collects
    finally:
        gc.enable()
        gc.unfreeze()


def test_a_signal_while_the_server_starts_is_not_lost() -> None:
    server = FakeServer(False)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = [signal.getsignal(number) for number in numbers]

    def start(_options: cli.Options, _prepare: cli.Prepare) -> FakeServer:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGHUP)
        assert server.stop_requests == 0
        return server

    assert cli.run(start, cli.parse_arguments(["x"])) == 0
    assert server.stop_requests == 1
    assert before == [signal.getsignal(number) for number in numbers]


def test_a_signal_before_the_server_starts_is_not_lost() -> None:
    server = FakeServer(False)
    options = cli.parse_arguments(["x"])
    early = [signal.SIGHUP, signal.SIGTERM]
    assert cli.run(lambda _options, _prepare: server, options, early) == 0
    assert server.stop_requests == 1


def test_the_limit_of_open_files_is_raised(tmp_path: Path) -> None:
    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (100, 300))

    config = write(tmp_path, NO_MACHINE)
    process = subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", config, "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lower,
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "Listening" in line:
            break
    limits = Path(f"/proc/{process.pid}/limits").read_text()
    port = int(line.split()[-1])
    clients = []
    for _ in range(400):
        with Client(port) as probe:
            clients.append(probe.socket.dup())
    process.terminate()
    _, log = process.communicate(timeout=TIMEOUT)
    for client in clients:
        client.close()
    assert re.search(r"Max open files +300 +300 ", limits)
    assert log.count("Out of file descriptors") == 1
    assert process.returncode == 0
