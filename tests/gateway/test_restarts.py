"""The server goes and comes back, and so does the gateway; jobs and users stay."""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from spalloc_server_gateway.jobs import Jobs
from spalloc_server_gateway.link import AwayError, Link
from spalloc_server_gateway.wishes import Wish
from tests.gateway.boards import Echo, open_proxy, words
from tests.gateway.impatient import PATIENCE
from tests.gateway.support import Place, User, metric
from tests.support import TIMEOUT, wait_until


def restart_server(place: Place) -> None:
    port = place.server.port
    place.server.stop()
    place.start_server(port=port)


def is_back(place: Place) -> bool:
    """Has the gateway found the server again?"""
    return place.get("healthz").status_code == 200


def is_away(place: Place) -> bool:
    """Has the gateway seen that there is no server?"""
    return place.get("healthz").status_code == 503


@pytest.fixture
def user(place: Place) -> User:
    wait_until(lambda: is_back(place))
    return place.log_in("me")


def test_calls_wait_for_the_server(place: Place, user: User) -> None:
    job = user.create()
    port = place.server.port
    place.server.stop()
    with ThreadPoolExecutor(8) as pool:
        calls: list[Future[Any]] = [
            pool.submit(user.ask, "GET", f"jobs/{job}/"),
            pool.submit(user.ask, "GET", "machines"),
            pool.submit(user.ask, "POST", "jobs/", json={}),
            pool.submit(user.ask, "DELETE", f"jobs/{job}"),
        ]
        wait_until(lambda: "under_way 5.0" in place.get("metrics").text)
        assert not any(call.done() for call in calls)
        # Who begins now is not kept waiting.
        assert user.ask("GET", "").status_code == 200
        place.start_server(port=port)
        statuses = [call.result().status_code for call in calls]
    assert statuses == [200, 200, 201, 204]
    assert calls[0].result().json()["owner"] == "me"


def test_keepalives_are_answered_meanwhile_and_made_up_for(
    place: Place, user: User
) -> None:
    job = user.create(**{"keepalive-interval": "PT60S"})
    late = metric(place, "late_keepalives_total")
    port = place.server.port
    place.server.stop()
    began = time.monotonic()
    assert user.ask("PUT", f"jobs/{job}/keepalive").status_code == 200
    other = place.log_in("you")
    assert other.ask("PUT", f"jobs/{job}/keepalive").status_code == 200
    assert time.monotonic() - began < 9
    place.start_server(port=port)
    wait_until(lambda: metric(place, "late_keepalives_total") == late + 1)
    assert user.state(job) != "DESTROYED"


# With a gateway that has less patience


@pytest.fixture
def hasty(impatient_place: Place) -> User:
    wait_until(lambda: is_back(impatient_place))
    return impatient_place.log_in("me")


def test_what_is_told_while_the_server_is_away_for_long(
    impatient_place: Place, hasty: User
) -> None:
    place, user = impatient_place, hasty
    job = user.create()
    user.wait_until_ready(job)
    port = place.server.port
    place.server.stop()
    away = "the spalloc server cannot be reached\n"
    with ThreadPoolExecutor(12) as pool:
        # What was last known; also to who waits for a change, after that time.
        known = [
            pool.submit(user.ask, "GET", f"jobs/{job}/{path}")
            for path in ("", "?wait=true", "machine", "machine/power")
        ]
        # What is not known, or has to be done.
        others = [
            pool.submit(user.ask, "GET", "jobs/77777/"),
            pool.submit(user.ask, "GET", "machines"),
            pool.submit(user.ask, "GET", "jobs/"),
            pool.submit(user.ask, "GET", f"jobs/{job}/chip?x=0&y=0"),
            pool.submit(user.ask, "DELETE", f"jobs/{job}"),
            pool.submit(user.ask, "POST", "jobs/", json={}),
            pool.submit(
                user.ask, "POST", f"jobs/{job}/machine/power", json={"power": "ON"}
            ),
        ]
        assert [call.result().status_code for call in known] == [200] * 4
        assert known[0].result().json()["state"] == "READY"
        assert known[1].result().json()["state"] == "READY"
        assert {(c.result().status_code, c.result().text) for c in others} == {
            (503, away)
        }
    for call in (known[0], *others):
        seconds = call.result().elapsed.total_seconds()
        patience = PATIENCE.create if call is others[5] else PATIENCE.call
        assert patience - 0.5 < seconds < patience + 2
    assert "has been away for" in place.get("healthz").text
    # What was refused is not done later.
    place.start_server(port=port)
    wait_until(lambda: is_back(place))
    assert [job["state"] for job in place.old_client().call("list_jobs")] == [3]
    assert user.state(job) == "READY"


