"""What the tutorial and the operator's guide show works, as it stands there."""

import os
import random
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.web.app import make_app
from tests.support import TIMEOUT, ServerProcess, running_server, wait_until

ROOT = Path(__file__).resolve().parent.parent
TUTORIAL = (ROOT / "docs" / "tutorial.rst").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "operating.rst").read_text(encoding="utf-8")


def commands(name: str) -> list[str]:
    """The commands below a ``.. command:`` comment of the tutorial."""
    found = re.search(
        rf"\.\. command: {name}\n\n\.\. code-block:: console\n\n((?:   .*\n)+)",
        TUTORIAL,
    )
    assert found is not None, f"no '.. command: {name}'"
    return [line.removeprefix("   $ ") for line in found[1].splitlines()]


def block(comment: str) -> str:
    found = re.search(
        rf"\.\. {comment}\n\n\.\. code-block:: \w+\n\n((?:   .*\n|\n)+)", TUTORIAL
    )
    assert found is not None, f"no '.. {comment}'"
    return textwrap.dedent(found[1])


@pytest.fixture
def net(monkeypatch: pytest.MonkeyPatch) -> str:
    """What the addresses of boards begin with: those in the tutorial may be used."""
    one, two = random.SystemRandom().randrange(2, 250), os.getpid() % 250
    text = TUTORIAL.replace("127.0.10.", f"127.{one}.{two}.")
    text = text.replace("127.0.15.", f"127.{one}.{two + 1}.")
    monkeypatch.setattr(sys.modules[__name__], "TUTORIAL", text)
    return f"127.{one}.{two}"


