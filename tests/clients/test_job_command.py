"""``spalloc-job``: look at a job, and control its boards."""

import csv
import io
from typing import Any

import pytest

from tests.clients.jobs import (
    DESTROYED,
    READY,
    create_ready_job,
    get_state,
)
from tests.clients.released_client import OWNER, ReleasedClient, fields
from tests.clients.sites import Site
from tests.support import Client


@pytest.fixture
def job(server: Client, site: Site) -> dict[str, Any]:
    return create_ready_job(server, site.some, owner=OWNER)


@pytest.mark.parametrize("by_id", [True, False], ids=["by-id", "by-owner"])
def test_info(
    client: ReleasedClient, site: Site, job: dict[str, Any], by_id: bool
) -> None:
    job_id = [job["job_id"]] if by_id else []

    shown = fields(client.run("spalloc-job", "--info", *job_id))

    assert shown["Job ID"] == str(job["job_id"])
    assert shown["Owner"] == OWNER
    assert shown["State"] == "ready"
    assert shown["Keepalive"] == "None"
    assert shown["Request"].startswith(f"Job({site.some}")
    assert shown["Hostname"] == site.connections(job["boards"])[0, 0]
    side = "8" if site.some == 1 else "16"
    assert (shown["Width"], shown["Height"]) == (side, side)
    assert shown["Num boards"] == str(site.some)
    assert shown["Board power"] == "on"
    assert shown["Running on"] == site.name


def test_info_of_no_job(client: ReleasedClient, server: Client) -> None:
    assert fields(client.run("spalloc-job", 999999))["State"] == "unknown"

    assert client.fails("spalloc-job").returncode == 3, "no job of this owner"


def test_power_off_and_on_and_reset(
    client: ReleasedClient, server: Client, site: Site, job: dict[str, Any]
) -> None:
    # Each command ends when the boards have changed.
    for option, power in [
        ("--power-off", False),
        ("--power-on", True),
        ("--reset", True),
    ]:
        server.call("notify_job", job["job_id"])
        assert client.run("spalloc-job", option, job["job_id"]) == ""
        assert server.notification() == {"jobs_changed": [job["job_id"]]}
        server.call("no_notify_job", job["job_id"])
        state = get_state(server, job["job_id"])
        assert (state["state"], state["power"]) == (READY, power)
        shown = fields(client.run("spalloc-job"))
        assert shown["Board power"] == ("on" if power else "off")


def test_ethernet_ips(client: ReleasedClient, site: Site, job: dict[str, Any]) -> None:
    printed = client.run("spalloc-job", "--ethernet-ips", job["job_id"])

    heading, *rows = csv.reader(io.StringIO(printed))
    assert heading == ["x", "y", "hostname"]
    assert rows == sorted(rows, key=lambda row: (int(row[0]), int(row[1])))
    connections = {(int(x), int(y)): hostname for x, y, hostname in rows}
    assert connections == site.connections(job["boards"])


def test_destroy(client: ReleasedClient, server: Client, job: dict[str, Any]) -> None:
    job_id = job["job_id"]

    assert client.run("spalloc-job", job_id, "--destroy", "Too long.") == ""

    state = get_state(server, job_id)
    assert (state["state"], state["reason"]) == (DESTROYED, "Too long.")
    shown = fields(client.run("spalloc-job", job_id))
    assert shown == {
        "Job ID": str(job_id),
        "State": "destroyed",
        "Reason": "Too long.",
    }


def test_watches(client: ReleasedClient, server: Client, job: dict[str, Any]) -> None:
    with client.start("spalloc-job", "--watch", job["job_id"]) as watching:
        watching.wait_for(r"^ *State: ready")
        watching.wait_for(r"^ *Board power: on")
        server.call("power_off_job_boards", job["job_id"])
        watching.wait_for(r"^ *Board power: off")
        server.call("destroy_job", job["job_id"], "Enough.")
        watching.wait_for(r"^ *State: destroyed")
        watching.wait_for(r"^ *Reason: Enough\.")
