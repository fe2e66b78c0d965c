"""The client's library: ``Job`` and ``ProtocolClient``, in a process of the release."""

import json
from typing import Any

from spalloc_server import __version__
from tests.clients.job_program import OWNER
from tests.clients.jobs import DESTROYED, READY, get_only_job, get_state
from tests.clients.released_client import Conversation, ReleasedClient
from tests.clients.sites import Site
from tests.support import Client

JOB_PROGRAM = "tests.clients.job_program"
PROTOCOL_PROGRAM = "tests.clients.protocol_program"


def described(program: Conversation, time: int) -> dict[str, Any]:
    """Wait for the nth description of the program's job."""
    description = json.loads(program.wait_for(r"^\{.*\}$", time)[0])
    assert isinstance(description, dict)
    return description


def test_job_as_context_manager(
    client: ReleasedClient, server: Client, site: Site
) -> None:
    with client.start(JOB_PROGRAM, site.some) as program:
        at_first = described(program, 1)
        job = get_only_job(server)
        program.type("off")
        assert described(program, 2) == at_first | {"power": False}
        assert not get_only_job(server)["power"]
        program.type("reset")
        assert described(program, 3) == at_first
        assert get_only_job(server)["power"]
        assert program.wait() == 0, program.output

    expected = site.connections(job["boards"])
    assert at_first == {
        "id": job["job_id"],
        "state": READY,
        "power": True,
        "hostname": expected[0, 0],
        "size": [8, 8] if site.some == 1 else [16, 16],
        "machine": site.name,
        "boards": job["boards"],
        "connections": [[x, y, host] for (x, y), host in sorted(expected.items())],
    }
    assert (job["owner"], job["keepalive"]) == (OWNER, 60.0)
    assert get_state(server, job["job_id"])["state"] == DESTROYED


def test_protocol_client(client: ReleasedClient, site: Site) -> None:
    told = json.loads(client.run(PROTOCOL_PROGRAM, site.some))

    job_id = told["job_id"]
    assert told["version"] == __version__
    assert told["machine"]["name"] == site.name
    assert told["machine"]["tags"] == ["default"]
    expected = site.connections(told["info"]["boards"])
    assert {(x, y): host for (x, y), host in told["info"]["connections"]} == expected
    assert told["place"]["job_id"] == job_id
    assert told["place"]["job_chip"] == [1, 2]
    assert site.places[tuple(told["place"]["logical"])].hostname == expected[0, 0]
    assert told["report"]["machine"] == site.name
    assert told["report"]["jobs"] == 1
    assert not told["report"]["out_of_service"]
    # Release 0.2.6 takes what is no return for a notification.
    assert told["unknown"] in ("unknown command 'nonsense'", "Connection closed.")
    jobs_changed, machines_changed = told["changed"]
    assert set(jobs_changed) == {job_id}
    assert set(machines_changed) == {site.name}
    assert told["changed_at_end"] == [[job_id], []]
    assert (told["end"]["state"], told["end"]["reason"]) == (
        DESTROYED,
        "followed to its end",
    )