def shell(command: str, folder: Path, environment: dict[str, str]) -> str:
    """What a command line prints; it has to succeed."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.long
def test_the_tutorial(tmp_path: Path, net: str) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    environment = {
        **os.environ,
        "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": "none",
        "PYTHONPATH": str(ROOT),
    }

    def run(command: str) -> str:
        # The scripts are there only where the package is installed.
        return shell(without_scripts(command), tmp_path, environment)

    make, install = commands("install")
    assert make == "python3 -m venv .venv"
    assert install == ".venv/bin/python -m pip install '.[web]' spalloc"

    config = tmp_path / "machines.cfg"
    config.write_text(block("file: machines.cfg"))
    (check,) = commands("check")
    told = run(check)
    assert "machine three-boards: " in told
    assert "suspicious" not in told
    assert told.endswith("server: none is running with this config file\n")

    (start,) = commands("start")
    program, *options, name = shlex.split(start)
    assert (program, name) == (".venv/bin/spalloc_server", "machines.cfg")
    # The ports of the tutorial may be in use on the computer that tests run on.
    options[options.index("8080")] = "0"
    options[options.index("jobs.log")] = str(tmp_path / "jobs.log")
    server = ServerProcess(config, ("--port", "0", *options), forked=False)
    try:
        server.wait_until_ready()
        web = server.wait_for_log(r"Serving http://127\.0\.0\.1:(\d+)/")[1]
        for command in commands("configure"):
            run(command)
        with (tmp_path / ".spalloc").open("a") as client_configuration:
            client_configuration.write(f"port = {server.port}\n")
        (job,) = commands("job")
        assert f"My boards are at {net}.1\n" in run(job)
        (keep,) = commands("keep")
        assert "Ready\n" in run(keep)
        for command in commands("look"):
            assert "me@example.org" in run(command) or "one-board" in command
        jobs, metrics = (
            run(command.replace("8080", web)) for command in commands("web")
        )
        assert '"id":2,' in jobs
        assert 'spalloc_boards{machine="one-board",state="allocated"} 1.0' in metrics

        breaking, needing = commands("break")
        run(breaking)
        with subprocess.Popen(
            ["bash", "-c", needing],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as waiting:
            status, jobs = commands("broken")
            told = "waiting: board (0, 0, 1) is out of service since"
            wait_until(lambda: told in run(jobs))
            assert "wrong FPGA identity" in run(status)
            for command in commands("mend"):
                run(command)
            assert (
                f"My boards are at {net}.1\n" in waiting.communicate(None, TIMEOUT)[0]
            )

        old = config.read_text()
        last = block("change: machines.cfg").strip()
        config.write_text(re.sub(r"(?m)^configuration = .*$", last, old))
        assert config.read_text() != old
        (again,) = commands("check-again")
        assert run(again).endswith(
            textwrap.dedent(block_after("The last lines are about"))
        )
        (reload,) = commands("reload")
        run(reload)
        server.wait_for_log("Job 2 of me@example.org .* will be destroyed")
        server.wait_for_log("Machines: removed: one-board")
        assert server.stop() == 0
    finally:
        server.kill()
    (usage,) = commands("usage")
    rows = run(usage).splitlines()
    assert rows[0].split() == ["owner", "machine", "jobs", "board-hours"]
    assert [row.split()[:3] for row in rows[1:]] == [
        ["me@example.org", "one-board", "1"],
        ["me@example.org", "three-boards", "2"],
    ]
    assert wait_until(lambda: not (tmp_path / ".machines.cfg.state.lock").exists())


def test_the_same_job_through_spinnman(tmp_path: Path, net: str) -> None:
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    _install, *openssl = commands("gateway-install")
    make = "\n".join(openssl)
    (start,) = commands("gateway-server")
    (gateway_start,) = commands("gateway-start")
    (job,) = commands("gateway-job")
    environment = {**os.environ, "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(command: str) -> str:
        return shell(command, tmp_path, environment)

    run(make)
    last = block("change: machines.cfg").strip()
    config = tmp_path / "machines.cfg"
    text = block("file: machines.cfg")
    config.write_text(re.sub(r"(?m)^configuration = .*$", last, text))
    program, *options, name = shlex.split(start)
    assert (program, name) == (".venv/bin/spalloc_server", "machines.cfg")
    options[options.index("secret")] = str(tmp_path / "secret")
    with running_server(config, *options) as server:
        program, *options = shlex.split(gateway_start)
        assert program == ".venv/bin/spalloc_server_gateway"
        options[options.index("8443")] = "127.0.0.1:0"
        for option in ("--secret", "--cert", "--key"):
            place = options.index(option) + 1
            options[place] = str(tmp_path / options[place])
        options += ["--server", f"127.0.0.1:{server.port}"]
        options += ["--state-dir", str(tmp_path)]
        gateway = ServerProcess(config, (), ["spalloc_server_gateway", *options])
        try:
            port = gateway.wait_for_log(r"Serving https://127\.0\.0\.1:(\d+)/")[1]
            script = block("file: job.py").replace("8443", port)
            (tmp_path / "job.py").write_text(script)
            assert run(job).splitlines()[-2:] == [
                f"My boards are at {net}.1",
                "Its memory says b'Hello, chip!'",
            ]
            assert gateway.stop() == 0
        finally:
            gateway.kill()


def without_scripts(command: str) -> str:
    """A command that works where the package is not installed, so without scripts."""
    for script, module in (("admin", "admin"), ("usage", "usage_report")):
        command = command.replace(
            f".venv/bin/spalloc_server_{script}",
            f".venv/bin/python -c 'from spalloc_server.command_line.{module} "
            "import main; raise SystemExit(main())'",
        )
    return command.replace(
        ".venv/bin/spalloc_server", ".venv/bin/python -m spalloc_server"
    )


def block_after(words: str) -> str:
    found = re.search(
        rf"{words}.*\n\n\.\. code-block:: text\n\n((?:   .*\n)+)", TUTORIAL
    )
    assert found is not None
    return found[1]


# The operator's guide


def test_the_guide_tells_every_metric() -> None:
    source = (ROOT / "spalloc_server" / "web" / "metrics.py").read_text()
    served = set(re.findall(r'"(spalloc_\w+)"', source))
    told = re.findall(r"(?m)^``(spalloc_\w+)``  ", GUIDE)
    assert {re.sub("_(total|info)$", "", name) for name in told} == served


def test_the_guide_tells_every_path() -> None:
    # It is only looked at.
    nothing: Any = None
    app = make_app(nothing, nothing, nothing, nothing, nothing)
    served = {
        resource.canonical.replace("{job_id}", "N")
        for resource in app.router.resources()
    }
    paths = {path for path in served if path.startswith(("/api", "/events", "/metr"))}
    assert len(paths) >= 6
    assert paths == {path for path in paths if f"``{path}``" in GUIDE}


@pytest.mark.parametrize(
    "line", re.findall(r"\$ (spalloc_server_usage .*)", GUIDE), ids=lambda line: line
)
def test_reports_of_the_guide(line: str, tmp_path: Path) -> None:
    (tmp_path / "jobs.log").touch()
    command = line.replace("/var/log/spalloc/", "").removeprefix("spalloc_server_usage")
    done = subprocess.run(
        [
            *("bash", "-c"),
            '"$0" -c "from spalloc_server.command_line.usage_report import main; '
            f'main()" {command}',
            sys.executable,
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_files_that_the_guide_names_are_there() -> None:
    for name in set(re.findall(r"contrib/[\w.-]+\w", GUIDE)):
        assert (ROOT / name).is_file(), name
    unit = (ROOT / "contrib" / "spalloc-server.service").read_text()
    for path in ("/etc/spalloc/machines.cfg", "/opt/spalloc/bin/spalloc_server"):
        assert path in unit
        assert path in GUIDE