def test_nothing_is_carried_when_boards_may_be_those_of_others(
    impatient_place: Place, hasty: User
) -> None:
    place, user = impatient_place, hasty
    job = user.create(board={"x": 0, "y": 0, "z": 0})
    user.wait_until_ready(job)
    proxy = open_proxy(user, job)
    with Echo("127.0.1.1", b"one ") as echo:
        opening = words(0, 1, 0, 0, echo.port)
        proxy.send_binary(opening)
        opened = proxy.recv()
        assert isinstance(opened, bytes)
        message = b"\2\0\0\0" + opened[8:12]
        port = place.server.port
        place.server.stop()
        wait_until(lambda: is_away(place))
        proxy.send_binary(message + b"soon")
        assert proxy.recv() == message + b"one soon"
        lost = metric(place, "packets_lost_total")

        def is_lost() -> bool:
            proxy.send_binary(message + b"late")
            return metric(place, "packets_lost_total") > lost

        wait_until(is_lost)
        heard = len(echo.heard)
        for _ in range(5):
            proxy.send_binary(message + b"too late")
        # Nor from the boards: it says so to whoever wants a channel.
        echo.socket.sendto(b"too late", echo.heard[0][1])
        proxy.send_binary(opening)
        refusal = words(5, 1) + b"the spalloc server cannot be reached"
        answers = set(iter(proxy.recv, refusal))
        assert answers <= {message + b"one late"}
        assert len(echo.heard) == heard
        where = {"x": 0, "y": 0, "address": 0, "size": 4}
        memory = user.ask("GET", f"jobs/{job}/memory", params=where)
        assert memory.status_code == 503
        # It goes on where it was, if the boards are still the job's.
        place.start_server(port=port)
        wait_until(lambda: is_back(place))
        proxy.send_binary(message + b"again")
        assert proxy.recv() == message + b"one again"
        # And not if they are not.
        place.server.stop()
        place.server.wait()
        place.start_server("configuration = Configuration(machines=[])", port)
        wait_until(lambda: metric(place, "channels") == 0)
        proxy.send_binary(opening)
        assert proxy.recv() == words(5, 1) + b"the job has no boards any more"
        place.server.stop()  # with this configuration it is no use to others
    proxy.close()


# As it is


def test_waits_go_on_over_a_restart_of_the_server(place: Place, user: User) -> None:
    job = user.create()
    user.wait_until_ready(job)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(user.state, job, wait="true")
        wait_until(lambda: "under_way 2.0" in place.get("metrics").text)
        restart_server(place)
        wait_until(lambda: place.get("healthz").status_code == 200)
        # Boards are powered again in no case, so nothing has changed.
        place.old_client().call("destroy_job", job, "by others")
        assert waiting.result() == "DESTROYED"
    assert user.ask("GET", f"jobs/{job}").json()["reason"] == "by others"


def test_what_has_changed_meanwhile_ends_waits(place: Place, user: User) -> None:
    job = user.create(**{"keepalive-interval": "PT1S"})
    user.wait_until_ready(job)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(user.state, job, wait="true")
        wait_until(lambda: "under_way 2.0" in place.get("metrics").text)
        port = place.server.port
        place.server.kill()
        began = time.monotonic()
        place.start_server(port=port)
        assert waiting.result() == "DESTROYED"
        assert time.monotonic() - began < 10


