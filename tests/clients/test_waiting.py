"""Jobs that wait for boards, as each release of the client sees them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.clients.conftest import OFFICIAL
from tests.clients.jobs import READY
from tests.clients.released_client import OWNER, ReleasedClient, fields
from tests.clients.sites import Site
from tests.support import ONE_TRIAD, Client, running_server, wait_until

QUEUED = 1


def test_what_is_told_of_a_job_that_waits_disturbs_no_release(
    client: ReleasedClient, server: Client, site: Site, release: str
) -> None:
    size = len(site.places)
    holder = server.call("create_job", size, owner="other", keepalive=None)
    # The boards that the test before has had may still be on their way to be free.
    wait_until(lambda: server.call("get_job_state", holder)["state"] != QUEUED)
    waits = server.call("create_job", size, owner=OWNER, keepalive=None)
    state = server.call("get_job_state", waits)
    assert state["waiting"]["reason"] in ("first", "kept")
    (listed,) = [job for job in server.call("list_jobs") if job["job_id"] == waits]
    told = server.call("get_job_state", waits)["waiting"]
    # About when it starts is judged by how long it has waited so far.
    assert {**listed["waiting"], "about": 0} == {**told, "about": 0}
    assert "waiting" not in server.call("get_job_state", holder)

    shown = fields(client.run("spalloc-job", "--info", waits))
    assert (shown["State"], shown["Owner"]) == ("queued", OWNER)
    table = client.run("spalloc-ps")
    assert str(waits) in table
    assert "queue" in table

    server.call("destroy_job", holder)
    wait_until(lambda: server.call("get_job_state", waits)["state"] != QUEUED)
    assert "waiting" not in server.call("get_job_state", waits)
    server.call("destroy_job", waits)


def test_the_reason_of_a_limit_is_shown(commands: Path, tmp_path: Path) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    config = ONE_TRIAD.replace("seconds_", "jobs_per_owner=1, seconds_")
    with (
        running_server(config, "--simulate", folder=folder) as server,
        Client(server.port) as raw,
    ):
        raw.call("create_job", owner=OWNER, keepalive=None)
        client = ReleasedClient(commands, tmp_path, server.port)
        done = client.fails("spalloc", 1, "-c", "true")
    assert done.returncode != 0
    reason = f"{OWNER} has as many jobs as an owner may have at a time: 1."
    assert reason in done.stdout + done.stderr


@pytest.mark.parametrize("release", [OFFICIAL], indirect=True)
def test_a_board_is_had_at_once_behind_a_large_job(
    commands: Path, million_core_site: Site, tmp_path: Path
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    config = million_core_site.config
    with (
        running_server(config, "--simulate", folder=folder) as server,
        Client(server.port) as raw,
    ):
        half = raw.call("create_job", 600, owner="ann", keepalive=None)
        wait_until(lambda: raw.call("get_job_state", half)["state"] == READY)
        large = raw.call("create_job", 720, owner="bob", keepalive=None)
        assert raw.call("get_job_state", large)["state"] == QUEUED
        client = ReleasedClient(commands, tmp_path, server.port)

        # It would wait for hours behind the large job if only that were tried.
        printed = client.run("spalloc", 1, "-c", "echo", "{w}", "{h}")

        assert printed.splitlines()[-1] == "8 8"
        told = raw.call("get_job_state", large)
        assert (told["state"], told["waiting"]["queues"][0]["place"]) == (QUEUED, 1)
        raw.call("destroy_job", half)
        wait_until(lambda: raw.call("get_job_state", large)["state"] == READY)
        assert len(raw.call("get_job_machine_info", large)["boards"]) >= 720
