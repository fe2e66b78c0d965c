"""Logs that nobody reads, and clients that would write them."""

import contextlib
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ONE_TRIAD, TIMEOUT, Client, free_port, wait_until

FAKE = "me\n2026-01-01 00:00:00,000 CRITICAL all is lost\x1b[2J\r\x9b1m\u202e\u2028<2>x"
"""An owner who would write log lines, and to the terminal."""


@contextlib.contextmanager
def server_with(
    folder: Path,
    *options: str,
    stderr: int | None,
    command: str = 'exec "$@"',
    module: str = "spalloc_server",
) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A server whose standard error is what the test says, and its port."""
    config = folder / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    port = free_port()
    with subprocess.Popen(
        [
            *("sh", "-c", command, "sh", sys.executable, "-m", module),
            *(str(config), "--simulate", "--port", str(port), *options),
        ],
        stdin=subprocess.DEVNULL,
        stderr=stderr,
    ) as process:
        try:
            wait_until(lambda: _answers(port) or process.poll() is not None)
            assert process.returncode is None
            yield process, port
        finally:
            process.kill()


def _answers(port: int) -> bool:
    try:
        with Client(port) as client:
            return bool(client.call("version"))
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> float:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(TIMEOUT) == 0
    return time.monotonic() - began


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, 4096)
    yield reader, writer
    for fd in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(fd)


def _make_noise(port: int, jobs: int) -> None:
    with Client(port) as client:
        for _ in range(jobs):
            client.call("destroy_job", client.call("create_job", owner="me"), "x" * 100)


def test_a_log_that_nobody_reads(tmp_path: Path, pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with server_with(tmp_path, stderr=writer) as (process, port):
        began = time.monotonic()
        _make_noise(port, 200)
        assert time.monotonic() - began < 20
        assert _end(process) < 20
        assert len(os.read(reader, 1 << 20)) >= 4096 - 200


def test_a_log_that_is_read_late_says_what_was_lost(
    tmp_path: Path, pipe: tuple[int, int]
) -> None:
    reader, writer = pipe
    with server_with(tmp_path, "--log-level", "debug", stderr=writer) as (
        process,
        port,
    ):
        os.close(writer)
        # Its limit for one client does not count for many.
        for n in range(1, 40):
            with Client(port) as client:
                client.send(b"x" * 100 + b"\n")
                assert client.is_disconnected()
            del n
        log = bytearray()
        os.set_blocking(reader, False)
        process.send_signal(signal.SIGTERM)

        def read() -> bool:
            with contextlib.suppress(BlockingIOError):
                while data := os.read(reader, 1 << 16):
                    log.extend(data)
            return process.poll() is not None

        wait_until(read)
        read()
    text = log.decode()
    assert text.count("bad command") == 39
    assert text.rstrip().endswith("spalloc.cfg.state.1.0.0")  # in order to the end


@pytest.mark.parametrize(
    "command",
    [
        'exec "$@" 2>&-',
        'exec "$@" 0<&- 1>&- 2>&-',
        'exec "$@" 2>/dev/full',
        'exec "$@" 2>&1 | true',
    ],
)
def test_a_log_that_cannot_be_written(tmp_path: Path, command: str) -> None:
    if "|" in command:
        command = command.replace("| true", "| head -c 1 >/dev/null")
        command = f"pid=$$; {command}"
    with server_with(tmp_path, stderr=None, command=command) as (process, port):
        _make_noise(port, 20)
        with Client(port) as client:
            assert client.call("list_machines")[0]["name"] == "m"
        if "|" not in command:
            assert _end(process) < 20
            # Nothing was written to what would have had the descriptor 2.
            for file in tmp_path.iterdir():
                assert b"INFO" not in file.read_bytes(), file
        else:
            [server] = _servers(tmp_path)
            os.kill(server, signal.SIGTERM)
            wait_until(lambda: not _servers(tmp_path))
            assert any(".state." in name for name in os.listdir(tmp_path))


def _servers(folder: Path) -> list[int]:
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if b"spalloc_server" in arguments[:3] and f"{folder}/spalloc.cfg".encode() in (
            arguments
        ):
            found.append(int(file.parent.name))
    return found


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nobody_writes_lines_of_their_own(tmp_path: Path, log_format: str) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        server_with(
            tmp_path,
            *("--log-format", log_format, "--log-level", "debug"),
            stderr=stderr.fileno(),
        ) as (process, port),
    ):
        with Client(port) as client:
            job_id = client.call("create_job", owner=FAKE)
            client.call("report_problem", "10.11.12.1", 0, 0, 0, FAKE)
            client.call("destroy_job", job_id, FAKE)
            for machine in (FAKE, "x\ny"):
                with contextlib.suppress(Exception):
                    client.call("create_job", owner=FAKE, machine=machine, tags=[FAKE])
            with contextlib.suppress(Exception):
                client.call("create_job", FAKE)
            client.send(FAKE.encode() + b"\n")
            assert client.is_disconnected()
        _end(process)
    data = log.read_bytes()
    assert b"all is lost" in data
    text = data.decode("ascii" if log_format == "json" else "utf-8")
    assert all(c.isprintable() for c in text.replace("\n", ""))
    for line in text.splitlines():
        if log_format == "json":
            assert json.loads(line)["level"] != "critical"
        else:
            assert re.match(r"\d{4}-\d\d-\d\d \S+ (DEBUG|INFO|WARNING) ", line), line


@pytest.mark.parametrize("job", [True, False])
def test_one_client_cannot_fill_the_log(tmp_path: Path, job: bool) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        server_with(tmp_path, stderr=stderr.fileno()) as (process, port),
    ):
        if job:
            with Client(port) as client:
                for _ in range(30):
                    for _ in range(100):
                        client.send_command("create_job", 50, 50, owner=50 * "x")
                    for _ in range(100):
                        client.reply()
        else:
            for _ in range(2000):
                with Client(port) as client:
                    client.send(b"x" * 199 + b"\n")
                    assert client.is_disconnected()
        _end(process)
    text = log.read_text()
    assert len(text) < 400_000
    assert (
        text.count("Too many log lines from 127.0.0.1: from now on they are only") == 1
    )
    [suppressed] = re.findall(r"WARNING (\d+) more log lines from 127.0.0.1 supp", text)
    said = text.count("bad command") + len(re.findall("Job .* (asks for|ended)", text))
    assert int(suppressed) + 1 + said == (6000 if job else 2000)
    # What has nothing to do with it is there.
    assert "state saved" in text


def run(command: str, *args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command through the shell, which has the interpreter as $PYTHON."""
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}", "bash", *args],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        env={**os.environ, "PYTHON": sys.executable, **env},
    )