def test_proxies_stay_open_over_a_restart_of_the_server(
    place: Place, user: User
) -> None:
    job = user.create(board={"x": 0, "y": 0, "z": 0})
    user.wait_until_ready(job)
    proxy = open_proxy(user, job)
    with Echo("127.0.1.1", b"one ") as echo:
        proxy.send_binary(
            b"".join(n.to_bytes(4, "little") for n in (0, 1, 0, 0, echo.port))
        )
        opened = proxy.recv()
        assert isinstance(opened, bytes)
        message = b"\2\0\0\0" + opened[8:12]
        for step in ("before", "without", "after"):
            if step == "without":
                port = place.server.port
                place.server.stop()
            elif step == "after":
                place.start_server(port=port)
                wait_until(lambda: place.get("healthz").status_code == 200)
            proxy.send_binary(message + step.encode())
            assert proxy.recv() == message + b"one " + step.encode()
    proxy.close()


def test_sessions_and_waits_of_a_gateway_that_ends(place: Place, user: User) -> None:
    job = user.create()
    user.wait_until_ready(job)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(user.state, job, wait="true")
        wait_until(lambda: "under_way 2.0" in place.get("metrics").text)
        plain, secure = place.connect(), place.connect_securely()
        place.gateway.process.send_signal(signal.SIGTERM)
        # It is answered, not cut off.
        assert waiting.result() == "READY"
        # So is who has just come: such a keepalive would be the client's last.
        later = place.tls().wrap_socket(plain, server_hostname="localhost")
        for connection in (secure, later):
            with connection:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                assert connection.recv(100).startswith(b"HTTP/1.1 200 ")
        assert place.gateway.wait() == 0
    place.start_gateway()
    assert user.state(job) == "READY"
    assert user.ask("PUT", f"jobs/{job}/keepalive").status_code == 200


def test_nobody_is_turned_away_while_a_gateway_with_an_inherited_socket_restarts(
    place: Place, user: User
) -> None:
    """A keepalive that is refused once is the client's last: see systemd's sockets."""
    with place.hold_socket() as listening, ThreadPoolExecutor(1) as pool:
        first = place.start_with_socket(listening)
        job = user.create()
        first.terminate()
        assert first.wait(TIMEOUT) == 0
        # There is no process now.
        keepalive = pool.submit(
            user.ask, "PUT", f"jobs/{job}/keepalive", timeout=TIMEOUT
        )
        place.start_with_socket(listening)
        assert keepalive.result().text == "ok\n"


def test_one_server_for_users_of_both_kinds(place: Place, user: User) -> None:
    old = place.old_client()
    jobs = [old.call("create_job", 3, owner="old"), user.create()]
    jobs.append(old.call("create_job", owner="old"))
    assert user.state(jobs[1]) == "QUEUED"
    old.call("destroy_job", jobs[0])
    user.wait_until_ready(jobs[1])
    wait_until(lambda: old.call("get_job_state", jobs[2])["state"] == 3)


# The link by itself, against servers that do as they are told


Answer = Callable[[dict[str, Any]], Any]


def nothing(_command: dict[str, Any]) -> Any:
    return None


