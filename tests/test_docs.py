"""What README and documentation show works, as it stands there."""

import contextlib
import inspect
import json
import os
import re
import runpy
import shlex
import shutil
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from spalloc_server import __version__
from spalloc_server.command_line.admin import _COMMANDS as _COMMANDS_OF_OPERATORS
from spalloc_server.command_line.admin_options import make_parser
from spalloc_server.config.script import load_config_file
from spalloc_server.configuration import Configuration
from spalloc_server.server import _COMMANDS, SpallocServer
from tests.admin_command import run_admin

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.rst").read_text(encoding="utf-8")
MANAGEMENT = (ROOT / "docs" / "management.rst").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "operating.rst").read_text(encoding="utf-8")
COORDINATES = (ROOT / "docs" / "coordinates.rst").read_text(encoding="utf-8")
PROTOCOL = (ROOT / "docs" / "protocol.rst").read_text(encoding="utf-8")

LIMIT = 30.0
"""Seconds that something may take before it has failed."""


# --- The configuration ----------------------------------------------------------------


def _python_blocks(text: str) -> list[str]:
    """Return the Python code blocks of a page, whole."""
    blocks = re.findall(r"\.\. code-block:: python\n\n((?:   .*\n|\n)+)", text)
    return [textwrap.dedent(block) for block in blocks]


@pytest.fixture(scope="module")
def ethernet_chips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the file that the examples read, with the command that they show."""
    command = re.search(r"\$ spinner-ethernet-chips (-n 1200) > (\S+)\n", MANAGEMENT)
    assert command is not None
    path = tmp_path_factory.mktemp("spinner") / command[2]
    with open(path, "wb") as file:
        program = str(Path(sys.executable).parent / "spinner-ethernet-chips")
        subprocess.run([program, *command[1].split()], stdout=file, check=True)
    return path


@pytest.mark.parametrize("number", range(len(_python_blocks(MANAGEMENT))))
def test_configurations_of_the_operators_page(
    number: int, tmp_path: Path, ethernet_chips: Path
) -> None:
    shutil.copy(ethernet_chips, tmp_path)
    path = tmp_path / "machines.cfg"
    path.write_text(_python_blocks(MANAGEMENT)[number], encoding="utf-8")

    configuration = load_config_file(path)

    assert isinstance(configuration, Configuration)


def test_configuration_of_the_page_on_faults(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "faults.rst").read_text(encoding="utf-8")
    (block,) = _python_blocks(page)
    path = tmp_path / "machines.cfg"
    path.write_text(block, encoding="utf-8")
    assert load_config_file(path) == Configuration()


def test_commands_of_the_page_on_faults(readme_server: int, tmp_path: Path) -> None:
    page = (ROOT / "docs" / "faults.rst").read_text(encoding="utf-8")
    lines = re.findall(r"\$ spalloc_server_admin --config machines.cfg (.*)", page)
    assert [line.split()[0] for line in lines] == ["problems", "clear", "drain"]
    for line in lines:
        line = line.replace("million-core-machine", "my-24-board-machine")
        done = run_admin("--config", tmp_path / "example.cfg", *line.split())
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "line",
    [
        *re.findall(r"   \$ admin (.*)", GUIDE),
        *re.findall(r"\$ spalloc_server_admin --config machines.cfg (.*)", COORDINATES),
    ],
)
def test_commands_of_the_guide_are_such(line: str) -> None:
    make_parser().parse_args(["--config", "machines.cfg", *shlex.split(line)])


def test_operators_page_tells_every_command_of_the_operator() -> None:
    page = MANAGEMENT[MANAGEMENT.index(".. _admin:") :].split("\nReload\n")[0]
    told = re.findall(r"(?m)^(``.*)\n    ", page)
    names = {name for line in told for name in re.findall(r"``([a-z-]+)", line)}
    assert names == set(_COMMANDS_OF_OPERATORS)


def test_standard_addresses_are_as_the_operators_page_says(
    tmp_path: Path, ethernet_chips: Path
) -> None:
    shutil.copy(ethernet_chips, tmp_path)
    path = tmp_path / "machines.cfg"
    (block,) = (b for b in _python_blocks(MANAGEMENT) if "million-core-machine" in b)
    path.write_text(block, encoding="utf-8")
    (machine,) = load_config_file(path).machines
    assert "board 2 of frame 3 in cabinet 1" in " ".join(MANAGEMENT.split())
    assert "BMP at 10.2.8.16 and its chip at 10.2.8.17" in MANAGEMENT

    (board,) = (b for b, place in machine.board_locations.items() if place == (1, 3, 2))

    assert machine.spinnaker_ips[board] == "10.2.8.17"
    assert machine.bmp_ips[1, 3] == "10.2.8.0"


def test_example_configuration() -> None:
    frame, desk = load_config_file(ROOT / "example.cfg").machines

    assert (frame.width, frame.height, len(frame.board_locations)) == (4, 2, 24)
    assert (desk.width, desk.height, len(desk.board_locations)) == (1, 1, 1)


def test_example_configuration_is_what_spinner_plans(tmp_path: Path) -> None:
    program = str(Path(sys.executable).parent / "spinner-ethernet-chips")
    with open(tmp_path / "chips.csv", "wb") as file:
        subprocess.run([program, "-n", "24"], stdout=file, check=True)
    (tmp_path / "planned.cfg").write_text(
        "locations = board_locations_from_spinner('chips.csv')\n"
        "machine = Machine.with_standard_ips('m', board_locations=locations)\n"
        "configuration = Configuration(machines=[machine])\n"
    )

    (planned,) = load_config_file(tmp_path / "planned.cfg").machines

    example = load_config_file(ROOT / "example.cfg").machines[0]
    assert example.board_locations == planned.board_locations


# --- The command line -----------------------------------------------------------------


def test_operators_page_tells_every_option() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "spalloc_server", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    options = set(re.findall(r"--[a-z-]+", told)) - {"--help"}

    assert options == set(re.findall(r"(?m)^``(--[a-z-]+)", MANAGEMENT))


def test_operators_page_tells_the_name_of_the_state_file() -> None:
    name = SpallocServer._get_state_filename(None, "machines.cfg")  # type: ignore[arg-type]

    assert f"``{Path(name).name}``" in MANAGEMENT


# --- The protocol ---------------------------------------------------------------------


class Line(NamedTuple):
    """A message of the transcript."""

    to_server: bool
    message: dict[str, Any]


def _transcript() -> list[Line]:
    """Return all example messages of the protocol's page, in their order."""
    lines: list[Line] = []
    for block in re.findall(r"\.\. code-block:: text\n\n((?:   .*\n|\n)+)", PROTOCOL):
        for arrow, text in re.findall(
            r"   (-->|<--) ((?:.*\n)(?:       .*\n)*)", block
        ):
            lines.append(Line(arrow == "-->", json.loads(text)))
    return lines


