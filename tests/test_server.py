"""Commands and notifications, with real clients and, through the simulator, BMPs."""

import json
import socket
import time
from typing import Any

import pytest

from spalloc_server import __version__
from spalloc_server.server import (
    _COMMANDS,
    Server,
    SpallocServer,
    spalloc_command,
)
from spalloc_server.service import notifier, registry
from tests.support import ONE_TRIAD, Client, CommandError, Site, ready, wait_until

VERSION = b'{"command": "version", "args": [], "kwargs": {}}\n'


def test_the_commands_are_those_of_the_protocol() -> None:
    assert sorted(_COMMANDS) == sorted(
        [
            "version",
            "create_job",
            "job_keepalive",
            "get_job_state",
            "get_job_machine_info",
            "power_on_job_boards",
            "power_off_job_boards",
            "destroy_job",
            "notify_job",
            "no_notify_job",
            "notify_machine",
            "no_notify_machine",
            "list_jobs",
            "list_machines",
            "get_board_position",
            "get_board_at_position",
            "where_is",
            "report_problem",
            "list_problems",
            "clear_problem",
            "describe_job",
            "speak_for_others",
        ]
    )
    for name, function in _COMMANDS.items():
        assert function is vars(SpallocServer)[name]


def test_a_subclass_can_add_commands(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("spalloc_server.service.registry._COMMANDS", dict(_COMMANDS))
        patch.setattr(registry, "_SPECS", dict(registry._SPECS))

        class Extended(SpallocServer):
            @spalloc_command
            @registry.reads
            def double(self, client: Any, number: int) -> int:
                return 2 * number

        site.serve_bmps()
        with Extended(str(site.config), port=0) as extended:
            assert site.connect(extended).call("double", 4) == 8


def test_the_life_of_a_job(client: Client) -> None:
    before = time.time()
    assert client.call("version") == __version__
    job_id = client.call("create_job", 1, 1, owner="me", tags=["default"])
    assert job_id == 1
    wait_until(lambda: ready(client, job_id))
    state = client.call("get_job_state", job_id)
    assert before <= state.pop("start_time") <= time.time()
    assert state == {
        "state": 3,
        "power": True,
        "keepalive": 60.0,
        "reason": None,
        "keepalivehost": "127.0.0.1",
    }
    assert client.call("get_job_machine_info", job_id) == {
        "width": 12,
        "height": 12,
        "connections": [
            [[0, 0], "10.11.12.1"],
            [[4, 8], "10.11.12.17"],
            [[8, 4], "10.11.12.9"],
        ],
        "machine_name": "m",
        "boards": [[0, 0, 0], [0, 0, 1], [0, 0, 2]],
    }
    [job] = client.call("list_jobs")
    assert job.pop("start_time") > 0
    assert job == {
        "job_id": 1,
        "owner": "me",
        "keepalive": 60.0,
        "state": 3,
        "power": True,
        "args": [1, 1],
        "kwargs": {"tags": ["default"]},
        "allocated_machine_name": "m",
        "boards": [[0, 0, 0], [0, 0, 1], [0, 0, 2]],
        "keepalivehost": "127.0.0.1",
    }
    assert client.call("power_off_job_boards", job_id) is None
    wait_until(lambda: ready(client, job_id))
    assert client.call("get_job_state", job_id)["power"] is False
    assert client.call("power_on_job_boards", job_id) is None
    assert client.call("job_keepalive", job_id) is None
    assert client.call("destroy_job", job_id, reason="done") is None
    assert client.call("get_job_state", job_id) == {
        "state": 4,
        "power": None,
        "keepalive": None,
        "reason": "done",
        "start_time": None,
        "keepalivehost": None,
    }
    assert client.call("list_jobs") == []


def test_a_queued_job(client: Client) -> None:
    client.call("create_job", 1, 1, owner="me")
    job_id = client.call("create_job", owner="you", keepalive=None)
    assert client.call("get_job_state", job_id)["state"] == 1
    job = client.call("list_jobs")[1]
    assert job["boards"] is None
    assert job["allocated_machine_name"] is None
    assert job["keepalive"] is None
    assert set(client.call("get_job_machine_info", job_id).values()) == {None}
    client.call("destroy_job", job_id)
    assert client.call("get_job_state", job_id)["reason"] == "Cancelled: "


def test_a_job_that_no_machine_can_hold(client: Client) -> None:
    job_id = client.call("create_job", 7, owner="me")
    state = client.call("get_job_state", job_id)
    assert state["state"] == 4
    assert state["reason"] == "Cancelled: No suitable machines available."


@pytest.mark.parametrize(
    "name",
    ["job_keepalive", "power_on_job_boards", "power_off_job_boards", "destroy_job"],
)
def test_unknown_jobs_are_no_error(client: Client, name: str) -> None:
    assert client.call(name, 77) is None
    state = client.call("get_job_state", 77)
    assert state.pop("state") == 0
    assert set(state.values()) == {None}
    assert set(client.call("get_job_machine_info", 77).values()) == {None}


def test_machines_and_places(site: Site) -> None:
    site.write(
        ONE_TRIAD.replace("base_ip", "dead_boards=[(0, 0, 2)], base_ip").replace(
            "range(3)", "range(2)"
        )
    )
    client = site.connect(site.start())
    assert client.call("list_machines") == [
        {
            "name": "m",
            "tags": ["default"],
            "width": 1,
            "height": 1,
            "dead_boards": [[0, 0, 2]],
            "dead_links": [],
        }
    ]
    assert client.call("get_board_position", "m", 0, 0, 1) == [0, 0, 1]
    assert client.call("get_board_at_position", "m", x=0, y=0, z=1) == [0, 0, 1]
    assert client.call("get_board_position", "m", 0, 0, 2) is None
    assert client.call("get_board_at_position", "other", 0, 0, 0) is None
    assert client.call("where_is", machine="m", chip_x=8, chip_y=5) == {
        "machine": "m",
        "logical": [0, 0, 1],
        "physical": [0, 0, 1],
        "chip": [8, 5],
        "board_chip": [0, 1],
        "job_id": None,
        "job_chip": None,
    }
    assert client.call("where_is", machine="m", x=0, y=0, z=2) is None
    with pytest.raises(CommandError, match="where_is"):
        client.call("where_is", "m", 0, 0, 0)
    with pytest.raises(CommandError, match="cannot find anything by these"):
        client.call("where_is", machine="m")


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ({"command": "create_job"}, "^owner must be specified for all jobs$"),
        ({"command": "create_job", "args": [0], "kwargs": {"owner": "me"}}, "number"),
        ({"command": "version", "args": [1]}, "version: too many positional arguments"),
        ({"command": "get_job_state"}, "missing a required argument: 'job_id'"),
        ({"command": "get_job_state", "args": ["1"]}, "job_id must be an integer"),
        ({"command": "get_job_state", "args": [True]}, "job_id must be an integer"),
        ({"command": "list_jobs", "kwargs": {"x": 1}}, "unexpected keyword .*'x'"),
        ({"command": "list_jobs", "kwargs": {"_client": 1}}, "unexpected keyword"),
        ({"command": "destroy_job", "args": [1, 2]}, "reason must be a string"),
        ({"command": "notify_job", "args": [1.5]}, "job_id must be an integer"),
        ({"command": "notify_machine", "args": [1]}, "machine_name must be a string"),
        ({"command": "get_board_position", "args": ["m", 0, 0, None]}, "z must be an"),
        ({"command": "where_is", "kwargs": {"machine": "m", "x": "0"}}, "x must be an"),
    ],
)
def test_wrong_arguments_are_answered_and_the_connection_stays(
    client: Client, command: dict[str, Any], problem: str
) -> None:
    with pytest.raises(CommandError, match=problem):
        client.call(
            command["command"], *command.get("args", []), **command.get("kwargs", {})
        )
    assert client.call("list_jobs") == []
    assert client.call("create_job", owner="me") == 1


