"""No client can have the server keep much more than it has sent."""

from __future__ import annotations

import itertools
import json
import re
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support import Client, CommandError, ServerProcess, from_nothing

MiB = 1024 * 1024

CONFIG = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m", width=8, height=8,
            board_locations={
                (x, y, z): (0, x, 3 * y + z)
                for x in range(8) for y in range(8) for z in range(3)
            },
        ),
        Machine.single_board("s", {"other"}, bmp_ip="bmp-s", spinnaker_ip="board-s"),
    ],
    seconds_before_free=0,
)
"""


def memory(server: ServerProcess) -> int:
    """The most memory that the server has had, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


def pipelined(client: Client, number: int, name: str, *args: object) -> None:
    line = json.dumps({"command": name, "args": args}).encode() + b"\n"
    client.send(line * number)


def batch(client: Client, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Call commands, many at a time; gives what they return."""
    waiting = iter(commands)
    returned = []
    while some := list(itertools.islice(waiting, 50)):
        for name, *args in some:
            client.send_command(name, *args)
        replies = [client.reply() for _ in some]
        assert not [reply for reply in replies if "exception" in reply]
        returned += [reply["return"] for reply in replies]
    return returned


def answers(server: ServerProcess) -> None:
    with Client(server.port) as other:
        other.call("version")


def test_listings_of_problems_for_a_client_that_does_not_read(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        job_id = client.call("create_job", 8, 8, owner="me", keepalive=None)
        info = client.call("get_job_machine_info", job_id)
        reported = 0
        for _, ip_address in info["connections"]:
            report = ip_address, 0, 0, 1, "\N{SNOWMAN}" * 1000
            for _ in range(10):
                client.send_command("report_problem", *report)
            replies = [client.reply() for _ in range(10)]
            reported += any("return" in reply for reply in replies)
        before = memory(server)
        pipelined(client, 40, "list_problems")
        answers(server)
        with Client(server.port) as reader:
            # As long as it is, it arrives where somebody reads it.
            assert len(reader.call("list_problems")) == reported > 20
        assert memory(server) - before < 40 * MiB


@pytest.mark.parametrize("command", ["list_jobs", "get_job_machine_info"])
def test_long_replies_to_a_client_that_does_not_read(
    tmp_path: Path, command: str
) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        tags = [f"{number}" for number in range(900)]
        job_id = client.call("create_job", 8, 8, owner="me", keepalive=None)
        for _ in range(500):
            client.call("create_job", owner="x" * 1000, keepalive=None)
        with pytest.raises(CommandError, match="No suitable machines"):
            raise CommandError(
                client.call(
                    "get_job_state", client.call("create_job", owner="me", tags=tags)
                )["reason"]
            )
        before = memory(server)
        pipelined(client, 1000, command, *([job_id] if "info" in command else []))
        for _ in range(5):
            answers(server)
        assert memory(server) - before < 20 * MiB


def test_many_that_list_all_and_read_nothing(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
        ExitStack() as undo,
    ):
        client.call("create_job", 8, 8, owner="me", keepalive=None)
        for _ in range(300):
            client.send_command("create_job", 8, 8, owner="x" * 1000, keepalive=None)
        for _ in range(300):
            client.reply()
        before = memory(server)
        many = [undo.enter_context(Client(server.port)) for _ in range(100)]
        for each in many:
            pipelined(each, 10, "list_jobs")
        for _ in range(20):
            began = time.monotonic()
            answers(server)
            # Five lists of 0.4 MB in each turn would take no longer.
            assert time.monotonic() - began < 2
        assert memory(server) - before < 60 * MiB
        # All get what they asked for when they read it.
        for each in many[:10]:
            for _ in range(10):
                assert len(each.reply()["return"]) == 301


@pytest.mark.long
@pytest.mark.slow
def test_who_does_not_go_on_reading_is_disconnected(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
        Client(server.port) as slow,
        Client(server.port) as deaf,
    ):
        client.call("create_job", 8, 8, owner="me", keepalive=None)
        for _ in range(3000):
            client.send_command("create_job", 8, 8, owner="x" * 1000, keepalive=None)
            client.reply()
        for each in (slow, deaf):
            each.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
            each.send_command("list_jobs")
            each.send_command("version")
        # 3 MB: more than the kernel holds.
        listing = bytearray()
        while "disconnected: it has taken" not in server.log:
            listing += slow.socket.recv(8 * 1024)
            time.sleep(0.1)  # nothing is waited for: this is how slowly it reads
        port = deaf.socket.getsockname()[1]
        reason = r"it has taken \d+ bytes of a long reply in 30 s"
        assert re.search(rf"port {port} disconnected: {reason}", server.log)
        assert len(deaf.socket.makefile("rb").read()) < 2 * MiB
        file = slow.socket.makefile("rb")
        if b"\n" not in listing:
            listing += file.readline()
        assert len(json.loads(listing)["return"]) == 3001
        assert b"return" in file.readline()


def test_tags_are_bounded_and_none_counts_twice(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        client.call("create_job", 8, 8, owner="me", keepalive=None)
        client.call("create_job", 8, 8, owner="me", tags=["default"] * 5000)
        _, waiting = client.call("list_jobs")
        assert waiting["kwargs"]["tags"] == ["default"]
        with pytest.raises(CommandError, match="tags must have at most 4096 bytes"):
            client.call("create_job", owner="me", tags=[f"{n}" for n in range(2000)])


def test_long_reasons(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        before = memory(server)
        with pytest.raises(CommandError, match="reason must have at most 4096 bytes"):
            client.call("destroy_job", 1, "\N{SNOWMAN}" * 2000)
        for _ in range(30):
            new = [client.call("create_job", 8, 8, owner="me") for _ in range(50)]
            batch(client, (("destroy_job", job, "\N{SNOWMAN}" * 1300) for job in new))
            states = batch(client, (("get_job_state", job) for job in new))
            assert [state["state"] for state in states] == [4] * 50
        assert memory(server) - before < 40 * MiB


def test_reports_without_end(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        client.call("create_job", owner="me", machine="s", keepalive=None)
        for _ in range(10):
            client.call("report_problem", "board-s", description="x" * 4000)
        for _ in range(3000):
            with pytest.raises(CommandError, match="reported 10 times by job 1"):
                client.call("report_problem", "board-s", description="x" * 4000)
        kept = sum(path.stat().st_size for path in tmp_path.iterdir())
        assert kept < 2 * MiB
        (problem,) = client.call("list_problems")
        assert len(problem["reports"]) == 10


def test_long_names_that_are_watched(tmp_path: Path) -> None:
    with (
        from_nothing(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        before = memory(server)
        batch(client, (("notify_machine", f"{n:01000}") for n in range(262)))
        for number in range(262, 10_000):
            client.send_command("notify_machine", f"{number:01000}")
            assert "names of more than 262144 bytes" in client.reply()["exception"]
        client.call("no_notify_machine", f"{0:01000}")
        client.call("notify_machine", f"{20_000:01000}")
        assert memory(server) - before < 5 * MiB