def test_every_command_has_an_example() -> None:
    shown = {line.message["command"] for line in _transcript() if line.to_server}

    assert shown == set(_COMMANDS)


def test_every_command_has_a_heading_with_its_arguments() -> None:
    headings = dict(re.findall(r"(?m)^``(\w+)\((.*)\)``\n\^+$", PROTOCOL))
    documented = {}
    for name, function in _COMMANDS.items():
        _self, _client, *parameters = inspect.signature(function).parameters.values()
        bare = [p.replace(annotation=p.empty) for p in parameters]
        documented[name] = str(inspect.Signature(bare)).strip("()")

    # The version is explained together with the form of messages.
    assert headings | {"version": ""} == {
        name: parameters.replace("None", "null")
        for name, parameters in documented.items()
    }


@contextlib.contextmanager
def _running(command: list[str], folder: Path) -> Iterator[int]:
    """Run a server in a folder, on a free port; give the port when it is ready."""
    with open(folder / "server.log", "w+b") as log:
        server = subprocess.Popen(
            [*command, "--port", "0"], cwd=folder, stdin=subprocess.DEVNULL, stderr=log
        )
        try:
            port = None
            deadline = time.monotonic() + LIMIT
            while port is None:
                log_text = (folder / "server.log").read_text()
                assert server.poll() is None, log_text
                assert time.monotonic() < deadline, log_text
                port = re.search(r"Listening on \S+ port (\d+)\n", log_text)
                time.sleep(0.02)
            yield int(port[1])
        finally:
            server.terminate()
            assert server.wait(LIMIT) == 0


@pytest.fixture
def readme_server(tmp_path: Path) -> Iterator[int]:
    """Run the server as the README says, in a copy; give its port."""
    # So that the commands of the README, which start with .venv/bin/, can be run.
    (tmp_path / ".venv").symlink_to(sys.prefix, target_is_directory=True)
    shutil.copy(ROOT / "example.cfg", tmp_path)
    (line,) = _readme_commands("run")
    *_, command = line.split(" && ")
    assert command == ".venv/bin/spalloc_server --simulate example.cfg"
    # The script itself is there only where the package is installed.
    run = [sys.executable, "-m", "spalloc_server", *command.split()[1:]]
    with _running(run, tmp_path) as port:
        yield port


def _without_time(value: Any) -> Any:
    """Replace what is different each time: when something happened."""
    if isinstance(value, dict):
        return {
            key: "some time"
            if key in ("start_time", "time") and item
            else _without_time(item)
            for key, item in value.items()
        }
    return [_without_time(item) for item in value] if isinstance(value, list) else value


