"""The server goes and comes back, and so does the gateway; jobs and users stay."""

import signal
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests

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


def test_a_new_certificate_is_taken_and_a_wrong_one_is_not(place: Place) -> None:
    gateway, key = place.gateway, place.key.read_text()
    with place.connect_securely() as before:
        place.make_certificate()
        with pytest.raises(requests.exceptions.SSLError):
            place.get("healthz")
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for_log("The certificate was read again")
        assert place.get("healthz").status_code == 200
        for wrong, problem in (("nonsense", "cannot use "), (key, "cannot use ")):
            place.key.write_text(wrong)
            gateway.process.send_signal(signal.SIGHUP)
            gateway.wait_for_log(f"The certificate stays as it was: {problem}")
        place.key.unlink()
        gateway.process.send_signal(signal.SIGHUP)
        gateway.wait_for_log("The certificate stays as it was: .*No such file or dir")
        assert place.get("healthz").status_code == 200
        # Who was there before goes on.
        before.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert before.recv(100).startswith(b"HTTP/1.1 200 ")
    place.make_certificate()
    gateway.process.send_signal(signal.SIGHUP)
    gateway.wait_for_log("The certificate was read again", 2)


# With a gateway that has less patience


@pytest.fixture
def hasty(impatient_place: Place) -> User:
    wait_until(lambda: is_back(impatient_place))
    return impatient_place.log_in("me")


def test_keepalives_are_made_up_for_when_the_server_only_did_not_answer(
    impatient_place: Place, hasty: User
) -> None:
    place, user = impatient_place, hasty
    job = user.create(**{"keepalive-interval": "PT60S"})
    late = metric(place, "late_keepalives_total")
    connections = metric(place, "server_connections_total")
    place.server.process.send_signal(signal.SIGSTOP)
    try:
        keepalive = user.ask("PUT", f"jobs/{job}/keepalive")
        assert keepalive.status_code == 200
        assert keepalive.elapsed.total_seconds() < PATIENCE.keepalive + 1
    finally:
        place.server.process.send_signal(signal.SIGCONT)
    wait_until(lambda: metric(place, "late_keepalives_total") == late + 1)
    assert metric(place, "server_connections_total") == connections


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
