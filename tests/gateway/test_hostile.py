"""Clients and boards that behave badly: a clear status, and nobody else is harmed."""

import asyncio
import contextlib
import http.client
import re
import resource
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import aiohttp
import pytest
import requests
import websocket

from spalloc_server_gateway.context import COOKIE
from tests.gateway.boards import Echo, open_proxy, words
from tests.gateway.support import Place, User, memory, metric
from tests.support import wait_until


def request(user: User, method: str, path: str, *headers: str) -> bytes:
    lines = [
        f"{method} /srv/spalloc/{path} HTTP/1.1",
        "Host: localhost",
        "Cookie: " + "; ".join(f"{k}={v}" for k, v in user.cookies.items()),
        *(f"{k}: {v}" for k, v in user.headers.items()),
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def status(connection: ssl.SSLSocket) -> int:
    found = re.match(rb"HTTP/1.1 (\d+) ", connection.recv(65536))
    assert found is not None
    return int(found[1])


def is_quick(user: User) -> bool:
    began = time.monotonic()
    assert user.ask("GET", "machines").status_code == 200
    return time.monotonic() - began < 2


def test_bodies_that_are_too_long(place: Place) -> None:
    user = place.log_in("me")
    reply = user.ask("POST", "jobs/", data=bytes(100_000))
    assert reply.status_code == 413
    with place.connect_securely() as connection:
        head = request(user, "POST", "jobs/", "Content-Length: 9000000000")
        connection.sendall(head)
        assert status(connection) == 413
    # Without saying before how long it is.
    with place.connect_securely() as connection:
        connection.sendall(request(user, "POST", "jobs", "Transfer-Encoding: chunked"))
        piece = b"4000\r\n" + bytes(0x4000) + b"\r\n"
        with contextlib.suppress(OSError):
            for _ in range(8):
                connection.sendall(piece)
        assert status(connection) == 413
    for path in ("system/perform_login", "srv/spalloc/nothing"):
        with place.connect_securely() as connection:
            connection.sendall(
                f"POST /{path} HTTP/1.1\r\nHost: x\r\n".encode()
                + b"Content-Length: 10000000\r\n\r\n"
            )
            assert status(connection) in (413, 404)
    assert is_quick(user)


def test_bodies_that_are_too_slow(impatient_place: Place) -> None:
    place = impatient_place
    user = place.log_in("me")
    with place.connect_securely() as connection:
        connection.sendall(request(user, "POST", "jobs/", "Content-Length: 20") + b"{")
        assert is_quick(user)
        assert status(connection) == 408


def test_what_is_no_http(place: Place) -> None:
    user = place.log_in("me")
    for garbage in (
        b"\0" * 1000,
        b"GET / HTTP/9.9\r\n\r\n",
        b"x" * 20_000 + b"\r\n\r\n",
    ):
        with place.connect_securely() as connection:
            connection.sendall(garbage)
            with contextlib.suppress(OSError):
                assert connection.recv(1000)[:12] in (
                    b"HTTP/1.1 400",
                    b"HTTP/1.0 400",
                    b"",
                )
    with socket.create_connection(("127.0.0.1", place.port), 60) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" + bytes(600))
        with contextlib.suppress(ConnectionError):
            while plain.recv(1000):
                pass
    for host in ("a b", "[", "x:y", "\u00e4"):
        with place.connect_securely() as connection:
            head = request(user, "GET", "").replace(b"localhost", host.encode(), 1)
            connection.sendall(head)
            assert connection.recv(1000)[:12] in (
                b"HTTP/1.1 200",
                b"HTTP/1.1 400",
                b"HTTP/1.0 400",
                b"",
            )
    assert is_quick(user)
    assert "Traceback" not in place.gateway.log


def test_a_thousand_who_only_connect(place: Place) -> None:
    user = place.log_in("me")
    with contextlib.ExitStack() as idle:
        for _ in range(1000):
            address = ("127.0.0.1", place.port)
            idle.enter_context(socket.create_connection(address, 60))
        assert is_quick(user)
        assert memory(place) < 200e6
    assert is_quick(user)


def test_a_thousand_idle_sessions_are_nothing_to_remember(place: Place) -> None:
    user = place.log_in("me")
    job = user.create()
    before = memory(place)
    cookies = set()
    with contextlib.closing(
        http.client.HTTPSConnection(
            "localhost", place.port, timeout=60, context=place.tls()
        )
    ) as connection:

        def ask(method: str, path: str, cookie: str = "", body: str = "") -> str:
            connection.request(method, path, body, {"Cookie": f"{COOKIE}={cookie}"})
            reply = connection.getresponse()
            text = reply.read().decode()
            assert reply.status in (200, 302), text
            given = SimpleCookie(reply.headers["Set-Cookie"])
            return f"{given[COOKIE].value} {text}" if given else text

        for number in range(1000):
            cookie, _, page = ask("GET", "/system/login.html").partition(" ")
            found = re.search('value="([-a-z0-9]+)" />', page)
            assert found is not None
            form = urlencode({"_csrf": found[1], "username": f"u{number}"})
            cookie, _, _ = ask("POST", "/system/perform_login", cookie, form).partition(
                " "
            )
            assert "jobs-ref" in ask("GET", "/srv/spalloc/", cookie)
            cookies.add(cookie)
        assert len(cookies) == 1000
        # Each is good.
        for cookie in list(cookies)[::100]:
            assert "jobs" in ask("GET", "/srv/spalloc/jobs", cookie)
    assert memory(place) - before < 20e6
    assert is_quick(user)
    assert user.state(job) != "DESTROYED"


@pytest.mark.slow
def test_a_thousand_idle_websockets(place: Place) -> None:
    user, other = place.log_in("me"), place.log_in("you")
    job = user.create(board={"x": 0, "y": 0, "z": 0})
    user.wait_until_ready(job)
    before = memory(place)

    async def stay() -> None:
        async with aiohttp.ClientSession(
            cookies=user.cookies,
            headers=user.headers,
            connector=aiohttp.TCPConnector(ssl=place.tls(), limit=0),
        ) as session:
            url = f"wss://localhost:{place.port}/proxy/{job}"
            sockets = [await session.ws_connect(url) for _ in range(1000)]
            assert metric(place, "proxies") == 1000
            print(f"{(memory(place) - before) / 1e6:.0f} MB for 1,000 WebSockets")
            assert memory(place) - before < 200e6
            # This is all that one user may have.
            assert user.ask("GET", "machines").status_code == 429
            assert is_quick(other)
            # All of them can be used, and leave at once.
            for opened in sockets:
                await opened.send_bytes(words(3, 1))
            for opened in sockets:
                reply = await opened.receive_bytes(timeout=20)
                assert reply.startswith((words(3, 1), words(5, 1)))
            assert is_quick(other)
            for opened in sockets:
                opened._response.close()

    asyncio.run(stay())
    wait_until(lambda: metric(place, "proxies") == 0)
    assert metric(place, "channels") == 0
    assert is_quick(user)


def test_nobody_has_all_connections(empty_place: Place) -> None:
    place = empty_place
    place.start_server()
    place.start_gateway()
    pid = place.gateway.process.pid
    # One in four may be a connection, and of these one in two that of one user.
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (400, 400))
    user, other = place.log_in("me"), place.log_in("you")
    job = user.create()
    user.wait_until_ready(job)
    with contextlib.ExitStack() as waiting:
        for _ in range(50):
            connection = waiting.enter_context(place.connect_securely())
            connection.sendall(request(user, "GET", f"jobs/{job}?wait=true"))
        wait_until(lambda: metric(place, "requests_under_way") == 51)
        refused = user.ask("GET", "machines")
        assert (refused.status_code, refused.text) == (
            429,
            "too many of your requests are under way\n",
        )
        assert is_quick(other)
    wait_until(lambda: metric(place, "requests_under_way") == 1)
    assert is_quick(user)


