"""Every route of the interface, with plain requests."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.gateway.support import BOARDS, Place
from tests.support import wait_until


def test_the_root(place: Place) -> None:
    user = place.log_in("me")
    for path in ("", "/", "//"):
        root = user.ask("GET", path).json()
        assert root["version"] == {
            "major-version": 1,
            "minor-version": 0,
            "revision": 0,
        }
        assert root["jobs-ref"] == f"{place.url}srv/spalloc/jobs"
        assert root["machines-ref"] == f"{place.url}srv/spalloc/machines"


def test_machines(place: Place) -> None:
    user = place.log_in("me")
    (machine,) = user.ask("GET", "machines/").json()["machines"]
    assert machine == {
        "name": "m",
        "tags": ["default", "desk"],
        "width": 1,
        "height": 1,
        "uri": f"{place.url}srv/spalloc/machines/m",
        "dead-boards": [],
        "dead-links": machine["dead-links"],
    }
    details = user.ask("GET", "machines/m").json()
    assert details["down-boards"] == []
    assert details["lookup-by-chip"] == f"{machine['uri']}/chip"
    assert user.ask("GET", "machines/n").status_code == 404


def test_dead_boards_and_links_are_told(empty_place: Place) -> None:
    place = empty_place
    place.start_server(
        BOARDS.replace('"m",', '"m", dead_boards={(0,0,1)}, dead_links={(0,0,0,0)},')
    )
    place.start_gateway()
    (machine,) = place.log_in("me").ask("GET", "machines").json()["machines"]
    assert machine["dead-boards"] == [
        {
            **{"x": 0, "y": 0, "z": 1},
            **{"cabinet": 0, "frame": 0, "board": 1},
            "address": None,
        }
    ]
    assert [{"board": {"x": 0, "y": 0, "z": 0}, "direction": "EAST"}] in machine[
        "dead-links"
    ]


@pytest.mark.parametrize(
    "query",
    [
        "logical-board?x=0&y=0&z=2",
        "physical-board?cabinet=0&frame=0&board=2",
        "chip?x=5&y=9",
        "board-ip?address=127.0.1.3",
    ],
)
def test_boards_of_machines_are_found(place: Place, query: str) -> None:
    user = place.log_in("me")
    job = user.create(board={"x": 0, "y": 0, "z": 2})
    found = user.ask("GET", f"machines/m/{query}").json()
    assert found["logical-board-coordinates"] == [0, 0, 2]
    assert found["physical-board-coordinates"] == [0, 0, 2]
    assert found["job-id"] == job
    way, _, _ = query.partition("?")
    assert user.ask("GET", f"machines/m/{way}").status_code in (400, 404)
    assert user.ask("GET", f"machines/n/{query}").status_code == 404


def test_a_job_is_told_in_full(place: Place) -> None:
    user = place.log_in("me")
    job = user.create(**{"num-boards": 3, "keepalive-interval": "PT1M30S"})
    user.wait_until_ready(job)
    url = f"{place.url}srv/spalloc/jobs/{job}"
    document = user.ask("GET", f"jobs/{job}").json()
    assert document.pop("start-time").endswith("Z")
    assert document == {
        "job-id": job,
        "job-ref": url,
        "state": "READY",
        "owner": "me",
        "finish-time": None,
        "reason": None,
        "keepalive-host": "127.0.0.1",
        "keep-alive-time": "PT90S",
        "keepalive-ref": f"{url}/keepalive",
        "machine-ref": f"{url}/machine",
        "power-ref": f"{url}/machine/power",
        "chip-ref": f"{url}/chip",
        "original-request": {"size": [3]},
        "proxy-ref": f"wss://localhost:{place.port}/proxy/{job}",
    }
    machine = user.ask("GET", f"jobs/{job}/machine").json()
    assert (machine["width"], machine["height"], machine["depth"]) == (1, 1, 3)
    assert machine["connections"] == [
        [[0, 0], "127.0.1.1"],
        [[4, 8], "127.0.1.3"],
        [[8, 4], "127.0.1.2"],
    ]
    assert machine["boards"] == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
    chip = user.ask("GET", f"jobs/{job}/chip", params={"x": 9, "y": 5}).json()
    assert chip["job-chip"] == [9, 5]
    assert chip["board-chip"] == [1, 1]
    assert user.ask("GET", f"jobs/{job}/chip?x=9").status_code == 400


def test_power(place: Place) -> None:
    user = place.log_in("me")
    job = user.create()
    user.wait_until_ready(job)
    path = f"jobs/{job}/machine/power"
    assert user.ask("GET", path).json() == {"power": "ON"}
    assert user.ask("POST", path, json={"power": "OFF"}).json() == {"power": "OFF"}
    user.wait_until_ready(job)
    assert user.ask("POST", path, json={"power": "ON"}).json() == {"power": "ON"}
    wrongs: list[Any] = [{"power": "on"}, {}, [], "ON", None]
    for wrong in wrongs:
        assert user.ask("POST", path, json=wrong).status_code == 400


def test_a_job_without_boards_has_no_content(place: Place) -> None:
    user = place.log_in("me")
    first, second = (user.create(**{"num-boards": 3}) for _ in range(2))
    assert user.state(second) == "QUEUED"
    for path in ("machine", "machine/power", "chip?x=0&y=0"):
        assert user.ask("GET", f"jobs/{second}/{path}").status_code == 204
    assert "proxy-ref" not in user.ask("GET", f"jobs/{second}").json()
    for _ in range(2):
        deleted = user.ask("DELETE", f"jobs/{first}?reason=enough")
        assert deleted.status_code == 204
    ended = user.ask("GET", f"jobs/{first}").json()
    assert (ended["state"], ended["reason"], ended["owner"]) == (
        "DESTROYED",
        "enough",
        "me",
    )
    wait_until(lambda: user.state(second) == "READY")


WISHES: list[tuple[Any, str]] = [
    ([], "must be a JSON object"),
    ({"num-boards": 0}, "num-boards must be a whole number from 1"),
    ({"num-boards": True}, "num-boards must be a whole number from 1"),
    ({"num-boards": 2**40}, "num-boards must be a whole number from 1"),
    ({"num-boards": 1, "board": {"x": 0, "y": 0, "z": 0}}, "does not go with"),
    ({"dimensions": [1, 1]}, "must have a width and a height"),
    ({"dimensions": {"width": 1}}, "height must be a whole number"),
    (
        {"dimensions": {"width": 1, "height": 1}, "board": {"x": 0, "y": 0, "z": 0}},
        "a rectangle at a given board is not supported",
    ),
    ({"board": {"x": 0}}, "board must have x, y and z"),
    ({"board": {"address": 5}}, "address must be a string"),
    ({"board": {"address": "127.0.1.9"}}, "no such board"),
    ({"board": {"address": "127.0.1.1"}, "tags": ["other"]}, "no such board"),
    ({"board": {"cabinet": 0, "frame": 0, "board": 9}}, "no such board"),
    ({"board": {"x": 0, "y": 0, "z": 5}}, "z must be from 0 to 2"),
    ({"board": {"x": 5, "y": 0, "z": 0}}, "Cancelled: "),
    ({"num-boards": 4}, "Cancelled: "),
    ({"dimensions": {"width": 1, "height": 2}}, "Cancelled: "),
    ({"machine-name": "n"}, "Cancelled: "),
    ({"machine-name": "m", "tags": []}, "only one of machine-name and tags"),
    ({"machine-name": 5}, "machine-name must be a string"),
    ({"tags": "default"}, "tags must be a list"),
    ({"tags": ["none"]}, "Cancelled: "),
    ({"max-dead-boards": -1}, "max-dead-boards must be a whole number from 0"),
    ({"keepalive-interval": 120}, "must be a duration such as PT120S"),
    ({"keepalive-interval": "PT"}, "must be a duration such as PT120S"),
    ({"keepalive-interval": "PT0S"}, "keepalive-interval must be from"),
    ({"keepalive-interval": "P9D"}, "keepalive-interval must be from"),
    ({"group": "a", "nmpi-collab": "b"}, "only one of group"),
    ({"owner": 5}, "owner must be a string"),
]


def test_wishes_that_cannot_be_granted_are_refused_with_the_reason(
    place: Place,
) -> None:
    user = place.log_in("me")
    for body, message in WISHES:
        reply = user.ask("POST", "jobs/", json=body)
        assert (reply.status_code, message in reply.text) == (400, True), (
            body,
            reply.text,
        )
    assert user.ask("POST", "jobs/", json={"owner": "you"}).status_code == 403
    assert user.ask("POST", "jobs/", data=b"{").status_code == 400
    assert user.ask("POST", "jobs/", data=b"[" * 60_000).status_code == 400
    assert place.old_client().call("list_jobs") == []
    created = user.ask("POST", "jobs", json={"group": "a", "owner": "me"})
    assert created.status_code == 201
    assert created.headers["Location"] == created.json()["job-ref"]


def test_jobs_of_others_are_not_there(place: Place) -> None:
    mine, yours = place.log_in("me"), place.log_in("you")
    job = mine.create()
    mine.wait_until_ready(job)
    old = place.old_client()
    before = old.call("describe_job", job)
    for method, path in (
        ("GET", ""),
        ("GET", "?wait=true"),
        ("DELETE", ""),
        ("GET", "/machine"),
        ("GET", "/chip?x=0&y=0"),
        ("GET", "/machine/power"),
        ("POST", "/report-issue"),
        ("GET", "/memory?x=0&y=0&address=0&size=4"),
    ):
        options: Any = {"json": {"boards": [{}]}} if method == "POST" else {}
        theirs = yours.ask(method, f"jobs/{job}{path}", **options)
        unknown = yours.ask(method, f"jobs/99{path}", **options)
        assert theirs.status_code == unknown.status_code == 404
        assert theirs.text == unknown.text
    power = {"json": {"power": "OFF"}}
    assert yours.ask("POST", f"jobs/{job}/machine/power", **power).status_code == 404
    assert old.call("describe_job", job) == before
    mine.ask("DELETE", f"jobs/{job}")
    assert yours.ask("GET", f"jobs/{job}").status_code == 404


def test_keepalives_of_others_keep_nothing_alive(place: Place) -> None:
    mine, yours = place.log_in("me"), place.log_in("you")
    job = mine.create(**{"keepalive-interval": "PT1S"})

    def ended_in_spite_of_others() -> bool:
        assert yours.ask("PUT", f"jobs/{job}/keepalive").status_code == 200
        assert mine.ask("GET", f"jobs/{job}").status_code == 200
        return mine.state(job) == "DESTROYED"

    wait_until(ended_in_spite_of_others, 10)
    assert mine.ask("GET", f"jobs/{job}").json()["reason"] == "Job timed out."


def test_keepalives_keep_alive(place: Place) -> None:
    user = place.log_in("me")
    job = user.create(**{"keepalive-interval": "PT1S"})
    until = time.monotonic() + 3

    def kept_long_enough() -> bool:
        assert user.ask("PUT", f"jobs/{job}/keepalive", data="alive").text == "ok\n"
        assert user.state(job) != "DESTROYED"
        return time.monotonic() > until

    wait_until(kept_long_enough)


def test_waiting_returns_at_once_for_news_and_else_when_there_are_some(
    place: Place,
) -> None:
    user = place.log_in("me")
    job = user.create()
    user.wait_until_ready(job)
    old = place.old_client()
    # Told already, so this one waits until it is destroyed by somebody else.
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(user.state, job, wait="true")
        wait_until(lambda: "requests_under_way 2.0" in place.get("metrics").text)
        began = time.monotonic()
        old.call("destroy_job", job)
        assert waiting.result() == "DESTROYED"
        assert time.monotonic() - began < 1
    # Another session has not been told of it.
    began = time.monotonic()
    assert place.log_in("me").state(job, wait="True") == "DESTROYED"
    assert time.monotonic() - began < 1


def test_lists_come_in_pages(place: Place) -> None:
    mine, yours = place.log_in("me"), place.log_in("you")
    jobs = [user.create() for user in (mine, yours, mine, yours, mine)]
    urls = [f"{place.url}srv/spalloc/jobs/{job}" for job in jobs]

    def listed(path: str) -> list[str]:
        found = []
        while path:
            page = mine.ask("GET", path).json()
            assert len(page["jobs"]) <= 2
            found += page["jobs"]
            path = page.get("next", "").partition("/srv/spalloc/")[2]
        return found

    wait_until(lambda: listed("jobs?deleted=false&limit=2") == urls)
    mine.ask("DELETE", f"jobs/{jobs[0]}")
    assert mine.state(jobs[0]) == "DESTROYED"
    wait_until(lambda: listed("jobs?limit=2") == urls[1:])
    assert listed("jobs/?deleted=true&limit=2")[-5:] == urls
    assert mine.ask("GET", "jobs?limit=x").status_code == 400


def test_reports_of_problems(place: Place) -> None:
    user = place.log_in("me")
    job = user.create(**{"num-boards": 3})
    user.wait_until_ready(job)
    reply = user.ask(
        "POST",
        f"jobs/{job}/report-issue",
        json={
            "issue": "core 5 hangs",
            "boards": [
                {"chip": {"y": 5, "x": 9}},
                {"x": 0, "y": 0, "z": 2},
                {"machine": "m", "cabinet": 0, "frame": 0, "board": 0},
                {"address": "127.0.1.2"},
            ],
        },
    )
    assert reply.json() == {"action": "noted for 4 boards"}
    problems = place.old_client().call("list_problems")
    assert {problem["ip_address"] for problem in problems} == {
        "127.0.1.1",
        "127.0.1.2",
        "127.0.1.3",
    }
    assert problems[1]["reports"][0]["x"] == 1
    wrong: list[Any] = [
        [],
        [{}],
        [{"x": 0, "y": 0, "z": 7}],
        5,
        [{"address": "10.0.0.1"}],
    ]
    for boards in wrong:
        reply = user.ask("POST", f"jobs/{job}/report-issue", json={"boards": boards})
        assert reply.status_code == 400


def test_paths_that_lead_nowhere(place: Place) -> None:
    user = place.log_in("me")
    for path in ("nothing", "jobs/x", "jobs/1x", "jobs/-1", "jobs/1/nothing"):
        assert user.ask("GET", path).status_code == 404
    wrong = user.ask("DELETE", "jobs/")
    assert (wrong.status_code, wrong.headers["Allow"]) == (405, "GET, POST")
    assert user.ask("GET", f"jobs/{10**17}").status_code == 404


def test_health_and_metrics(place: Place) -> None:
    assert place.get("healthz").text == "ok\n"
    place.log_in("me").create()
    text = place.get("metrics").text
    assert re.search(r'spalloc_gateway_requests_total{status="201"} [1-9]', text)
    assert "spalloc_gateway_server_up 1.0" in text
    place.server.stop()
    wait_until(lambda: place.get("healthz").status_code == 503)
    assert "spalloc_gateway_server_up 0.0" in place.get("metrics").text
