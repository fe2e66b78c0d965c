"""``spalloc-ps``, ``spalloc-machine`` and ``spalloc-where-is``."""

import re
from typing import Any

import pytest

from tests.clients.jobs import create_ready_job
from tests.clients.released_client import ReleasedClient, fields, table
from tests.clients.sites import Place, Site
from tests.support import Client

SOMEBODY = "somebody@example.org"

LABELS = (
    "Machine",
    "Physical location",
    "Board coordinate",
    "Machine chip coordinates",
    "Coordinates within board",
    "Job using board",
    "Coordinates within job",
)


@pytest.fixture
def job(server: Client, site: Site) -> dict[str, Any]:
    return create_ready_job(server, site.some, owner=SOMEBODY)


@pytest.fixture
def example(server: Client, site: Site) -> tuple[Place, dict[str, Any]]:
    """Give a board that was asked for by its position, and its job."""
    return (
        site.places[site.example],
        create_ready_job(server, *site.example, machine=site.name),
    )


def test_ps_lists_the_jobs(
    client: ReleasedClient, server: Client, site: Site, job: dict[str, Any]
) -> None:
    queued = server.call("create_job", site.size, owner="late@example.org")

    heading, first, second = table(client.run("spalloc-ps"))

    columns = ["ID", "State", "Power", "Boards", "Machine"]
    assert heading[:5] == columns
    assert first[:5] == [str(job["job_id"]), "ready", "on", str(site.some), site.name]
    assert re.fullmatch(r"\d\d/\d\d/\d{4} \d\d:\d\d:\d\d", first[5])
    # The oldest release does not tell the host.
    assert first[6:] in (["None", SOMEBODY], ["None", f"{SOMEBODY} (127.0.0.1)"])
    # It has no power, boards and machine yet.
    assert second[:2] == [str(queued), "queue"]
    assert second[-1].split()[0] == "late@example.org"


def test_ps_filters(
    client: ReleasedClient, server: Client, site: Site, job: dict[str, Any]
) -> None:
    both = ("--owner", SOMEBODY, "--machine", site.name)
    assert len(table(client.run("spalloc-ps", *both))) == 2

    assert len(table(client.run("spalloc-ps", "--owner", "nobody"))) == 1
    assert len(table(client.run("spalloc-ps", "--machine", "nowhere"))) == 1


def test_ps_watches(client: ReleasedClient, server: Client, site: Site) -> None:
    with client.start("spalloc-ps", "--watch") as watching:
        watching.wait_for("Owner")
        job = create_ready_job(server, site.some)
        row = rf"^ *{job['job_id']} +ready +on +{site.some} "
        shown = watching.wait_for(row)
        server.call("destroy_job", job["job_id"])
        # The list is shown again, and there is nothing on it.
        headings = len(re.findall("Owner", watching.output[: shown.end()]))
        watching.wait_for("Owner", headings + 1)


def test_machine_lists_the_machines(
    client: ReleasedClient, site: Site, job: dict[str, Any]
) -> None:
    assert table(client.run("spalloc-machine")) == [
        ["Name", "Num boards", "In-use", "Jobs", "Tags"],
        [site.name, str(site.size), str(site.some), "1", "default"],
    ]


def test_machine_draws_a_machine(
    client: ReleasedClient, site: Site, job: dict[str, Any]
) -> None:
    printed = client.run("spalloc-machine", site.name)

    shown = fields(printed)
    assert shown["Name"] == site.name
    assert shown["Tags"] == "default"
    assert shown["In-use"] == f"{site.some} of {site.size}"
    assert shown["Jobs"] == "1"
    # Each board is a hexagon with a dot, or with the key of its job.
    drawn = re.findall(r" (\S) (?=[\\/])", printed.partition("Jobs:")[2])
    assert drawn.count("A") == site.some
    assert drawn.count(".") == site.size - site.some
    assert printed.split()[-1] == f"A:{job['job_id']}"


def test_machine_details_its_jobs(
    client: ReleasedClient, site: Site, job: dict[str, Any]
) -> None:
    printed = client.run("spalloc-machine", "--detailed", site.name)

    assert fields(printed)["In-use"] == f"{site.some} of {site.size}"
    heading, row = table(printed)[-2:]
    assert heading[:3] == ["Key", "Job ID", "Num boards"]
    assert row[:3] == ["A", str(job["job_id"]), str(site.some)]
    assert row[3].startswith(SOMEBODY)


def test_machine_says_that_there_is_none(client: ReleasedClient) -> None:
    done = client.fails("spalloc-machine", "nowhere")

    assert done.returncode == 6
    assert "No machine 'nowhere' was found" in done.stdout + done.stderr


def test_where_is_a_chip_of_a_job(
    client: ReleasedClient, site: Site, job: dict[str, Any]
) -> None:
    # Ask for a chip of the last board in another place than its Ethernet chip.
    boards = job["boards"]
    position = max(tuple(board) for board in boards)
    place = site.places[position]
    (chip,) = (
        chip
        for chip, hostname in site.connections(boards).items()
        if hostname == place.hostname
    )

    x, y = chip[0] + 2, chip[1] + 1
    shown = fields(client.run("spalloc-where-is", "--job-chip", job["job_id"], x, y))

    assert [shown[label] for label in LABELS] == [
        site.name,
        "Cabinet {}, Frame {}, Board {}".format(*place.physical),
        str(place.board),
        str((place.chip[0] + 2, place.chip[1] + 1)),
        "(2, 1)",
        str(job["job_id"]),
        str((x, y)),
    ]


def test_where_is_a_chip_that_no_job_has(client: ReleasedClient) -> None:
    done = client.fails("spalloc-where-is", "--job-chip", 999999, 0, 0)

    assert done.returncode == 4
    assert "No boards at the specified location" in done.stdout + done.stderr


def _ways_to_ask(place: Place, machine: str) -> dict[str, dict[str, Any]]:
    """Return the options of the command, with what they ask the server."""
    return {
        "--board": {
            "machine": machine,
            **dict(zip(("x", "y", "z"), place.board, strict=True)),
        },
        "--physical": {
            "machine": machine,
            **dict(zip(("cabinet", "frame", "board"), place.physical, strict=True)),
        },
        "--chip": {
            "machine": machine,
            "chip_x": place.chip[0] + 3,
            "chip_y": place.chip[1] + 4,
        },
    }


@pytest.mark.parametrize("option", ["--board", "--physical", "--chip"])
def test_where_is_a_place(
    server: Client, site: Site, example: tuple[Place, dict[str, Any]], option: str
) -> None:
    """What the server says; which client shows it is in ``test_where_is.py``."""
    place, job = example
    inside = (3, 4) if option == "--chip" else (0, 0)
    question = _ways_to_ask(place, site.name)[option]

    answer = server.call("where_is", **question)

    assert answer == {
        "machine": site.name,
        "logical": list(place.board),
        "physical": list(place.physical),
        "chip": [place.chip[0] + inside[0], place.chip[1] + inside[1]],
        "board_chip": list(inside),
        "job_id": job["job_id"],
        "job_chip": list(inside),
    }