def test_websockets_of_clients_that_have_vanished_end(
    empty_place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing comes from them any more, not even an end."""
    place = empty_place
    place.start_server()
    monkeypatch.setenv("PATIENCE", "heartbeat=1")
    place.program = "tests.gateway.impatient"
    place.start_gateway()
    user = place.log_in("me")
    job = user.create()
    user.wait_until_ready(job)
    # It answers pings only while it is asked for what comes.
    vanished, there = open_proxy(user, job), open_proxy(user, job)
    assert metric(place, "proxies") == 2
    there.settimeout(0.1)

    def is_alone() -> bool:
        with contextlib.suppress(websocket.WebSocketTimeoutException):
            there.recv()
        return metric(place, "proxies") == 1

    wait_until(is_alone)
    there.settimeout(20)
    there.send_binary(words(3, 1))
    assert there.recv()[:8] == words(3, 1)
    there.close()
    vanished.close()


def test_waits_of_clients_that_go_end(place: Place) -> None:
    user = place.log_in("me")
    job = user.create()
    user.wait_until_ready(job)
    with contextlib.ExitStack() as waiting:
        for _ in range(100):
            connection = waiting.enter_context(place.connect_securely())
            connection.sendall(request(user, "GET", f"jobs/{job}?wait=true"))
        wait_until(lambda: "requests_under_way 101.0" in place.get("metrics").text)
        assert is_quick(user)
    wait_until(lambda: "requests_under_way 1.0" in place.get("metrics").text)


def post_login(
    place: Place, page: requests.Response, host: str, name: str, password: str
) -> int:
    """Log in from one of the addresses that this computer has; gives the status."""
    found = re.search('value="([-a-z0-9]+)" />', page.text)
    assert found is not None
    form = urlencode({"_csrf": found[1], "username": name, "password": password})
    connection = http.client.HTTPSConnection(
        "localhost",
        place.port,
        timeout=60,
        context=place.tls(),
        source_address=(host, 0),
    )
    with contextlib.closing(connection):
        connection.request(
            "POST",
            "/system/perform_login",
            form,
            {
                "Cookie": f"{COOKIE}={page.cookies[COOKIE]}",
                "Content-Type": "application/x-www-form-urlencoded",
            },
        )
        return connection.getresponse().status


def test_guessing_passwords_is_slow_and_does_not_slow_others(
    empty_place: Place,
) -> None:
    place = empty_place
    place.start_server()
    place.add_user("me", "secret")
    place.add_user("you", "other")
    place.program = "tests.gateway.impatient"
    place.start_gateway("--users", str(place.users))
    user = place.log_in("me", "secret")
    page = place.get("system/login.html")
    stop = threading.Event()
    statuses: list[int] = []

    def guess(number: int) -> None:
        name = "me" if number % 2 else f"u{number}"
        while not stop.is_set():
            statuses.append(post_login(place, page, "127.0.0.2", name, "wrong"))

    guesses = [threading.Thread(target=guess, args=(n,)) for n in range(20)]
    for thread in guesses:
        thread.start()
    try:
        # There are more than the gateway looks at.
        wait_until(lambda: 429 in statuses)
        # Whoever has not logged in before, too.
        for name, password in (("you", "other"), ("me", "secret")):
            began = time.monotonic()
            assert post_login(place, page, "127.0.0.9", name, password) == 302
            assert time.monotonic() - began < 5
        assert is_quick(user)
    finally:
        stop.set()
        for thread in guesses:
            thread.join()
    assert set(statuses) == {401, 429}
    assert metric(place, "failed_logins_total") >= len(statuses)


def test_one_user_logs_in_many_times_at_once(empty_place: Place) -> None:
    """As scripts do that are started together; a hash for each would take too long."""
    place = empty_place
    place.start_server()
    place.add_user("me", "secret")
    place.start_gateway("--users", str(place.users))
    page = place.get("system/login.html")
    with ThreadPoolExecutor(20) as pool:
        began = time.monotonic()
        logins = [
            pool.submit(post_login, place, page, "127.0.0.1", "me", "secret")
            for _ in range(60)
        ]
        assert {login.result() for login in logins} == {302}
        assert time.monotonic() - began < 9
    place.add_user("me", "another")
    assert post_login(place, page, "127.0.0.1", "me", "secret") == 401
    assert post_login(place, page, "127.0.0.1", "me", "another") == 302


def test_a_board_that_floods_harms_nobody_else(place: Place) -> None:
    user, other = place.log_in("me"), place.log_in("you")
    job = user.create(board={"x": 0, "y": 0, "z": 0})
    user.wait_until_ready(job)
    proxy = open_proxy(user, job)
    with Echo("127.0.1.1", b"") as echo:
        number = b"".join(n.to_bytes(4, "little") for n in (0, 1, 0, 0, echo.port))
        proxy.send_binary(number)
        opened = proxy.recv()
        assert isinstance(opened, bytes)
        proxy.send_binary(b"\2\0\0\0" + opened[8:12] + b"where")
        wait_until(lambda: echo.heard)
        sender, before = echo.heard[0][1], memory(place)
        stop = threading.Event()

        def flood() -> None:
            while not stop.is_set():
                for _ in range(200):
                    echo.socket.sendto(bytes(1500), sender)
                stop.wait(0.005)

        flooding = threading.Thread(target=flood)
        flooding.start()
        try:
            until = time.monotonic() + 3
            while time.monotonic() < until:
                assert is_quick(other)
            assert memory(place) - before < 50e6
        finally:
            stop.set()
            flooding.join()
        proxy.close()
