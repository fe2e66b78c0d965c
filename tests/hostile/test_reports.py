"""Users who report every board there is."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from tests.support import Client, CommandError, ready, running_server, wait_until

CONFIG = """
configuration = Configuration(
    machines=[
        Machine.with_standard_ips(
            "m", width=8, height=4,
            board_locations={
                (x, y, z): (0, x, 3 * y + z)
                for x in range(8) for y in range(4) for z in range(3)
            },
        ),
    ],
    seconds_before_free=0,
)
"""
BOARDS = 8 * 4 * 3


def report_all(client: Client, owner: str) -> str:
    """Report each board once that the jobs of an owner can get, and end the jobs.

    :return: what came of the last report
    """
    outcome = {}
    jobs = [
        client.call("create_job", owner=owner, keepalive=None)
        for _ in range(BOARDS - out(client))
    ]

    def is_settled(number: int) -> bool:
        # What was reported before may go out of service only now; who is too many then
        # waits in vain.
        return ready(client, jobs[number]) or number >= BOARDS - out(client)

    for number in range(len(jobs)):
        wait_until(partial(is_settled, number))
    for job_id in jobs:
        info = client.call("get_job_machine_info", job_id)
        if info["connections"] is None:
            continue
        ((_, address),) = info["connections"]
        outcome = client.call("report_problem", address)
    for job_id in jobs:
        client.call("destroy_job", job_id)
    return str(outcome["text"])


def out(client: Client) -> int:
    """How many boards are out of service."""
    (machine,) = client.call("list_machines")
    problems = client.call("list_problems")
    assert len(machine["dead_boards"]) == sum(p["out_of_service"] for p in problems)
    return len(machine["dead_boards"])


def test_two_jobs_cannot_take_a_machine_out_of_service(tmp_path: Path) -> None:
    with running_server(CONFIG, "--simulate", folder=tmp_path) as server:
        with Client(server.port) as client:
            report_all(client, "eve")
            assert out(client) == 0
            assert report_all(client, "eve") == (
                "it stays in service: their owners have 5 boards out already"
            )
            assert out(client) == 5
            server.wait_for_log(
                r"ERROR Board .* of m, and perhaps more, stays in service though "
                r"enough jobs have reported it: their owners have 5 boards out already"
            )
            # Nobody is kept waiting for what is left of the machine.
            job_id = client.call("create_job", 80, owner="me")
            wait_until(partial(ready, client, job_id))
            # Who needs all of it waits.
            whole = client.call("create_job", 8, 4, owner="me", max_dead_boards=0)
            assert client.call("get_job_state", whole)["state"] == 1
        server.kill()
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        client.call("destroy_job", job_id)
        assert out(client) == 5
        assert client.call("get_job_state", whole)["state"] == 1
        client.call("destroy_job", whole)
        report_all(client, "eve")
        assert out(client) == 5
        # Somebody has looked; there is room for one more.
        problem = next(p for p in client.call("list_problems") if p["out_of_service"])
        client.call("clear_problem", problem["machine"], *problem["board"])
        assert out(client) == 4
        report_all(client, "eve")
        assert out(client) == 5


def test_owners_without_number_cannot_take_a_machine_out(tmp_path: Path) -> None:
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        for number in range(6):
            report_all(client, f"eve{number}")
        assert out(client) == -(-BOARDS // 10)
        server.wait_for_log(r"one board in 10 of the machine is out already because of")


def test_what_is_kept_of_reports_is_bounded(tmp_path: Path) -> None:
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):

        def report(owner: str, number: int) -> list[str]:
            """Report all boards of a new job so often; gives what is refused."""
            job_id = client.call("create_job", 8, 4, owner=owner, keepalive=None)
            wait_until(partial(ready, client, job_id))
            info = client.call("get_job_machine_info", job_id)
            refused = []
            for _, address in info["connections"]:
                for _ in range(number):
                    client.send_command("report_problem", address, 0, 0, 0, "x" * 2000)
                replies = [client.reply() for _ in range(number)]
                refused += [r["exception"] for r in replies if "exception" in r]
            client.call("destroy_job", job_id)
            return refused

        assert report("me", 9)[-1].endswith(
            "are kept: reports by jobs of me take more than 1048576 bytes"
        )
        # Others are heard as before.
        assert report("you", 1) == []
        assert sum(len(p["reports"]) for p in client.call("list_problems")) < 550
        assert out(client) == 5


def test_one_owner_cannot_report_a_board_without_end(tmp_path: Path) -> None:
    with (
        running_server(CONFIG, "--simulate", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        jobs = 0
        while not out(client):
            job_id = client.call("create_job", 0, 0, 0, owner="me", machine="m")
            wait_until(partial(ready, client, job_id))
            info = client.call("get_job_machine_info", job_id)
            ((_, address),) = info["connections"]
            for _ in range(10):
                client.call("report_problem", address)
            with pytest.raises(CommandError, match=f"10 times by job {job_id}$"):
                client.call("report_problem", address)
            client.call("destroy_job", job_id)
            jobs += 1
        assert jobs == 2
        # Those that come together are judged one after the other, too.
        for _ in range(14):
            client.send_command("report_problem", address)
        replies = [client.reply() for _ in range(14)]
        assert ["exception" in reply for reply in replies] == [False] * 10 + [True] * 4
        assert replies[-1]["exception"].endswith("reported 10 times by no job")
