"""The week of the operator's guide, played as it stands there."""

from __future__ import annotations

import json
import re
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.command_line import admin_options, options, usage_report
from spalloc_server.simulator import BMPSimulator
from tests.admin_command import Admin
from tests.bmp_helpers import loopback_host
from tests.hardware_faults.machine_room import QUICK, QUICK_SERVER
from tests.support import Client, ServerProcess, ready, wait_until

DOCS = Path(__file__).parent.parent / "docs"
GUIDE = (DOCS / "operating.rst").read_text()

WIDTH, HEIGHT = 5, 8

CONFIG = """
configuration = Configuration(
    machines=[
        Machine(
            "my-machine", width={width}, height={height},
            # Four frames in one cabinet, and one in the next.
            board_locations={{
                (x, y, z): (x // 4, x % 4, 3 * y + z)
                for x in range({width}) for y in range({height}) for z in range(3)
            }},
            bmp_ips={{(x // 4, x % 4): bmp for x, bmp in enumerate({bmps!r})}},
            spinnaker_ips={{
                (x, y, z): f"10.0.{{x}}.{{8 * (3 * y + z) + 1}}"
                for x in range({width}) for y in range({height}) for z in range(3)
            }},
        )
    ],
    seconds_before_free=0,
)
"""


class Week:
    """The commands of the guide, and the server that they are given to."""

    def __init__(self, server: ServerProcess, client: Client) -> None:
        self.server = server
        self.client = client
        self.admin = Admin(server)
        self.played: list[str] = []

    def play(self, name: str) -> list[str]:
        """Run the commands below a ``.. command:`` comment; what each has printed."""
        lines = commands(name)
        self.played += lines
        return [self.admin.text(*shlex.split(line)) for line in lines]

    def state(self, job_id: int) -> Any:
        return self.client.call("get_job_state", job_id)

    def boards(self) -> Any:
        return self.admin.machine("my-machine")["boards"]


def commands(name: str) -> list[str]:
    found = re.search(
        rf"\.\. command: {name}\n\n\.\. code-block:: console\n\n((?:   .*\n)+)", GUIDE
    )
    assert found is not None, f"no '.. command: {name}'"
    lines = found[1].splitlines()
    assert all(line.startswith("   $ admin ") for line in lines), lines
    return [line.removeprefix("   $ admin ") for line in lines]


def output(name: str) -> list[str]:
    found = re.search(
        rf"\.\. output: {name}\n\n\.\. code-block:: text\n\n((?:   .*\n)+)", GUIDE
    )
    assert found is not None, f"no '.. output: {name}'"
    return textwrap.dedent(found[1]).splitlines()


def without_times(line: str) -> str:
    line = re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d|\d\d:\d\d", "TIME", line)
    return re.sub(r"BMP \S+", "BMP", line)


@pytest.fixture
def simulator() -> Iterator[BMPSimulator]:
    with BMPSimulator() as simulator:
        yield simulator