@pytest.mark.parametrize("value", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
def test_numbers_that_are_not_finite_are_refused(client: Client, value: bytes) -> None:
    client.send(
        b'{"command": "create_job", "args": [], '
        b'"kwargs": {"owner": "me", "keepalive": ' + value + b"}}\n"
    )
    assert "keepalive must be a finite number" in client.reply()["exception"]
    assert client.call("list_jobs") == []


def test_the_client_argument_is_ignored(client: Client) -> None:
    assert client.call("version", client="somebody else") == __version__
    assert client.call("create_job", owner="me", client="1.2.3.4") == 1
    assert client.call("list_jobs")[0]["keepalivehost"] == "127.0.0.1"


# Notifications


def test_notifications_of_all_jobs_and_machines(
    site: Site, running: SpallocServer, client: Client
) -> None:
    assert client.call("notify_job") is None
    assert client.call("notify_machine") is None
    other = site.connect(running)
    job_id = other.call("create_job", owner="me")
    assert client.notification() == {"jobs_changed": [job_id]}  # created, allocated
    assert client.notification() == {"machines_changed": ["m"]}
    assert client.notification() == {"jobs_changed": [job_id]}  # ready
    other.call("destroy_job", job_id)
    assert client.notification() == {"jobs_changed": [job_id]}
    assert client.notification() == {"machines_changed": ["m"]}
    assert client.call("version") == __version__
    assert client.notifications == []
    assert other.notifications == []


def test_notifications_of_one_job_and_one_machine(
    site: Site, running: SpallocServer, client: Client
) -> None:
    client.call("notify_job", 2)
    client.call("notify_machine", "other")
    client.call("notify_machine", "another")
    other = site.connect(running)
    for _ in range(3):
        other.call("create_job", 1, 1, owner="me")
    assert client.notification() == {"jobs_changed": [2]}
    for job_id in (3, 1, 2):
        other.call("destroy_job", job_id)
    while client.call("get_job_state", 2)["state"] != 4:
        pass
    seen = {name for message in client.notifications for name in message}
    assert seen <= {"jobs_changed"}
    assert all(m["jobs_changed"] == [2] for m in client.notifications)


def test_no_notifications_any_more(
    site: Site, running: SpallocServer, client: Client
) -> None:
    client.call("notify_job")
    client.call("no_notify_job", 1)  # cannot be taken out of all jobs
    client.call("notify_machine", "m")
    client.call("no_notify_machine", "m")
    client.call("no_notify_machine", "m")
    other = site.connect(running)
    other.call("create_job", 1, 1, owner="me")
    assert client.notification() == {"jobs_changed": [1]}
    client.call("no_notify_job")
    client.notifications.clear()
    other.call("destroy_job", 1)
    wait_until(lambda: running._controller.list_jobs() == [])
    assert client.call("version") == __version__
    assert client.notifications == []


def test_watches_end_with_the_connection_and_have_a_bound(
    site: Site, running: SpallocServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notifier, "MAX_WATCHES", 3)
    for job_id in (1, 2, 3, 3):
        client.call("notify_job", job_id)
    with pytest.raises(CommandError, match="more than 3 watched"):
        client.call("notify_job", 4)
    client.call("notify_job")
    client.call("notify_machine")
    client.close()
    wait_until(lambda: not running._client_job_watches)
    wait_until(lambda: not running._client_machine_watches)


def test_notifications_merge_and_survive_unsubscribing_of_others(
    running: SpallocServer, client: Client
) -> None:
    client.call("notify_job", 1)
    client.call("notify_job", 2)
    # One packet, hence one turn: both changes are there before any is notified of.
    create = b'{"command": "create_job", "args": [1, 1], "kwargs": {"owner": "me"}}\n'
    client.send(create * 2)
    assert [client.receive(), client.receive()] == [{"return": 1}, {"return": 2}]
    assert client.notification() == {"jobs_changed": [1, 2]}


# What is documented of the classes


class Stranger:
    """A client as a program that uses the classes directly may make one."""

    def __init__(self, *peer: Any) -> None:
        self.peer = peer

    def getpeername(self) -> tuple[Any, ...]:
        if not self.peer:
            raise OSError("not connected")
        return self.peer


def test_names_of_clients() -> None:
    assert Server._name(Stranger("1.2.3.4", 5)) == "1.2.3.4"
    assert Server._name(Stranger()) is None
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert Server._name(ours) is None


def test_handle_command_returns_the_reply(running: SpallocServer) -> None:
    stranger: Any = Stranger("1.2.3.4", 5)
    for line in (VERSION, VERSION.decode(), VERSION.rstrip()):
        assert running._handle_command(stranger, line) == {"return": __version__}
    assert running._handle_command(stranger, b'{"command": "create_job"}') == {
        "exception": "owner must be specified for all jobs"
    }
    create = '{"command": "create_job", "args": [], "kwargs": {"owner": "me"}}'
    assert running._handle_command(stranger, create) == {"return": 1}
    assert running._controller.list_jobs()[0].keepalivehost == "1.2.3.4"
    for line in (b"garbage", b'{"command": "nothing"}'):
        with pytest.raises(IOError, match=r"not JSON|unknown command 'nothing'"):
            running._handle_command(stranger, line)


def test_methods_return_what_clients_are_sent(
    running: SpallocServer, client: Client
) -> None:
    job_id = client.call("create_job", owner="me", tags=["default"])
    wait_until(lambda: ready(client, job_id))
    stranger: Any = Stranger("127.0.0.1", 5)
    state = running.get_job_state(stranger, job_id)
    assert state == client.call("get_job_state", job_id)
    assert type(state["state"]) is int
    listed = running.list_jobs(stranger)
    assert json.loads(json.dumps(listed)) == client.call("list_jobs")
    for command, returned in (
        (f'{{"command": "get_job_state", "args": [{job_id}]}}', state),
        ('{"command": "list_jobs"}', listed),
    ):
        assert running._handle_command(stranger, command) == {"return": returned}


def test_commands_work_for_none_as_the_client(
    running: SpallocServer, client: Client
) -> None:
    """Scripts beside the server call its methods, on behalf of nobody."""
    nobody: Any = None
    job_id = running.create_job(nobody, owner="me", keepalive=None)
    wait_until(lambda: ready(client, job_id))
    assert running.list_jobs(nobody)[0]["keepalivehost"] == "127.0.0.1"
    place = ("m", 0, 0, 0)
    calls: dict[str, tuple[Any, ...]] = {
        **{"version": (), "list_jobs": (), "list_machines": (), "list_problems": ()},
        **{"notify_job": (), "notify_machine": ("m",), "describe_job": (job_id,)},
        **{"job_keepalive": (job_id,), "get_job_state": (job_id,)},
        **{"get_job_machine_info": (job_id,), "power_off_job_boards": (job_id,)},
        **{"power_on_job_boards": (job_id,), "get_board_position": place},
        **{"get_board_at_position": place, "where_is": (), "report_problem": ()},
        **{"clear_problem": place, "no_notify_machine": ("m",), "no_notify_job": ()},
        **{"destroy_job": (job_id, "done")},
    }
    options: dict[str, dict[str, Any]] = {
        "where_is": dict(zip(("machine", "x", "y", "z"), place, strict=True)),
        "report_problem": {"ip_address": "10.11.12.1"},
    }
    assert calls.keys() == _COMMANDS.keys() - {"create_job", "speak_for_others"}
    for name, arguments in calls.items():
        returned = getattr(running, name)(nobody, *arguments, **options.get(name, {}))
        if name.startswith(("list", "get", "describe", "version", "where", "report")):
            assert json.loads(json.dumps(returned)) is not None, name
        else:
            assert returned is None
        # The server goes on, whatever there was to be told to nobody.
        client.call("power_on_job_boards", job_id)
        client.call("notify_job", job_id)
    running.notify_job(nobody, 5)
    running.notify_machine(nobody)
    assert client.call("get_job_state", job_id)["reason"] == "done"
    line = b'{"command": "create_job", "kwargs": {"owner": "me"}}'
    assert running._handle_command(nobody, line) == {"return": job_id + 1}
    wait_until(lambda: ready(client, job_id + 1))
    with pytest.raises(ValueError, match="--gateway-secret"):
        running.speak_for_others(nobody)


def test_a_subclass_may_replace_a_command_with_encoded_replies(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("spalloc_server.service.registry._COMMANDS", dict(_COMMANDS))
        patch.setattr(registry, "_SPECS", dict(registry._SPECS))

        class Secretive(SpallocServer):
            @spalloc_command
            @registry.reads
            def list_jobs(self, _client: Any) -> list[dict[str, Any]]:
                return []

        site.serve_bmps()
        with Secretive(str(site.config), port=0) as secretive:
            client = site.connect(secretive)
            client.call("create_job", owner="me")
            assert client.call("list_jobs") == []


def test_the_steps_from_text_to_configuration(running: SpallocServer) -> None:
    parsed = running._parse_config("configuration = Configuration(port=3)")
    configuration = running._validate_config(parsed)
    assert configuration is not None
    assert configuration.port == 3
    assert running._validate_config(running._parse_config("x = 1")) is None
    with pytest.raises(Exception, match="NameError"):
        running._parse_config("x")
    assert running._get_state_filename("/a/b.cfg") == f"/a/.b.cfg.state.{__version__}"


def test_a_server_without_commands(site: Site) -> None:
    site.serve_bmps()
    plain = Server(str(site.config), port=0)
    client = site.undo.enter_context(Client(plain.address[1]))
    client.send(b"garbage\n")
    assert client.is_disconnected()
    assert plain.is_alive()
    plain.stop_and_join()
