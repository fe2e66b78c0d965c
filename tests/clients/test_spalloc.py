"""``spalloc``: get boards, in every way to ask for some, and give them back."""

import csv
import io
from importlib.metadata import version
from pathlib import Path

from tests.clients.conftest import OFFICIAL
from tests.clients.jobs import (
    DESTROYED,
    READY,
    create_ready_job,
    get_only_job,
    get_state,
    wait_for_state,
)
from tests.clients.released_client import OWNER, ReleasedClient, fields
from tests.clients.sites import Site
from tests.support import Client

PROMPT = "^<Press enter when done>"


def test_is_the_release(commands: Path, release: str, tmp_path: Path) -> None:
    expected = version("spalloc") if release == OFFICIAL else release
    no_server = 1

    printed = ReleasedClient(commands, tmp_path, no_server).run("spalloc", "--version")

    assert printed.strip().removeprefix("v") == expected


def test_wraps_a_command(
    client: ReleasedClient, server: Client, site: Site, tmp_path: Path
) -> None:
    printed = client.run(
        "spalloc", site.some, "-c", "echo", "{hostname}", "{w}", "{h}", "{ethernet_ips}"
    )

    hostname, width, height, csv_file = printed.splitlines()[-1].split()
    assert hostname in {place.hostname for place in site.places.values()}
    side = "8" if site.some == 1 else "16"
    assert (width, height) == (side, side)
    assert Path(csv_file).parent == tmp_path
    assert not Path(csv_file).exists(), "it is there while the command runs only"
    assert not server.call("list_jobs")


def test_wrapped_command_holds_the_boards_until_it_ends(
    client: ReleasedClient, server: Client, site: Site
) -> None:
    script = "cat {ethernet_ips}; echo {id} {} {width} {height} held; read _; exit 7"
    with client.start("spalloc", site.some, "-c", "sh", "-c", script) as spalloc:
        held = spalloc.wait_for(r"^(\d+) (\S+) (\d+) (\d+) held$")
        job = get_only_job(server)
        info = server.call("get_job_machine_info", job["job_id"])
        spalloc.type()
        status = spalloc.wait()

    assert status == 7, "spalloc ends as the command does"
    assert int(held[1]) == job["job_id"]
    assert (job["state"], job["power"], job["owner"]) == (READY, True, OWNER)
    assert len(job["boards"]) == site.some
    assert job["allocated_machine_name"] == site.name
    expected = site.connections(job["boards"])
    assert held[2] == expected[0, 0]
    assert [int(held[3]), int(held[4])] == [info["width"], info["height"]]
    # What was printed between "Ready!" and the line of the script is the CSV file.
    text = spalloc.output[: held.start()].partition("Ready!")[2].strip()
    lines = list(csv.reader(io.StringIO(text)))
    assert lines[0] == ["x", "y", "hostname"]
    assert len(lines) == 1 + site.some
    assert {(int(x), int(y)): host for x, y, host in lines[1:]} == expected
    ended = get_state(server, job["job_id"])
    assert (ended["state"], ended["reason"]) == (DESTROYED, None)


def test_every_way_to_ask(client: ReleasedClient, server: Client, site: Site) -> None:
    for style in site.styles:
        with client.start("spalloc", *style.arguments) as spalloc:
            spalloc.wait_for(PROMPT)
            job = get_only_job(server)
            spalloc.type()
            assert spalloc.wait() == 0

        expected = site.connections(job["boards"])
        shown = fields(spalloc.output)
        assert f"Job {job['job_id']}: Ready!" in spalloc.output
        assert shown["Running on"] == site.name
        assert (int(shown["Width"]), int(shown["Height"])) == style[-2:]
        assert shown["Hostname"] == expected[0, 0]
        assert shown.get("Num boards", "1") == str(style.boards)
        assert (job["state"], job["power"]) == (READY, True)
        assert len(job["boards"]) == len(expected) == style.boards
        assert job["args"] == [int(word) for word in style.arguments if word.isdigit()]
        assert get_state(server, job["job_id"])["state"] == DESTROYED
        if len(job["args"]) == 3:
            assert job["boards"] == [list(site.example)]


def test_says_why_there_will_never_be_boards(
    client: ReleasedClient, site: Site
) -> None:
    done = client.fails("spalloc", site.size + 1)

    assert done.returncode == 1
    assert "Destroyed: Cancelled: No suitable machines available." in (
        done.stdout + done.stderr
    )


def test_waits_in_the_queue(client: ReleasedClient, server: Client, site: Site) -> None:
    first = create_ready_job(server, site.size)

    with client.start("spalloc", site.some) as spalloc:
        spalloc.wait_for(r"^Job \d+: Waiting in queue\.\.\.")
        assert "Ready!" not in spalloc.output
        server.call("destroy_job", first["job_id"])
        spalloc.wait_for(PROMPT)
        assert len(get_only_job(server)["boards"]) == site.some


def test_resumes_a_job_that_was_not_destroyed(
    client: ReleasedClient, server: Client, site: Site
) -> None:
    # No keepalive is needed: that is how the manual says to do it.
    left = client.run("spalloc", "--no-destroy", "--keepalive", "-1", site.some)
    job = get_only_job(server)
    assert (job["state"], job["keepalive"]) == (READY, None)

    with client.start("spalloc", "--resume", job["job_id"]) as spalloc:
        spalloc.wait_for(PROMPT)
        assert get_only_job(server) == job
        spalloc.type()
        assert spalloc.wait() == 0

    before, after = fields(left), fields(spalloc.output)
    for name in ("Hostname", "Width", "Height", "Running on"):
        assert after[name] == before[name]
    wait_for_state(server, job["job_id"], DESTROYED)
    done = client.fails("spalloc", "--resume", job["job_id"])
    assert done.returncode != 0
    assert f"Job {job['job_id']} does not exist: destroyed" in done.stderr