def test_the_week(simulator: BMPSimulator, tmp_path: Path) -> None:
    bmps = [loopback_host() for _ in range(WIDTH)]
    for frame, bmp in enumerate(bmps):
        if frame != 2:
            simulator.add_frame(bmp, frame // 4, frame % 4)
    config = tmp_path / "machines.cfg"
    config.write_text(CONFIG.format(width=WIDTH, height=HEIGHT, bmps=bmps))
    command = [QUICK_SERVER, json.dumps(QUICK), str(config), "--port", "0"]
    server = ServerProcess(config, (), command)
    try:
        server.wait_until_ready()
        with Client(server.port) as client:
            play(Week(server, client), lambda: simulator.add_frame(bmps[2], 0, 2))
        assert server.stop() == 0
    finally:
        server.kill()


def play(week: Week, mend: Any) -> None:
    """Play all of it; of those who are the jobs nobody is played a trick on."""
    client, admin = week.client, week.admin
    options: dict[str, Any] = {"machine": "my-machine", "keepalive": None}
    options["max_dead_boards"] = 0

    def create(*args: int, owner: str = "you@example.org") -> int:
        job_id = client.call("create_job", *args, owner=owner, **options)
        assert isinstance(job_id, int)
        return job_id

    wait_until(lambda: admin.machine("my-machine")["silent_frames"])
    for n in range(18):
        create(0, n // 3, n % 3)
    assert create(1, 0, 0, owner="me@example.org") == 19
    assert create(WIDTH, HEIGHT) == 20
    wait_until(lambda: all(ready(client, job_id) for job_id in range(1, 20)))

    # Look
    status, queued, mine, problems = week.play("look")
    shown = [without_times(line) for line in output("status")]
    machine = status[status.index("machine ") :].splitlines()
    assert [without_times(line) for line in machine] == shown
    assert queued.count("\n") == 2
    assert mine.count("me@example.org") == 1
    assert problems.count("out of service") == 24
    mend()
    wait_until(lambda: not admin.machine("my-machine")["silent_frames"])
    first, second = week.play("find")
    assert "cabinet 0, frame 1, board 6" in first
    assert "cabinet 0, frame 0, board 2" in second

    # Drain a cabinet
    there = create(4, 0, 0)
    wait_until(lambda: ready(client, there))
    drained, draining = week.play("drain")
    assert (
        drained
        == f"drained: 24 boards\ndraining until these jobs have ended: {there}\n"
    )
    assert draining.count("draining") == 1
    assert week.state(there)["state"] == 3
    assert "frame (1, 0) is drained since" in week.state(20)["waiting"]["text"]
    ended, resumed = week.play("drain-now")
    assert ended == f"drained: 24 boards\njobs ended: {there}\n"
    assert week.state(there)["reason"] == "new fans"
    assert resumed == "resumed: 24 boards\n"

    # Swap a board, and put it back
    _, listed = week.play("swap")
    assert listed.count("\n") == 2
    assert "new board" in listed
    week.play("back")
    assert week.boards()["drained"] == 0

    # Close for the night
    week.play("close")
    late = create(3, 0, 0)
    assert "is closed since" in week.state(late)["waiting"]["text"]
    second_whole = create(WIDTH, HEIGHT)
    week.play("open")
    assert week.state(17)["reason"] == week.state(18)["reason"] == "maintenance at noon"
    assert week.state(19)["state"] == 4
    assert admin.machine("my-machine")["queue"]["head"]["job_id"] == 20
    assert week.state(second_whole)["state"] == 1
    client.call("destroy_job", late)
    for job_id in range(1, 17):
        client.call("destroy_job", job_id)
    wait_until(lambda: ready(client, 20))

    # Change the machines
    (reloaded,) = week.play("reload")
    assert reloaded.endswith("reloaded; machines: unchanged\n")

    # That was all of it.
    written = re.findall(r"(?m)^ +\$ admin (.*)$", GUIDE)
    assert week.played == written


def documented_lines() -> list[tuple[str, str]]:
    """All command lines of our programs in the documentation, with their files."""
    found = []
    for path in sorted(DOCS.glob("*.rst")):
        for line in re.findall(
            r"(?m)^ +[$#] (?:\S*/)?(spalloc_server(?:_admin|_usage)? .*)$",
            path.read_text(),
        ):
            if "[OPTIONS]" not in line:
                found.append((path.name, line.partition(" && ")[0]))
    return found


def test_command_lines_of_the_docs_are_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    parsers = {
        "spalloc_server": options.make_parser(),
        "spalloc_server_admin": admin_options.make_parser(),
        "spalloc_server_usage": usage_report.make_parser(),
    }
    lines = documented_lines()
    assert {line.split()[0] for _, line in lines} == parsers.keys()
    for name, line in lines:
        program, *arguments = shlex.split(line, comments=True)
        try:
            parsers[program].parse_args(arguments)
        except SystemExit:
            pytest.fail(f"{name}: {line}: {capsys.readouterr().err}")
