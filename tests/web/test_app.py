"""Metrics, health and pushed state, over real HTTP."""

import asyncio
import contextlib
import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from spalloc_server.configuration import Machine
from spalloc_server.history.database import EventDatabase
from spalloc_server.history.load import LoadHistory
from spalloc_server.history.waiting_times import WaitingTimes
from spalloc_server.model.board_states import BoardState
from spalloc_server.observe.observer import Observer
from spalloc_server.server import SpallocServer
from spalloc_server.web import app as web_app
from spalloc_server.web import feed as web_feed
from spalloc_server.web.feed import Feed
from spalloc_server.web.snapshot import Snapshot, State, changes_between, to_state
from spalloc_server.web.thread import WebObserver
from tests.support import (
    ONE_TRIAD,
    TIMEOUT,
    Client,
    ServerProcess,
    Site,
    ready,
    running_server,
    wait_until,
)

OPTIONS = ("--simulate", "--http", "0")


def port_of(server: ServerProcess) -> int:
    return int(server.wait_for_log(r"Serving http://127\.0\.0\.1:(\d+)/")[1])


def get(port: int, path: str, method: str = "GET") -> tuple[int, Any, dict[str, str]]:
    with contextlib.closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    ) as connection:
        connection.request(method, path)
        response = connection.getresponse()
        body = response.read().decode()
        if response.headers.get_content_type() == "application/json":
            body = json.loads(body)
        return response.status, body, dict(response.headers)


def sample(text: str, name: str, **labels: str) -> float:
    values = [
        s.value
        for family in text_string_to_metric_families(text)
        for s in family.samples
        if s.name == name and s.labels.items() >= labels.items()
    ]
    assert values, f"no {name} with {labels} in:\n{text}"
    return sum(values)


