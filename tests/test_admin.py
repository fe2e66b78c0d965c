"""``spalloc_server_admin`` with a real server, each in a process of its own."""

from __future__ import annotations

import argparse
import getpass
import grp
import json
import os
import re
import signal
import socket
import stat
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.command_line.admin_options import make_parser
from tests.admin_command import Admin, run_admin
from tests.support import (
    ONE_TRIAD,
    Client,
    CommandError,
    ServerProcess,
    ready,
    running_server,
    wait_until,
)

TWO_FRAMES = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m",
            width=2,
            height=1,
            board_locations={
                (x, 0, z): (0, x, z) for x in range(2) for z in range(3)
            },
            base_ip="10.11.12.0",
        ),
        Machine.single_board(
            "one", tags={"small"}, bmp_ip="10.0.5.0", spinnaker_ip="10.0.5.1"
        ),
    ],
    seconds_before_free=0,
)
"""
USER = getpass.getuser()


@pytest.fixture
def undo() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def server(undo: ExitStack, tmp_path: Path) -> ServerProcess:
    return undo.enter_context(
        running_server(TWO_FRAMES, "--simulate", "--http", "0", folder=tmp_path)
    )


@pytest.fixture
def admin(server: ServerProcess) -> Admin:
    return Admin(server)


@pytest.fixture
def client(undo: ExitStack, server: ServerProcess) -> Client:
    return undo.enter_context(Client(server.port))


def create(client: Client, *size: int, **options: Any) -> int:
    options = {"owner": "bob", "keepalive": None, **options}
    job_id = client.call("create_job", *size, **options)
    assert isinstance(job_id, int)
    return job_id


def state(client: Client, job_id: int) -> Any:
    return client.call("get_job_state", job_id)


def dead_boards(client: Client) -> set[tuple[int, ...]]:
    return {tuple(board) for board in client.call("list_machines")[0]["dead_boards"]}


def metric(server: ServerProcess, board_state: str, machine: str = "m") -> float:
    port = server.wait_for_log(r"Serving http://127\.0\.0\.1:(\d+)/")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as reply:
        text = reply.read().decode()
    pattern = rf'spalloc_boards{{machine="{machine}",state="{board_state}"}} (\S+)'
    found = re.search(pattern, text)
    assert found is not None
    return float(found[1])


def page(server: ServerProcess) -> Any:
    """The boards of the first machine, as the page is told them."""
    port = server.wait_for_log(r"Serving http://127\.0\.0\.1:(\d+)/")[1]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/machines") as reply:
        machine = json.load(reply)[0]
    fields = machine["board_fields"]
    return [dict(zip(fields, board, strict=True)) for board in machine["boards"]]


# The socket


def test_only_the_servers_user_gets_in(server: ServerProcess) -> None:
    path = server.config_file.parent / ".spalloc.cfg.admin"
    mode = path.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600
    assert server.stop() == 0
    assert not path.exists()


def test_a_group_can_be_let_in(tmp_path: Path) -> None:

    group = grp.getgrgid(os.getegid()).gr_name
    config = TWO_FRAMES.replace("seconds_", f"admin_group={group!r}, seconds_")
    path = tmp_path / ".spalloc.cfg.admin"
    with running_server(config, "--simulate", folder=tmp_path) as server:
        found = path.stat()
        assert stat.S_IMODE(found.st_mode) == 0o660
        assert found.st_gid == grp.getgrnam(group).gr_gid
        server.config_file.write_text(
            TWO_FRAMES.replace("seconds_", "max_retired_jobs=9, seconds_")
        )
        Admin(server).text("reload")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        config = TWO_FRAMES.replace("seconds_", "admin_group='no-such-group', seconds_")
        server.config_file.write_text(config)
        Admin(server).text("reload")
        server.wait_for_log("admin_group: there is no group 'no-such-group'")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_operators_commands_do_not_exist_on_the_public_port(
    server: ServerProcess, client: Client
) -> None:
    for command in ("status", "close", "open", "drain", "destroy"):
        with Client(server.port) as other:
            with pytest.raises(CommandError, match=f"unknown command '{command}'"):
                other.call(command, "m")
            assert other.is_disconnected()
    assert state(client, create(client))["state"] in (2, 3)


def test_the_server_is_found_by_its_state(tmp_path: Path) -> None:
    states, etc = tmp_path / "state", tmp_path / "etc"
    states.mkdir()
    etc.mkdir()
    (etc / "spalloc.cfg").write_text(ONE_TRIAD)
    options = ("--simulate", "--state-dir", str(states))
    assert (
        "no server is running with state in"
        in run_admin("--state-dir", states, "status").stderr
    )
    with running_server(etc / "spalloc.cfg", *options):
        for where in (
            ("--state-dir", states),
            ("--config", etc / "spalloc.cfg", "--state-dir", states),
        ):
            done = run_admin(*where, "status")
            assert done.returncode == 0
            assert "machine m: 3 boards: 3 free" in done.stdout
        # Where there are several, it has to be said which.
        other = states / ".other.cfg.admin"
        with socket.socket(socket.AF_UNIX) as unix:
            unix.bind(str(other))
            done = run_admin("--state-dir", states, "status")
        assert done.returncode == 1
        assert "there are 2 servers with state in" in done.stderr
    done = run_admin("--config", etc / "spalloc.cfg", "--state-dir", states, "status")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no server is running there" in done.stderr


def test_a_folder_may_have_a_long_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    with running_server(ONE_TRIAD, "--simulate", folder=folder) as server:
        assert "3 free" in Admin(server).text("status")


def test_a_socket_that_was_removed_comes_back(
    server: ServerProcess, admin: Admin
) -> None:
    path = server.config_file.parent / ".spalloc.cfg.admin"
    path.unlink()
    wait_until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert admin.text("status")


def test_what_a_killed_server_leaves_is_no_server(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        server.kill()
        assert "no server is running there: nobody is at" in Admin(server).refusal(
            "status"
        )
    with running_server(tmp_path / "spalloc.cfg", "--simulate") as server:
        assert Admin(server).text("status")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("status",),
        ("--config", "x", "nothing"),
        ("--config", "x", "where-is", "m"),
        ("--config", "x", "where-is", "--board", 0, 0, 0),
        ("--config", "x", "where-is", "m", "--ip", "10.11.12.9"),
        ("--config", "x", "where-is", "--job", 1, "--ip", "10.11.12.9"),
        ("--config", "x", "where-is", "m", "--ip", "x", "--chip", 0, 0),
        ("--config", "x", "where-is", "--job", 1, "--board", 0, 0, 0),
        ("--config", "x", "drain", "m", "--board", 0, 0, 0, "--frame", 0, 0),
        ("--config", "x", "drain", "m", "--board", 0, 0),
        ("--config", "x", "destroy"),
        ("--config", "x", "destroy", 1, "--owner", "me"),
        ("--config", "x", "fault", "m", "--frame", 0, 0),
        ("--config", "x", "fault", "m", "--silent"),
        ("--config", "x", "fault", "m", "--frame", 0, 0, "--fpga"),
        ("--config", "x", "fault", "m", "--frame", 0, 0, "--drop", 2),
    ],
)
def test_wrong_command_lines(arguments: tuple[object, ...]) -> None:
    done = run_admin(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage: spalloc_server_admin" in done.stderr


COMMANDS = {
    **{"status": [], "jobs": [], "boards": [], "problems": [], "reload": []},
    **{"where-is": ["m", "--chip", "0", "0"], "drain": ["m"], "resume": ["m"]},
    **{"clear": ["m"], "close": [], "open": [], "destroy": ["1"], "move": ["1"]},
    **{"snapshot": [], "fault": ["m", "--frame", "0", "0", "--silent"]},
}


def test_every_command_can_be_asked_for_json_before_and_after_it() -> None:
    parser = make_parser()
    (commands,) = (
        action.choices
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    assert COMMANDS.keys() == commands.keys()
    for command, arguments in COMMANDS.items():
        for line in (
            [command, *arguments, "--json"],
            [command, "--json", *arguments],
            ["--json", command, *arguments],
        ):
            assert parser.parse_args(line).json is True, line
        assert parser.parse_args([command, *arguments]).json is False


def test_what_does_not_exist_is_said_in_a_line(admin: Admin) -> None:
    for command in ("drain", "resume", "clear"):
        assert admin.refusal(command, "x") == "there is no machine 'x'"
        assert admin.refusal(command, "m", "--board", 5, 0, 0) == (
            "machine 'm' has no board (5, 0, 0)"
        )
        assert admin.refusal(command, "m", "--physical", 0, 0, 9) == (
            "machine 'm' has no board at cabinet 0, frame 0, board 9"
        )
        assert admin.refusal(command, "m", "--frame", 1, 0) == (
            "machine 'm' has no frame at cabinet 1, frame 0"
        )
        assert admin.refusal(command, "m", "--cabinet", 1) == (
            "machine 'm' has no cabinet 1"
        )
    for command in ("close", "open", "problems"):
        assert admin.refusal(command, "x") == "there is no machine 'x'"
    assert admin.refusal("jobs", "--machine", "x") == "there is no machine 'x'"
    assert admin.refusal("destroy", 9) == "there is no job 9"
    assert admin.refusal("destroy", "--owner", "x") == "'x' has no job"
    assert admin.refusal("move", 9) == "there is no job 9"
    assert admin.refusal("where-is", "x", "--chip", 0, 0) == "there is no machine 'x'"
    assert admin.refusal("where-is", "--job", 7, "--chip", 0, 0) == "there is no job 7"
    assert admin.refusal("where-is", "--ip", "10.9.9.9") == (
        "no board has the address '10.9.9.9'"
    )
    assert admin.refusal("where-is", "m", "--board", 7, 0, 0) == (
        "machine 'm' has no board (7, 0, 0)"
    )


# Looking


def test_status_jobs_and_boards(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    job = create(client, 3)
    whole = create(client, 2, 1, owner="ann")
    small = create(client, tags=["small"])
    wait_until(lambda: ready(client, job) and ready(client, small))
    status = admin.value("status")
    assert admin.value("--json", "status").keys() == status.keys()
    assert status["process"] == server.process.pid
    assert status["config"] == str(server.config_file)
    assert status["state"]["problem"] is None
    assert status["jobs"] == {"queued": 1, "power": 0, "ready": 2}
    m, one = status["machines"]
    assert (m["boards"]["all"], m["boards"]["free"], m["boards"]["allocated"]) == (
        (6, 3, 3)
    )
    # A machine of a single board has one board, not three of which two are dead.
    assert one["boards"]["all"] == one["boards"]["allocated"] == 1
    assert metric(server, "dead", "one") == 0
    assert m["queue"]["length"] == 1
    assert m["queue"]["head"]["job_id"] == whole
    assert [j["job_id"] for j in admin.value("jobs")] == [job, whole, small]
    for filters, found in (
        (("--owner", "ann"), [whole]),
        (("--machine", "m"), [job, whole]),
        (("--state", "ready"), [job, small]),
        (("--state", "ready", "--machine", "one"), [small]),
        (("--owner", "nobody"), []),
    ):
        assert [j["job_id"] for j in admin.value("jobs", *filters)] == found
    boards = admin.value("boards", "--owner", "bob", "--machine", "m")
    assert [board["board"] for board in boards] == [[0, 0, z] for z in range(3)]
    assert boards[1]["physical"] == [0, 0, 1]
    assert boards[1]["state"] == "allocated"
    assert boards[1]["job"] == job
    created = client.call("get_job_state", job)["start_time"]
    assert created <= boards[1]["since"] < created + 60
    assert len(admin.value("boards", "--state", "free")) == 3
    assert f"{job}" in admin.text("boards", "--owner", "bob")
    for asked in (
        ("m", "--board", 0, 0, 1),
        ("m", "--physical", 0, 0, 1),
        ("m", "--chip", 8, 4),
        ("--job", job, "--chip", 8, 4),
        ("--ip", "10.11.12.9"),
    ):
        place = admin.value("where-is", *asked)
        assert (place["logical"], place["job_id"]) == ([0, 0, 1], job)
    assert admin.value("problems") == []


# Drained boards


def test_a_drained_frame_is_drained_everywhere(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    job = create(client, 0, 0, 1, machine="m")
    wait_until(lambda: ready(client, job))
    drained = admin.value("drain", "m", "--frame", 0, 0, "--reason", "new fans")
    assert drained == {"boards": 3, "held_by": [job]}
    server.wait_for_log(rf"WARNING Operator {USER} drains .*: new fans")
    boards = {(0, 0, z) for z in range(3)}

    def count(draining: int) -> None:
        # Pages are of the last turn of the loop in which there was time for them.
        wait_until(lambda: metric(server, "draining") == draining)
        assert dead_boards(client) == boards
        found = admin.machine()
        # What is told by HTTP may be a moment old.
        wait_until(lambda: metric(server, "draining") == draining)
        assert found["boards"]["draining"] == draining
        assert found["boards"]["drained"] == metric(server, "drained") == 3 - draining
        states = [board["state"] for board in page(server)]
        assert states.count("draining") == draining
        assert states.count("drained") == 3 - draining

    count(draining=1)
    assert [board["problem"] for board in page(server)[:3]] == [
        f"drained by {USER}: new fans"
    ] * 3
    (order,) = admin.machine()["drained"]
    assert (order["reason"], order["user"], order["frames"]) == (
        *("new fans", USER),
        [[0, 0]],
    )
    # The job goes on until it ends by itself.
    assert state(client, job)["state"] == 3
    waiting = create(client, 0, 0, 2, machine="m")
    elsewhere = create(client, 1, 1)
    assert state(client, waiting)["state"] == 1
    (told,) = admin.value("jobs", "--state", "queued")
    assert re.fullmatch(
        r"waiting: board \(0, 0, 2\) is drained since \d\d:\d\d: new fans",
        told["waiting"]["text"],
    )
    assert client.call("get_job_machine_info", elsewhere)["boards"] == [
        [1, 0, z] for z in range(3)
    ]
    client.call("destroy_job", job)
    wait_until(lambda: admin.machine()["boards"]["draining"] == 0)
    count(draining=0)
    assert admin.value("resume", "m", "--physical", 0, 0, 2) == {"boards": 1}
    wait_until(lambda: ready(client, waiting))
    assert dead_boards(client) == {(0, 0, 0), (0, 0, 1)}
    assert admin.value("resume", "m") == {"boards": 2}
    assert dead_boards(client) == set()
    # A cabinet is all of its frames.
    jobs = [waiting, elsewhere]
    assert admin.value("drain", "m", "--cabinet", 0) == {"boards": 6, "held_by": jobs}
    (order,) = admin.machine()["drained"]
    assert order["frames"] == [[0, 0], [0, 1]]
    assert admin.text("resume", "m", "--board", 0, 0, 1) == "resumed: 1 board\n"
    assert admin.text("resume", "m", "--cabinet", 0) == "resumed: 5 boards\n"


def test_jobs_can_be_ended_with_their_boards(admin: Admin, client: Client) -> None:
    here, there = create(client, 1, 1), create(client, 1, 1)
    drained = admin.value("drain", "m", "--board", 0, 0, 1, "--now", "--reason", "hot")
    assert drained == {"boards": 1, "ended": [here]}
    assert state(client, here) == {**state(client, here), "state": 4, "reason": "hot"}
    assert state(client, there)["state"] in (2, 3)


def test_orders_survive_a_restart_and_a_kill(tmp_path: Path) -> None:
    def check(server: ServerProcess) -> None:
        admin = Admin(server)
        assert admin.machine()["boards"]["drained"] == 6
        assert admin.machine()["drained"][0]["reason"] == "fans"
        assert admin.machine("one")["closed"]["reason"] == "night"
        places = {
            job["job_id"]: job["waiting"]["queues"][0]["place"]
            for job in admin.value("jobs")
        }
        assert places == {3: 1, 1: 2, 2: 3}

    with running_server(TWO_FRAMES, "--simulate", folder=tmp_path) as server:
        admin = Admin(server)
        admin.text("drain", "m", "--reason", "fans")
        admin.text("close", "one", "--reason", "night")
        with Client(server.port) as client:
            for _ in range(3):
                create(client, 1, 1)
        admin.text("move", 3, "--reason", "urgent")
        check(server)
        server.kill()
    config = tmp_path / "spalloc.cfg"
    with running_server(config, "--simulate") as server:
        check(server)
        assert server.stop() == 0
    with running_server(config, "--simulate") as server:
        check(server)
        Admin(server).text("resume", "m")
        with Client(server.port) as client:
            wait_until(lambda: ready(client, 3) and ready(client, 1))
            assert state(client, 2)["state"] == 1


# Closed machines


def test_closed_machines_take_jobs_and_let_them_wait(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    running = create(client, 1, 1)
    assert admin.value("close", "--reason", "night") == {"machine": None}
    server.wait_for_log(rf"Operator {USER} closes all machines: night")
    waiting, small = create(client, 1, 1), create(client, tags=["small"])
    assert state(client, waiting)["state"] == state(client, small)["state"] == 1
    assert state(client, running)["state"] in (2, 3)
    assert dead_boards(client) == set()
    assert admin.machine()["boards"]["free"] == 3
    told = admin.value("jobs", "--state", "queued")[0]["waiting"]["text"]
    assert re.fullmatch(r"waiting: machine m is closed since \d\d:\d\d: night", told)
    # A machine that is closed for a reason of its own is shown with that.
    admin.text("close", "one", "--reason", "loan")
    status = admin.text("status")
    assert f"all machines are closed: night ({USER}" in status
    assert status.count(f"  closed: loan ({USER}") == status.count("  closed: ") == 1
    assert admin.value("open", "one") == {"machine": "one"}
    wait_until(lambda: ready(client, small))
    assert state(client, waiting)["state"] == 1
    admin.text("open")
    wait_until(lambda: ready(client, waiting))
    assert admin.value("status")["closed"] is None


# Jobs


def test_jobs_end_by_number_and_by_owner(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    jobs = [create(client, owner=owner) for owner in ("ann", "ann", "bob", "eve")]
    assert admin.value("destroy", *jobs[2:], "--reason", "maintenance") == {
        "destroyed": jobs[2:]
    }
    server.wait_for_log(rf"Operator {USER} destroys jobs 3, 4: maintenance")
    assert state(client, jobs[2])["reason"] == "maintenance"
    assert admin.value("destroy", "--owner", "ann") == {"destroyed": jobs[:2]}
    assert state(client, jobs[0])["reason"] == f"Destroyed by {USER}."
    assert client.call("list_jobs") == []


def test_a_job_can_be_moved_to_the_head(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    first, second, third = (create(client, 2, 1) for _ in range(3))
    assert admin.refusal("move", first) == f"job {first} does not wait for boards"
    assert admin.value("move", third, "--reason", "a demonstration") == {"moved": third}
    server.wait_for_log(rf"Operator {USER} moves job 3 .*: a demonstration")
    assert admin.machine()["queue"]["head"]["job_id"] == third
    client.call("destroy_job", first)
    wait_until(lambda: ready(client, third))
    assert state(client, second)["state"] == 1


# The server


def test_a_reload_tells_what_came_of_it(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    job = create(client, tags=["small"])
    wait_until(lambda: ready(client, job))
    config = server.config_file
    config.write_text(re.sub(r"(?s)        Machine.single.*?\),\n", "", TWO_FRAMES))
    done = admin.value("reload")
    assert "reload: removes machine one" in done["check"]
    assert f"reload: destroys job {job} of bob: 1 boards of one" in done["check"]
    assert (done["problem"], done["machines"]) == (None, "removed: one")
    assert state(client, job)["reason"] == "Machine removed."
    config.write_text("x = (")
    done_by_hand = admin.run("reload")
    assert done_by_hand.returncode == 1
    assert "not reloaded: the old configuration stays in force" in done_by_hand.stdout
    assert "was never closed" in done_by_hand.stderr


def test_a_snapshot_is_written_when_asked_for(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    before = admin.value("status")["state"]["last_snapshot"]
    create(client)
    done = admin.value("snapshot")
    assert done["problem"] is None
    assert Path(done["file"]).exists()
    assert admin.value("status")["state"]["last_snapshot"] > before
    server.process.send_signal(signal.SIGKILL)
    server.wait()
    with running_server(server.config_file, "--simulate") as again:
        assert len(Admin(again).value("jobs")) == 1


# Faults


@pytest.mark.long
def test_a_fault_can_be_rehearsed(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    done = admin.value("fault", "m", "--frame", 0, 0, "--silent")
    assert done["state"] == "silent"
    # A machine that is wired anew has its BMPs asked at once.
    rewired = TWO_FRAMES.replace("(x, 0, z): (0, x, z)", "(x, 0, z): (0, x, z + 1)")
    server.config_file.write_text(rewired)
    admin.text("reload")
    wait_until(lambda: admin.machine()["silent_frames"])
    job = create(client, 2, 1, max_dead_boards=0)
    (frame,) = admin.machine()["silent_frames"]
    assert (frame["cabinet"], frame["frame"]) == (0, 0)
    assert state(client, job)["state"] == 1
    (told,) = admin.value("jobs")
    assert re.fullmatch(
        r"waiting: frame \(0, 0\) does not answer since \d\d:\d\d",
        told["waiting"]["text"],
    )
    assert admin.value("fault", "m", "--frame", 0, 0, "--mend")["state"] == (
        "all is well"
    )
    wait_until(lambda: ready(client, job))


def test_faults_of_boards_and_packets(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    lossy = admin.value("fault", "m", "--frame", 0, 1, "--drop", 0.25)
    assert lossy["state"] == "loses 25% of all packets"
    broken = admin.value("fault", "m", "--physical", 0, 0, 2, "--fpga")
    assert broken["state"] == "FPGAs of boards 2"
    assert admin.value("fault", "m", "--board", 0, 0, 1, "--power")["state"] == (
        "power of boards 1; FPGAs of boards 2"
    )
    create(client, 0, 0, 2, machine="m")
    server.wait_for_log("wrong FPGA identity on board 2: FPGA 0 says")
    create(client, 0, 0, 1, machine="m")
    server.wait_for_log("power on of board 1 failed: the answer was ")
    # A quarter of lost packets costs some time, and nothing else.
    job = create(client, 1, 0, 0, machine="m")
    wait_until(lambda: ready(client, job))
    assert "all is well" in admin.text("fault", "m", "--frame", 0, 0, "--mend")


def test_problems_are_cleared(
    server: ServerProcess, admin: Admin, client: Client
) -> None:
    client.call("report_problem", "10.11.12.1", description="hot")
    (problem,) = admin.value("problems", "m")
    assert problem["reports"][0]["description"] == "hot"
    assert "hot" in admin.text("problems")
    assert admin.value("clear", "m", "--frame", 0, 0) == 1
    server.wait_for_log(rf"Operator {USER} clears 1 boards of machine m")
    assert admin.value("problems") == []


def test_without_a_simulator_nothing_can_be_broken(tmp_path: Path) -> None:
    with running_server(
        "configuration = Configuration()", "--port", "0", folder=tmp_path
    ) as server:
        assert Admin(server).refusal("fault", "m", "--frame", 0, 0, "--silent") == (
            "the hardware is not simulated: see --simulate"
        )


def test_wrong_arguments_are_refused_by_the_server_too(
    server: ServerProcess,
) -> None:
    path = server.config_file.parent / ".spalloc.cfg.admin"
    with socket.socket(socket.AF_UNIX) as unix:
        unix.connect(os.path.relpath(path))
        other = Client.__new__(Client)
        other.socket, other._file = unix, unix.makefile("rb")
        other.notifications = []
        for command, arguments, problem in (
            ("drain", {"machine": 3}, "machine_name must be a string"),
            ("drain", {"machine": "m", "board": [0, 0]}, "a list of 3 integers"),
            ("drain", {"machine": "m", "now": 1}, "now must be true or false"),
            ("drain", {"machine": "m", "rack": [1]}, "rack does not name boards"),
            (
                "drain",
                {"machine": "m", "frame": [0, 0], "cabinet": [0]},
                "only one of board, physical, frame, cabinet may be given",
            ),
            ("destroy", {"job_ids": []}, "job_ids must be a list of numbers"),
            ("jobs", {"state": "x"}, "state must be one of"),
            ("reload_outcome", {"number": "x"}, "number must be an integer"),
            ("fault", {"machine": "m"}, "board, physical or frame must be given"),
        ):
            with pytest.raises(CommandError, match=problem):
                other.call(command, **arguments)
        assert other.call("version")
        other._file.close()
