"""Config files that would take the server with them."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests import forked_process
from tests.support import ONE_TRIAD, TIMEOUT, Client, running_server, wait_until

NASTY = {
    'configuration = Configuration(ip="10.0..1")': ":1: ValueError: ip should be",
    f'configuration = Configuration(ip="{70 * "x"}")': ":1: ValueError: ip should be",
    'configuration = Configuration(ip="\\udc80")': ":1: ValueError: ip should be",
    'configuration = Configuration(ip="no.such.host.invalid")': "cannot listen on no.",
    'configuration = Configuration(ip="192.0.2.1")': "cannot listen on 192.0.2.1",
    "raise KeyboardInterrupt": ":1: KeyboardInterrupt",
    "raise SystemExit": ":1: SystemExit",
    "raise GeneratorExit": ":1: GeneratorExit",
    "class Odd(BaseException): pass\nraise Odd('x\\ny')": ":2: Odd: x y",
    "import os; os._exit(0)": "ended its process (exit status 0) without a result",
    "import os; os.abort()": "crashed its process (SIGABRT)",
    "import os; os.kill(os.getpid(), 9)": "crashed its process (SIGKILL)",
    "x = bytearray(10**12)": ":1: MemoryError",
    "configuration = Configuration(timeout_check_interval=1e-12)": "0.01 s or more",
    "configuration = Configuration(timeout_check_interval=float('nan'))": "0.01 s or m",
    "configuration = Configuration(seconds_before_free=float('inf'))": "and finite",
    "configuration = Configuration(seconds_before_free=1e300)": "31622400 s at most",
    "configuration = Configuration(first_board_retry=-1)": "0 s or more and finite",
    "configuration = Configuration(longest_board_retry=10**500)": "31622400 s at most",
    "configuration = Configuration(scheduling='lifo')": "'backfill' or 'fifo'",
    "configuration = Configuration(boards_per_owner=0)": "1 or more, not 0",
    "configuration = Configuration(port=-1)": "port should be 0 to 65535, not -1",
    "configuration = Configuration(max_retired_jobs=10**30)": "should be 0 to 10000000",
}
"""Scripts, and what the line about them has in it."""


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return forked_process.run("spalloc_server", *args)


@pytest.mark.parametrize("script", NASTY)
def test_at_the_start_it_is_one_line(tmp_path: Path, script: str) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text(script)
    done = run(str(config), "--port", "0", "--http", "0")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert " CRITICAL " in line
    assert NASTY[script] in line


def test_on_a_reload_the_old_configuration_stays(tmp_path: Path) -> None:
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        job_id = client.call("create_job", owner="me", keepalive=None)
        for count, (script, told) in enumerate(NASTY.items(), 1):
            server.config_file.write_text(script)
            server.process.send_signal(signal.SIGHUP)
            stays = "The old configuration stays in force|the old address is kept"
            line = server.wait_for_log(f"(?m)ERROR .*({stays}).*$", count)[0]
            assert told in line
            # An address that cannot be had is all that is not taken of a valid one.
            server.config_file.write_text(ONE_TRIAD)
            server.process.send_signal(signal.SIGHUP)
            server.wait_for_log("read again", count + len(_valid(count)))
            with Client(server.port) as other:
                assert other.call("version")
        assert client.call("get_job_state", job_id)["state"] in (2, 3, 4)
        assert server.stop() == 0
        assert "Traceback" not in server.log


def _valid(count: int) -> list[str]:
    """Those of the first scripts that are a configuration that can be taken."""
    return [
        told for told in list(NASTY.values())[:count] if told[:13] == "cannot listen"
    ]


@pytest.mark.parametrize(
    "script",
    [
        "while True: pass",
        "import time; time.sleep(1000)",
        "import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))\n"
        "while True: pass",
        "FIFO",
    ],
)
def test_a_script_without_end_stops_neither_service_nor_end(
    tmp_path: Path, script: str
) -> None:
    with (
        running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        if script == "FIFO":
            server.config_file.unlink()
            os.mkfifo(server.config_file)
        else:
            server.config_file.write_text(script)
        server.process.send_signal(signal.SIGHUP)
        children = Path(
            f"/proc/{server.process.pid}/task/{server.process.pid}/children"
        )
        [child] = wait_until(lambda: _children(server.process.pid))
        began = time.monotonic()
        for _ in range(100):
            assert client.call("version")
        assert time.monotonic() - began < 5
        assert not children.exists() or "read again" not in server.log
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 10
        wait_until(lambda: not Path(f"/proc/{child}").exists())
        assert "Traceback" not in server.log


def _children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_start_with_a_script_without_end_can_be_ended(
    tmp_path: Path, number: signal.Signals
) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text("while True: pass")
    with subprocess.Popen(
        [sys.executable, "-m", "spalloc_server", str(config), "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        [child] = wait_until(lambda: _children(process.pid))
        process.send_signal(number)
        began = time.monotonic()
        _, log = process.communicate(timeout=TIMEOUT)
        assert time.monotonic() - began < 10
    assert process.returncode == 0
    assert re.fullmatch(r"\S+ \S+ INFO Stopped before the server was started\n", log)
    wait_until(lambda: not Path(f"/proc/{child}").exists())


def test_reloads_that_come_while_one_goes_on_are_not_lost(tmp_path: Path) -> None:
    begun, gate = tmp_path / "begun", tmp_path / "gate"
    waiting = (
        "import os, time\n"
        f"open({str(begun)!r}, 'w').close()\n"
        f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)\n" + ONE_TRIAD
    )
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        server.config_file.write_text(waiting)
        server.process.send_signal(signal.SIGHUP)
        wait_until(begun.exists)
        server.config_file.write_text(ONE_TRIAD.replace('"m"', '"n"'))
        server.process.send_signal(signal.SIGHUP)
        with Client(server.port) as client:
            assert client.call("version")
        gate.touch()
        server.wait_for_log("Machines: added: n; removed: m")
        assert server.log.count("read again") == 2
        assert server.stop() == 0


def test_what_scripts_print_is_in_the_log(tmp_path: Path) -> None:
    with running_server(
        "print('hello from the script')\n" + ONE_TRIAD, "--simulate", folder=tmp_path
    ) as server:
        server.wait_for_log("hello from the script")
        assert server.stop() == 0


def test_check_says_what_the_server_would(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    for script, told in NASTY.items():
        if told[:13] == "cannot listen":
            continue
        config.write_text(script)
        done = run(str(config), "--check")
        assert (done.returncode, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert told in line


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(200)
def test_a_script_is_given_up_in_the_end(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        # One that is busy is given up as well: see tests/config/test_reading.py.
        server.config_file.write_text("import time; time.sleep(1000)")
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log(
            r"ERROR The old configuration stays in force: .*spalloc\.cfg: took more "
            r"than 30 s, and was given up"
        )
        server.config_file.write_text(ONE_TRIAD)
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_log("read again")
        assert server.stop() == 0


def test_an_address_for_http_that_is_none(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text("configuration = Configuration()")
    for address in ("10.0..1", 70 * "x", "no.such.host.invalid", "192.0.2.1", "ü..x"):
        done = run(
            *(str(config), "--port", "0", "--http", "0", "--http-address", address)
        )
        assert done.returncode == 1
        [line] = done.stderr.splitlines()
        assert f"CRITICAL cannot serve HTTP on {address} port 0: " in line
