"""The server is stopped and started again, and nobody who has boards loses them."""

import contextlib
import signal
from pathlib import Path
from typing import Any

from tests.clients.jobs import DESTROYED, READY, get_state, wait_for_state
from tests.clients.released_client import ReleasedClient
from tests.clients.sites import Site
from tests.clients.test_library import described
from tests.support import ONE_TRIAD, Client, running_server, wait_until

RESUMING_PROGRAM = "tests.clients.resuming_program"

KEEPALIVE = 6
"""Seconds that a job here lives without its client."""


def list_jobs(server: Client) -> dict[int, dict[str, Any]]:
    return {job["job_id"]: job for job in server.call("list_jobs")}


def wait_until_keepalives_were_needed(server: Client) -> None:
    """Wait until a job has timed out that is created now and has no client."""
    job_id = server.call("create_job", 1, owner="nobody", keepalive=KEEPALIVE)
    # Asking for its state would keep it alive.
    wait_until(lambda: job_id not in list_jobs(server))
    assert get_state(server, job_id)["reason"] == "Job timed out."


def test_jobs_go_on(commands: Path, million_core_site: Site, tmp_path: Path) -> None:
    """Restart in the middle of a wrapped command, a program and a job left alone."""
    site = million_core_site
    user, state = tmp_path / "user", tmp_path / "server"
    user.mkdir()
    state.mkdir()
    script = "echo {id} held; read _; cat {ethernet_ips}; echo done"
    wrap = ("--keepalive", KEEPALIVE, 24, "-c", "sh", "-c", script)
    with running_server(site.config, "--simulate", folder=state) as first:
        client = ReleasedClient(commands, user, first.port)
        with (
            client.start("spalloc", *wrap) as wrapping,
            client.start(RESUMING_PROGRAM, KEEPALIVE, 3) as program,
        ):
            client.run("spalloc", "--no-destroy", "--keepalive", "-1", "3", "4", "0")
            wrapped = int(wrapping.wait_for(r"^(\d+) held$")[1])
            at_first = described(program, 1)
            with Client(first.port) as server:
                before = list_jobs(server)
            assert len(before) == 3
            assert {job["state"] for job in before.values()} == {READY}

            assert first.stop(signal.SIGTERM) == 0
            assert "powered off" not in first.log
            options = ("--simulate", "--port", str(first.port))
            with running_server(first.config_file, *options) as second:
                assert second.port == first.port
                with (
                    Client(second.port) as server,
                    # From release 2.0.1 on, spalloc does not connect again to keep the
                    # boards of a command alive. Its manual's way to do it is this.
                    client.start("spalloc", "--resume", wrapped) as resuming,
                ):
                    assert list_jobs(server) == before
                    program.type()
                    assert described(program, 2) == at_first
                    resuming.wait_for("^<Press enter when done>")
                    assert "powered" not in second.log
                    wait_until_keepalives_were_needed(server)
                    assert list_jobs(server) == before

                    program.type("reset")
                    assert described(program, 3) == at_first
                    assert program.wait() == 0, program.output
                    wait_for_state(server, at_first["id"], DESTROYED)

                    wrapping.type()
                    wrapping.wait_for("^done$")
                    boards = before[wrapped]["boards"]
                    for (x, y), hostname in site.connections(boards).items():
                        assert f"\n{x},{y},{hostname}\n" in wrapping.output
                    resuming.type()
                    assert resuming.wait() == 0, resuming.output
                    wait_for_state(server, wrapped, DESTROYED)

                    (left,) = list_jobs(server)
                    assert client.run("spalloc-job", left, "--destroy") == ""
                    assert not list_jobs(server)


def test_what_users_see(release: str, commands: Path, tmp_path: Path) -> None:
    """Of one who has boards, and one who waits: as the manual says."""
    user, state = tmp_path / "user", tmp_path / "server"
    user.mkdir()
    state.mkdir()
    with running_server(ONE_TRIAD, "--simulate", folder=state) as first:
        client = ReleasedClient(commands, user, first.port)
        with contextlib.ExitStack() as undo:
            holding = undo.enter_context(client.start("spalloc", 3))
            holding.wait_for("^<Press enter when done>")
            waiting = undo.enter_context(client.start("spalloc"))
            waiting.wait_for("Waiting in queue")
            assert first.stop() == 0
            if release == "0.2.6":
                # Where the next server is quick enough, nothing is said of it.
                waiting.wait_for("server is unreachable .*, will keep trying")
            options = ("--simulate", "--port", str(first.port))
            with (
                running_server(first.config_file, *options) as second,
                Client(second.port) as server,
            ):
                if release == "0.2.6":
                    server.call("destroy_job", 1)
                    waiting.wait_for("Job 2: Ready!")
                    return
                assert waiting.wait() == 1
                assert "ProtocolError: " in waiting.output
                holding.type()
                assert holding.wait() == 1
                assert "ProtocolError: Connection closed." in holding.output
                # Their jobs are still there, and can be gone on with.
                assert list(list_jobs(server)) == [1, 2]
                with client.start("spalloc", "--resume", 2) as resuming:
                    server.call("destroy_job", 1)
                    resuming.wait_for("^<Press enter when done>")