class Events:
    """A page that listens to server-sent events."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, TIMEOUT)
        self._connection.timeout = TIMEOUT
        self._connection.request("GET", "/events")
        self._response = self._connection.getresponse()
        assert self._response.status == 200
        assert self._response.headers["Content-Type"] == "text/event-stream"
        assert "default-src 'none'" in self._response.headers["Content-Security-Policy"]

    def next(self) -> tuple[str, dict[str, Any]] | None:
        lines = {}
        while (line := self._response.readline()) != b"\n":
            if not line:
                return None
            key, value = line.decode().split(": ", 1)
            lines[key] = value
        return lines["event"].strip(), json.loads(lines["data"])

    def next_change(self) -> dict[str, Any]:
        event = self.next()
        assert event is not None
        assert event[0] == "change"
        return event[1]

    def close(self) -> None:
        self._connection.close()


def test_metrics(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        port = port_of(server)
        with Client(server.port) as client, Client(server.port) as other:
            job_id = client.call("create_job", owner="me")
            waiting = client.call("create_job", 1, 1, owner="me")
            wait_until(lambda: ready(client, job_id))
            other.send(b"nonsense\n")
            assert other.is_disconnected()
            client.send_command("get_job_state", "x")
            assert "exception" in client.reply()

            status, text, headers = get(port, "/metrics")
            assert status == 200
            assert headers["Content-Type"].startswith("text/plain; version=")
            assert sample(text, "spalloc_boards", machine="m", state="allocated") == 1
            assert sample(text, "spalloc_boards", machine="m", state="free") == 2
            assert sample(text, "spalloc_jobs", state="ready") == 1
            assert sample(text, "spalloc_jobs", state="queued") == 1
            assert sample(text, "spalloc_clients") == 1
            commands = {"command": "create_job", "outcome": "done"}
            assert sample(text, "spalloc_commands_total", **commands) == 2
            commands = {"command": "get_job_state", "outcome": "refused"}
            assert sample(text, "spalloc_commands_total", **commands) == 1
            disconnects = "spalloc_disconnects_total"
            assert sample(text, disconnects, reason="bad command") == 1
            frame = {"machine": "m", "cabinet": "0", "frame": "0"}
            assert sample(text, "spalloc_bmp_requests_total", **frame) == 1
            assert sample(text, "spalloc_bmp_failures_total", **frame) == 0
            assert sample(text, "spalloc_store_errors_total") == 0
            assert sample(text, "spalloc_loop_turn_seconds_count") > 5
            assert sample(text, "spalloc_job_queue_seconds_count") == 1
            waits = "spalloc_job_wait_seconds_count"
            assert sample(text, waits, boards="1") == 1
            assert sample(text, waits, boards="2-3") == 0
            assert sample(text, "spalloc_kept_boards", machine="m") == 0
            wait_until(
                lambda: sample(
                    get(port, "/metrics")[1], "spalloc_job_ready_seconds_count"
                )
            )
            client.call("destroy_job", waiting)
        wait_until(
            lambda: (
                sample(
                    get(port, "/metrics")[1],
                    "spalloc_disconnects_total",
                    reason="closed by client",
                )
                if "closed by client" in get(port, "/metrics")[1]
                else False
            )
        )
        assert get(port, "/healthz")[:2] == (200, "ok\n")
        assert server.stop() == 0


def test_connections_that_are_refused_are_counted(tmp_path: Path) -> None:
    config = ONE_TRIAD.replace("seconds_", "allowed_networks=['127.0.0.1'], seconds_")
    with running_server(config, *OPTIONS, folder=tmp_path) as server:
        for _ in range(2):
            address, source = ("127.0.0.1", server.port), ("127.0.0.4", 0)
            with (
                socket.create_connection(address, TIMEOUT, source) as stranger,
                contextlib.suppress(ConnectionResetError),
            ):
                assert stranger.recv(1) == b""
        with Client(server.port) as client:
            assert client.call("version")
        text = get(port_of(server), "/metrics")[1]
        refused = "spalloc_refused_connections_total"
        assert sample(text, refused, reason="network not allowed") == 2


def test_state_is_pushed(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        events = Events(port_of(server))
        first = events.next()
        assert first is not None
        kind, state = first
        assert kind == "state"
        assert state["order"] == ["m"]
        assert state["jobs"] == {}
        machine = state["machines"]["m"]
        assert (machine["width"], machine["height"]) == (1, 1)
        boards = [
            dict(zip(machine["board_fields"], board, strict=True))
            for board in machine["boards"]
        ]
        assert boards[1] == {
            **{"x": 0, "y": 0, "z": 1, "cabinet": 0, "frame": 0, "board": 1},
            **{"ip": "10.11.12.9", "problem": None, "state": "free", "job": None},
        }
        with Client(server.port) as client:
            job_id = str(client.call("create_job", owner="<script>alert(1)</script>"))
            change = events.next_change()
            assert change["jobs"][job_id]["owner"] == "<script>alert(1)</script>"
            [board] = change["boards"]["m"]
            assert board[-2:] == ["allocated", int(job_id)]
            assert "machines" not in change
            while change.get("jobs", {}).get(job_id, {}).get("state") != "ready":
                change = events.next_change()
            client.call("destroy_job", int(job_id))
            changes = [events.next_change()]
            while changes[-1].get("jobs", {}).get(job_id, 1) is not None:
                changes.append(events.next_change())
            while changes[-1].get("boards", {"m": []})["m"][-1:] != [
                [*board[:-2], "free", None]
            ]:
                changes.append(events.next_change())
        # A page that is open does not keep the server from stopping.
        assert server.stop() == 0
        while events.next() is not None:
            pass
        events.close()


def test_the_same_facts_can_be_asked_for(tmp_path: Path) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        port = port_of(server)
        with Client(server.port) as client:
            job_id = client.call("create_job", 3, owner="me", tags=["default"])
            wait_until(lambda: ready(client, job_id))
            [job] = get(port, "/api/jobs")[1]
            assert (job["id"], job["owner"], job["args"]) == (job_id, "me", [3])
            assert job["kwargs"]["tags"] == ["default"]
            assert (job["state"], job["machine"]) == ("ready", "m")
            assert job["boards"] == [[0, 0, 0], [0, 0, 1], [0, 0, 2]]
            [machine] = get(port, "/api/machines")[1]
            assert [board[-1] for board in machine["boards"]].count(job_id) == 3
            client.call("destroy_job", job_id, "all done")
        wait_until(lambda: get(port, "/api/jobs/1")[1]["job"] is None)
        wait_until(lambda: get(port, "/api/ended")[1])
        assert get(port, "/api/jobs/99")[:2] == (404, "nothing is known of job 99\n")
        assert get(port, "/api/jobs/" + "9" * 30)[0] == 404
        assert get(port, "/api/ended?limit=x")[0] == 400
        assert server.stop() == 0
    # What has ended is remembered over restarts.
    with running_server(server.config_file, *OPTIONS) as server:
        port = port_of(server)
        [end] = get(port, "/api/ended?limit=5")[1]
        assert (end["job"], end["reason"]) == (job_id, "all done")
        status, past, _ = get(port, f"/api/jobs/{job_id}")
        assert status == 200
        assert [e["event"] for e in past["events"]][:2] == ["created", "allocated"]
        assert past["events"][-1]["reason"] == "all done"


def test_nothing_can_be_done_and_nothing_is_loaded_from_elsewhere(
    tmp_path: Path,
) -> None:
    with running_server(ONE_TRIAD, *OPTIONS, folder=tmp_path) as server:
        port = port_of(server)
        for path in ("/api/jobs", "/metrics", "/healthz", "/events"):
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert get(port, path, method)[0] == 405
        for path in ("/api/machines", "/nowhere", "/metrics"):
            headers = get(port, path)[2]
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert headers["X-Content-Type-Options"] == "nosniff"


def test_what_keeps_the_server_from_starting(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = _run(str(config), "--http", str(port))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    problem = f"cannot serve HTTP on 127.0.0.1 port {port}: Address already in use"
    assert line.endswith(problem)
    # The port of clients was not taken, nor was state written.
    assert list(tmp_path.iterdir()) == [config]


def _run(*args: str, before: str = "pass") -> subprocess.CompletedProcess[str]:
    program = f"import sys; {before}; from spalloc_server.server import main; "
    return subprocess.run(
        [
            *(sys.executable, "-c", program + "sys.exit(main(sys.argv[1:]))"),
            *("--simulate", "--port", "0", *args),
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


def test_without_the_extra_that_is_said(tmp_path: Path) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    without = "sys.modules['aiohttp'] = None"
    done = _run(str(config), "--http", "0", before=without)
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "CRITICAL --http needs spalloc_server[web]: " in line


def test_an_ipv6_address(tmp_path: Path) -> None:
    options = (*OPTIONS, "--http-address", "::1")
    with running_server(ONE_TRIAD, *options, folder=tmp_path) as server:
        server.wait_for_log(r"Serving http://\[::1\]:\d+/")


# Within this process


class WebServer(SpallocServer):
    """A server with web pages at :py:attr:`web_port`."""

    def __init__(self, config: str, folder: Path) -> None:
        histories = EventDatabase(str(folder / "history"))
        histories.open()
        load = LoadHistory(histories.file)
        self.web = WebObserver("127.0.0.1", 0, WaitingTimes(), histories, load)
        self.observer: Observer = self.web
        super().__init__(config, port=0)

    @property
    def web_port(self) -> int:
        assert self.web._socket is not None
        return int(self.web._socket.getsockname()[1])


@pytest.fixture
def server(site: Site, tmp_path: Path) -> Iterator[WebServer]:
    site.simulator.add_frame("10.11.12.0")
    started = WebServer(str(site.config), tmp_path)
    yield started
    started.stop_and_join()


def test_a_loop_that_hangs(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(web_app, "LONGEST_TURN", 0.2)
    monkeypatch.setattr(web_feed, "PATIENCE", 0.1)
    wait_until(lambda: get(server.web_port, "/metrics")[0] == 200)
    server.wake()
    wait_until(lambda: get(server.web_port, "/healthz")[0] == 200)
    with server.controller.lock, Client(server.address[1]) as client:
        # The loop waits for the lock, as it would for a disk that hangs.
        client.send_command("list_jobs")
        wait_until(lambda: get(server.web_port, "/healthz")[0] == 503)
        reason = get(server.web_port, "/healthz")[1]
        assert re.fullmatch(r"the loop has not turned for \d+ s\n", reason)
        status, text, _ = get(server.web_port, "/metrics")
        assert status == 200
        assert "spalloc_commands_total" in text
        # What the loop has told before is of no worth after a while.
        wait_until(lambda: "spalloc_boards{" not in get(server.web_port, "/metrics")[1])
        assert get(server.web_port, "/api/jobs")[0] == 503
    server.wake()
    wait_until(lambda: get(server.web_port, "/healthz")[0] == 200)
    assert get(server.web_port, "/api/jobs")[0] == 200


def test_many_pages(server: WebServer) -> None:
    pages = [Events(server.web_port) for _ in range(60)]
    for page in pages:
        first = page.next()
        assert first is not None
        assert first[0] == "state"
    with Client(server.address[1]) as client:
        job_id = str(client.call("create_job", owner="me"))
        for page in pages:
            while job_id not in page.next_change().get("jobs", {}):
                pass
    for page in pages:
        page.close()
    # Nobody is left to be told anything.
    feed = server.web._feed
    assert feed is not None
    wait_until(lambda: not feed._listeners)


def test_nothing_is_taken_while_nobody_looks(server: WebServer) -> None:
    get(server.web_port, "/healthz")
    with Client(server.address[1]) as client:
        client.call("create_job", owner="me")
        client.call("list_jobs")
    assert server.web._feed is not None
    assert server.web._feed._snapshot is None


def test_a_snapshot_that_fails_does_not_stop_the_server(
    server: WebServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web_feed, "PATIENCE", 0.1)
    monkeypatch.setattr(
        server.controller, "board_states", lambda name: dict[str, int]()[name]
    )
    assert get(server.web_port, "/api/jobs")[0] == 503
    with Client(server.address[1]) as client:
        assert client.call("list_jobs") == []


# Changes


def state(boards: dict[tuple[int, int, int], BoardState], name: str = "m") -> State:
    machine = Machine.with_standard_ips(
        name, board_locations={(0, 0, z): (0, 0, z) for z in range(3)}
    )
    states = {(0, 0, z): BoardState.free for z in range(3)} | boards
    return to_state(Snapshot(1.0, [machine], {name: states}, []))


def test_changes() -> None:
    free = state({})
    cooling = state({(0, 0, 1): BoardState.cooling})
    assert changes_between(free, free) is None
    assert changes_between(free, cooling) == {
        "time": 1.0,
        "clock": 0.0,
        "boards": {"m": [[0, 0, 1, 0, 0, 1, "192.168.0.9", None, "cooling", None]]},
    }
    renamed = changes_between(free, state({}, "n"))
    assert renamed is not None
    assert renamed["order"] == ["n"]
    assert renamed["machines"]["m"] is None
    assert len(renamed["machines"]["n"]["boards"]) == 3
    nothing = to_state(Snapshot(2.0, [], {}, []))
    assert changes_between(None, nothing) == {
        **{"time": 2.0, "clock": 0.0, "order": [], "machines": {}, "boards": {}},
        **{"jobs": {}, "heard": {}, "about": {}},
    }


def test_a_page_that_is_too_slow_gets_the_whole_state_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(web_feed, "INTERVAL", 0.0)
    monkeypatch.setattr(web_feed, "IDLE_FACTOR", 0.0)
    machine = Machine.single_board("m", bmp_ip="b", spinnaker_ip="s")
    times = iter(range(10_000))

    async def listen() -> list[str]:
        loop = asyncio.get_running_loop()

        def request() -> None:
            # Each time something else is different.
            either = [BoardState.free, BoardState.cooling][next(times) % 2]
            boards = {"m": {(0, 0, 0): either}}
            loop.call_soon(feed.deliver, Snapshot(0.0, [machine], boards, []))

        feed = Feed(request)
        pusher = asyncio.create_task(feed.run())
        messages = feed.messages()
        kinds = [(await anext(messages)).split(b"\n")[0].decode()]
        # It does not read for longer than messages are kept.
        begun = feed._number
        while feed._number < begun + 3 * web_feed.MAX_WAITING:
            await asyncio.sleep(0)
        kinds += [(await anext(messages)).split(b"\n")[0].decode() for _ in range(3)]
        await messages.aclose()
        pusher.cancel()
        return kinds

    assert asyncio.run(listen()) == [
        *("event: state", "event: state", "event: change", "event: change")
    ]


def test_pages_that_do_not_read_hold_nothing_up(server: WebServer) -> None:
    pages = [Events(server.web_port) for _ in range(100)]
    stop = threading.Event()

    def read(page: Events) -> None:
        while not stop.is_set() and page.next() is not None:
            pass

    readers = [threading.Thread(target=read, args=(p,), daemon=True) for p in pages[:5]]
    for reader in readers:
        reader.start()
    with Client(server.address[1]) as client:
        began = time.monotonic()
        for _ in range(20):
            job_id = client.call("create_job", owner="me")
            client.call("destroy_job", job_id)
        assert time.monotonic() - began < TIMEOUT / 4
    stop.set()