class Player:
    """Plays the transcript to a server."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=LIMIT)
        self._input = self._socket.makefile("r", encoding="utf-8")
        self._changes: dict[str, set[Any]] = {}

    def close(self) -> None:
        """Disconnect."""
        self._input.close()
        self._socket.close()

    def reply(self, command: dict[str, Any]) -> dict[str, Any]:
        """Send a command and return its reply."""
        self._socket.sendall(json.dumps(command).encode() + b"\n")
        while not (message := self._receive()).keys() & {"return", "exception"}:
            pass
        return message

    def reply_once_it_is(self, command: dict[str, Any], expected: Any) -> Any:
        """Return the reply; repeat a question while a job's power is changing."""
        deadline = time.monotonic() + LIMIT
        while True:
            reply = _without_time(self.reply(command))
            asks = command["command"].startswith(("get_", "list_"))
            if reply == expected or not asks or time.monotonic() > deadline:
                return reply
            time.sleep(0.02)

    def wait_for_change(self, notification: dict[str, list[Any]]) -> None:
        """Wait until everything in a notification has been told."""
        ((label, names),) = notification.items()
        while not set(names) <= self._changes.get(label, set()):
            self._receive()

    def _receive(self) -> dict[str, Any]:
        line = self._input.readline()
        assert line, "disconnected"
        message: dict[str, Any] = json.loads(line)
        for label in message.keys() & {"jobs_changed", "machines_changed"}:
            self._changes.setdefault(label, set()).update(message[label])
        return message


def test_examples_of_the_protocol(readme_server: int) -> None:
    player = Player(readme_server)
    command = None
    for line in _transcript():
        if line.to_server:
            assert command is None, f"no reply is shown to {command}"
            command = line.message
        elif command is not None:
            expected = _without_time(line.message)
            assert player.reply_once_it_is(command, expected) == expected
            command = None
        else:
            player.wait_for_change(line.message)
    player.close()


# --- The README -----------------------------------------------------------------------


def _readme_commands(name: str) -> list[str]:
    """Return the commands below a ``.. command:`` comment."""
    found = re.search(rf"(?m)^\.\. command: {name}\n\n::\n\n((?:    .*\n)+)", README)
    assert found is not None, f"README.rst has no '.. command: {name}'"
    return [line.removeprefix("    $ ") for line in found[1].splitlines()]


def test_readme_has_one_command_each_to_run_and_to_test() -> None:
    (run,) = _readme_commands("run")
    (tests,) = _readme_commands("tests")

    # The one for the tests is run as it is by .ci/run, from which this test may come.
    assert run.startswith("python3 -m venv .venv && .venv/bin/python -m pip install .")
    assert tests.startswith("python3 -m venv .venv && .venv/bin/python -m pip install ")


def test_readme_for_users(readme_server: int, tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": "none"}
    install, configure, ask = _readme_commands("client")
    assert install == ".venv/bin/python -m pip install spalloc"

    def run(command: str, words: str | None = None) -> str:
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=tmp_path,
            env=environment,
            input=words,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    run(configure)
    # The README's server has its standard port, which other tests would take, too.
    with open(tmp_path / ".spalloc", "a") as client_configuration:
        client_configuration.write(f"port = {readme_server}\n")

    with subprocess.Popen(
        ["bash", "-c", ask],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as spalloc:
        assert spalloc.stdin is not None
        assert spalloc.stdout is not None
        shown = ""
        while "192.168.240.1" not in shown:
            piece = spalloc.stdout.readline()
            assert piece, shown
            shown += piece
        looks = [run(command) for command in _readme_commands("look")]
        spalloc.stdin.write("\n")
        spalloc.stdin.close()
        spalloc.stdout.read()
        assert spalloc.wait(LIMIT) == 0
    for look in looks:
        assert "me@example.org" in look or "my-24-board-machine" in look

    (wrap,) = _readme_commands("wrap")
    assert re.search(r"(?m)^192\.168\.240\.\d+ 16 16$", run(wrap))

    (program,) = re.findall(r"in Python::\n\n((?:    .*\n|\n)+)", README)
    (tmp_path / "program.py").write_text(textwrap.dedent(program))
    assert run(".venv/bin/python program.py").endswith(" 16 16\n")


def test_docs_are_built_without_the_extras_of_the_package() -> None:
    """The command of the README installs no extra, and all modules are imported."""
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    lines = re.findall(r'"(?:web|gateway)": \[(.*)\]', setup)
    assert len(lines) == 2
    needed = set(re.findall(r'"([\w-]+)', " ".join(lines)))
    given = (ROOT / "requirements-docs.txt").read_text(encoding="utf-8")
    assert needed <= set(re.findall(r"(?m)^([\w-]+)", given))


def test_every_setting_is_in_the_manual() -> None:
    docs = ROOT / "docs"
    manual = " ".join(path.read_text(encoding="utf-8") for path in docs.glob("*.rst"))
    settings = inspect.signature(Configuration).parameters
    assert {name for name in settings if not re.search(rf"\b{name}\b", manual)} == set()


# --- Other files ----------------------------------------------------------------------


def test_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.rst").read_text(encoding="utf-8")
    first = re.search(r"(?m)^(\d+\.\d+\.\d+) \(.*\)\n-+$", changelog)

    assert first is not None
    assert first[1] == __version__


def test_figures_are_as_they_are_drawn_now() -> None:
    script = ROOT / "docs" / "figures" / "draw.py"
    figures = runpy.run_path(str(script))["FIGURES"]

    for name, draw in figures.items():
        committed = (script.parent / name).read_text(encoding="utf-8")
        assert committed == draw().svg(), f"run {script.relative_to(ROOT)}"
    assert {path.name for path in script.parent.glob("*.svg")} == set(figures)