USAGE = (
    'exec "$PYTHON" -c "import sys; from spalloc_server.command_line.usage_report '
    'import main; sys.exit(main(sys.argv[1:]))" "$@"'
)
CHECK = '"$PYTHON" -m spalloc_server --check "$@"'


@pytest.fixture
def config(tmp_path: Path) -> str:
    file = tmp_path / "mäsch.cfg"
    file.write_text(ONE_TRIAD.replace('"m"', '"mäsch\\x1b[2J"'), encoding="utf-8")
    return str(file)


@pytest.fixture
def job_log(tmp_path: Path) -> str:
    file = tmp_path / "jobs.log"
    lines = []
    for job in range(5000):
        for seconds, event in enumerate(("created", "allocated", "destroyed")):
            entry = {
                **{"time": 1.7e9 + 60 * seconds, "event": event, "job": job},
                **{"owner": f"=ä{job}", "host": None, "created": 1.7e9, "args": []},
                **{"kwargs": {}, "machine": "m", "boards": [[job, 0, 0]]},
                **{"power": True, "reason": None},
            }
            lines.append(json.dumps(entry))
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def test_output_of_which_only_the_beginning_is_read(config: str, job_log: str) -> None:
    for command, file in (
        (CHECK, config),
        (USAGE, job_log),
        (f"{USAGE} --csv", job_log),
    ):
        done = run(f"({command}) | head -n 1", file)
        assert (done.returncode, done.stderr) == (0, ""), command
        assert len(done.stdout.splitlines()) == 1
        done = run(f"({command}) | true", file)
        assert done.stderr == "", command
        assert done.returncode == 0
        done = run(f"({command}) > /dev/full", file)
        assert done.returncode == 1
        assert re.fullmatch(r".*No space left on device\n", done.stderr)
    done = run('"$PYTHON" -m spalloc_server --help | true')
    assert done.stderr == ""


@pytest.mark.parametrize(
    "env", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"PYTHONUTF8": "0"}]
)
def test_output_that_cannot_hold_a_name(
    config: str, job_log: str, env: dict[str, str]
) -> None:
    done = run(CHECK, config, **env)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"machine m(ä|\\xe4)sch\\x1b\[2J: 1 x 1 triads", done.stdout)
    for command in (USAGE, f"{USAGE} --csv"):
        done = run(command, job_log, **env)
        assert (done.returncode, done.stderr) == (0, "")
        assert re.search(r"=(ä|\\xe4)17\b", done.stdout)
    done = run(CHECK, config + "ü\n", **env)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "cannot be read: No such file" in line
    done = run('"$PYTHON" -m spalloc_server -p 0 "$@"', config + "ü\n", **env)
    [line] = done.stderr.splitlines()
    assert re.search(r"CRITICAL .*sch\.cfg(ü|\\xfc)\\n: cannot be read: No such", line)


def test_owners_are_no_formulas_for_spreadsheets(job_log: str) -> None:
    rows = run(f"{USAGE} --csv", job_log).stdout.splitlines()
    assert all(row.startswith("\"'=ä") for row in rows[1:])


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with (
        log.open("wb") as stderr,
        server_with(
            tmp_path,
            *("--job-log", str(tmp_path / "jobs.log")),
            stderr=stderr.fileno(),
            module="tests.hostile.hung_disk",
        ) as (process, port),
    ):
        _make_noise(port, 20)
        assert _end(process) < 30
    assert re.search(
        r"ERROR Job history: the disk has not responded for 10 s; [1-9]\d+ events are",
        log.read_text(),
    )
    assert "state saved" in log.read_text()