class Script:
    """A server that answers commands as it is told, or breaks the connection."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {
            "speak_for_others": lambda command: None if command["args"] else "c"
        }

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                command = json.loads(line)
                self.commands.append(command)
                answer = self.answers.get(command["command"], nothing)
                try:
                    reply = {"return": answer(command)}
                except EOFError:
                    break
                except LookupError:
                    continue  # no answer at all
                writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()


def never(_command: dict[str, Any]) -> Any:
    raise LookupError


@contextlib.asynccontextmanager
async def linked(script: Script, tmp_path: Path) -> AsyncIterator[Link]:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    os.chmod(secret, 0o600)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    link = Link("127.0.0.1", server.sockets[0].getsockname()[1], str(secret))
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


def test_a_job_is_not_created_twice(tmp_path: Path) -> None:
    """The connection breaks when the job is there, before its number has come."""
    script = Script()
    jobs: list[dict[str, Any]] = []

    def create(command: dict[str, Any]) -> int:
        job_id = 40 + len(jobs)
        jobs.append(
            {
                **command["kwargs"],
                "job_id": job_id,
                "state": 1,
                "start_time": 1e9 + job_id,
                "boards": None,
                "power": None,
            }
        )
        if len(jobs) == 2:
            raise EOFError
        return job_id

    script.answers["create_job"] = create
    script.answers["list_jobs"] = lambda _: jobs
    script.answers["describe_job"] = lambda command: jobs[command["args"][0] - 40]

    async def run() -> list[int]:
        async with linked(script, tmp_path) as link:
            mine = Jobs(link)
            wish = Wish([], {"keepalive": 120.0})
            return [
                (await mine.create("me", "127.0.0.1", wish))["job_id"] for _ in range(3)
            ]

    assert asyncio.run(run()) == [40, 41, 42]
    assert len(jobs) == 3


def test_a_job_that_was_not_created_is_created(tmp_path: Path) -> None:
    script = Script()
    asked: list[dict[str, Any]] = []

    def create(command: dict[str, Any]) -> int:
        asked.append(command)
        if len(asked) == 1:
            raise EOFError
        return 7

    job = {"owner": "me", "state": 1, "start_time": 1e9, "keepalive": 1.0}
    script.answers["create_job"] = create
    script.answers["list_jobs"] = lambda _: [{**job, "job_id": 3}]
    script.answers["describe_job"] = lambda _: job

    async def run() -> int:
        async with linked(script, tmp_path) as link:
            created = await Jobs(link).create(
                "me", "127.0.0.1", Wish([], {"keepalive": 120.0})
            )
            job_id: int = created["job_id"]
            return job_id

    assert asyncio.run(run()) == 7
    assert len(asked) == 2


def test_keepalives_are_owed_until_they_have_been_sent(tmp_path: Path) -> None:
    """The server goes once more while they are being made up for."""
    script = Script()
    heard: list[int] = []

    def keepalive(command: dict[str, Any]) -> None:
        heard.append(command["args"][0])
        if heard == [1]:
            raise EOFError

    job = {"owner": "me", "state": 3, "start_time": 1e9}
    script.answers["describe_job"] = lambda _: job
    script.answers["job_keepalive"] = keepalive

    async def run() -> None:
        async with linked(script, tmp_path) as link:
            jobs = Jobs(link)
            for job_id in (1, 2, 3):
                jobs._owed[job_id] = "me", "192.0.2.1"
            while jobs.late_keepalives < 3:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert heard == [1, 1, 2, 3]


def test_a_server_that_does_not_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spalloc_server_gateway.link.PROBE_SECONDS", 0.05)
    monkeypatch.setattr("spalloc_server_gateway.link.SILENCE_SECONDS", 0.3)
    script = Script()
    script.answers["list_jobs"] = never

    async def run() -> int:
        async with linked(script, tmp_path) as link:
            with pytest.raises(AwayError, match="does not answer"):
                await link.call("list_jobs", patience=0.1)
            while link.connections < 2:
                await asyncio.sleep(0.01)
            assert await link.call("version", patience=5) is None
            connections: int = link.connections
            return connections

    assert asyncio.run(asyncio.wait_for(run(), 20)) >= 2


def test_replies_stay_with_their_commands_when_some_are_not_waited_for(
    tmp_path: Path,
) -> None:
    script = Script()
    script.answers["echo"] = lambda command: command["args"]

    async def run() -> None:
        async with linked(script, tmp_path) as link:
            await link.call("version", patience=5)

            async def ask(number: int) -> None:
                call = asyncio.create_task(link.call("echo", number, patience=5))
                await asyncio.sleep(0)
                if number % 3 == 0:
                    call.cancel()
                else:
                    assert await call == [number]

            await asyncio.gather(*(ask(number) for number in range(300)))

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_wrong_secret_is_said_once(place: Place) -> None:
    place.gateway.stop()
    place.secret = place.folder / "wrong"
    place.secret.write_text("x" * 64)
    place.secret.chmod(0o600)
    gateway = place.start_gateway(connected=False)
    gateway.wait_for_log("it refuses speak_for_others: this is not the proof")
    page = place.get("healthz")
    assert (page.status_code, "has been away" in page.text) == (503, True)
    assert gateway.stop() == 0
    assert gateway.log.count("it refuses speak_for_others") == 1
