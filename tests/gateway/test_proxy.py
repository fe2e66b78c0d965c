"""Packets to boards and back, through the WebSocket."""

import contextlib
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from copy import copy

import pytest
import websocket

from tests.gateway.boards import Echo, open_proxy, words
from tests.gateway.support import Place, User, metric
from tests.support import wait_until

OPEN, CLOSE, MESSAGE, OPEN_UNBOUND, MESSAGE_TO, ERROR = range(6)


@pytest.fixture
def echoes() -> Iterator[list[Echo]]:
    """Stand in for the boards of the machine, in the order of their addresses."""
    with ExitStack() as undo:
        yield [
            undo.enter_context(Echo(f"127.0.1.{n}", b"board %d: " % n))
            for n in (1, 2, 3)
        ]


@pytest.fixture
def user(place: Place) -> User:
    return place.log_in("me")


@pytest.fixture
def job(user: User) -> int:
    job = user.create(**{"num-boards": 3})
    user.wait_until_ready(job)
    return job


@pytest.fixture
def proxy(user: User, job: int) -> Iterator[websocket.WebSocket]:
    opened = open_proxy(user, job)
    yield opened
    opened.close()


def ask(proxy: websocket.WebSocket, frame: bytes) -> bytes:
    proxy.send_binary(frame)
    reply = proxy.recv()
    assert isinstance(reply, bytes)
    return reply


def open_channel(proxy: websocket.WebSocket, x: int, y: int, port: int) -> int:
    op, correlation, handle = struct.unpack(
        "<3I", ask(proxy, words(OPEN, 77, x, y, port))
    )
    assert (op, correlation) == (OPEN, 77)
    assert handle
    return int(handle)


def test_packets_go_to_their_boards_and_back(
    proxy: websocket.WebSocket, echoes: list[Echo]
) -> None:
    handles = [
        open_channel(proxy, x, y, echo.port)
        for (x, y), echo in zip([(0, 0), (8, 4), (4, 8)], echoes, strict=True)
    ]
    assert len(set(handles)) == 3
    for number, handle in enumerate(handles, 1):
        for payload in (b"", b"hello", bytes(range(256)) * 7):
            answer = ask(proxy, words(MESSAGE, handle) + payload)
            assert answer == words(MESSAGE, handle) + b"board %d: " % number + payload
    for handle in handles:
        assert ask(proxy, words(CLOSE, 5, handle)) == words(CLOSE, 5, handle)
        assert ask(proxy, words(CLOSE, 6, handle)) == words(CLOSE, 6, 0)
        proxy.send_binary(words(MESSAGE, handle) + b"lost")
    again = open_channel(proxy, 0, 0, echoes[0].port)
    assert again not in handles
    assert b"lost" not in [data for data, _ in echoes[0].heard]


def test_unbound_channels_reach_all_boards_of_the_job(
    proxy: websocket.WebSocket, echoes: list[Echo]
) -> None:
    reply = ask(proxy, words(OPEN_UNBOUND, 3))
    op, correlation, handle, a, b, c, d, port = struct.unpack("<3I4BI", reply)
    assert (op, correlation) == (OPEN_UNBOUND, 3)
    for number, (x, y) in enumerate([(0, 0), (8, 4), (4, 8)], 1):
        echo = echoes[number - 1]
        answer = ask(proxy, words(MESSAGE_TO, handle, x, y, echo.port) + b"hi")
        assert answer == words(MESSAGE, handle) + b"board %d: hi" % number
        # It comes from the address and port that the user was told.
        assert echo.heard == [(b"hi", (f"{a}.{b}.{c}.{d}", port))]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("127.0.1.9", 0))
        stranger.sendto(b"not of the job", (f"{a}.{b}.{c}.{d}", port))
        echoes[0].socket.sendto(b"of the job", (f"{a}.{b}.{c}.{d}", port))
        assert proxy.recv() == words(MESSAGE, handle) + b"of the job"


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (words(OPEN, 9, 1, 0, 17893), "unrecognised ethernet chip (1, 0)"),
        (words(OPEN, 9, 12, 0, 17893), "unrecognised ethernet chip (12, 0)"),
        (words(OPEN, 9, 0, 0, 0), "port must be from 1 to 65535, not 0"),
        (words(OPEN, 9, 0, 0, 65536), "port must be from 1 to 65535, not 65536"),
        (words(OPEN, 9, 0, 0), "the frame has a wrong length"),
        (words(OPEN, 9, 0, 0, 17893, 0), "the frame has a wrong length"),
        (words(CLOSE, 9), "the frame has a wrong length"),
        (words(OPEN_UNBOUND, 9, 9), "the frame has a wrong length"),
    ],
)
def test_calls_that_fail_are_answered(
    proxy: websocket.WebSocket, frame: bytes, error: str
) -> None:
    assert ask(proxy, frame) == words(ERROR, 9) + error.encode()


def test_frames_that_mean_nothing_do_no_harm(
    proxy: websocket.WebSocket, echoes: list[Echo]
) -> None:
    handle = open_channel(proxy, 0, 0, echoes[0].port)
    for frame in (
        b"",
        b"1234567",
        words(MESSAGE, 12345) + b"x",
        words(MESSAGE_TO, handle),
        words(MESSAGE_TO, handle, 0, 0, echoes[0].port) + b"bound",
        words(ERROR, 1),
        words(99, 1),
    ):
        proxy.send_binary(frame)
    proxy.send("text")
    proxy.ping()
    unbound = struct.unpack_from("<3I", ask(proxy, words(OPEN_UNBOUND, 3)))[2]
    proxy.send_binary(words(MESSAGE, unbound) + b"to nobody")
    proxy.send_binary(words(MESSAGE_TO, unbound, 5, 5, 17893) + b"no board")
    proxy.send_binary(words(MESSAGE_TO, unbound, 0, 0, 0) + b"no port")
    proxy.send_binary(words(MESSAGE_TO, unbound, 0, 0, 2**20) + b"no port")
    assert ask(proxy, words(MESSAGE, handle) + b"x").endswith(b"board 1: x")
    assert [data for data, _ in echoes[0].heard] == [b"x"]


def test_a_frame_that_is_too_long_ends_it(
    place: Place, proxy: websocket.WebSocket
) -> None:
    # It may be over before all of it is sent.
    with contextlib.suppress(websocket.WebSocketException, OSError):
        proxy.send_binary(words(MESSAGE, 1) + bytes(70_000))
    wait_until(lambda: metric(place, "proxies") == 0)
    assert "Traceback" not in place.gateway.log


def test_a_board_that_refuses_does_no_harm(proxy: websocket.WebSocket) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unused:
        unused.bind(("127.0.1.1", 0))
        port = unused.getsockname()[1]
    handle = open_channel(proxy, 0, 0, port)
    for _ in range(5):
        proxy.send_binary(words(MESSAGE, handle) + b"x")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as board:
        board.bind(("127.0.1.1", port))
        board.settimeout(20)
        proxy.send_binary(words(MESSAGE, handle) + b"y")

        def heard() -> bytes:
            return board.recv(100)

        wait_until(lambda: heard() == b"y")


def test_the_end_of_a_job_closes_its_channels_and_not_the_proxy(
    place: Place, proxy: websocket.WebSocket, job: int, echoes: list[Echo]
) -> None:
    handle = open_channel(proxy, 0, 0, echoes[0].port)
    ask(proxy, words(OPEN_UNBOUND, 3))
    assert ask(proxy, words(MESSAGE, handle) + b"x").endswith(b"x")
    assert metric(place, "channels") == 2
    old = place.old_client()
    old.call("destroy_job", job)
    wait_until(lambda: metric(place, "channels") == 0)
    # Its boards are others' by now.
    old.call("create_job", 3, owner="you")
    proxy.send_binary(words(MESSAGE, handle) + b"late")
    for frame in (words(OPEN, 9, 0, 0, echoes[0].port), words(OPEN_UNBOUND, 9)):
        assert ask(proxy, frame) == words(ERROR, 9) + b"the job has no boards any more"
    assert ask(proxy, words(CLOSE, 9, handle)) == words(CLOSE, 9, 0)
    assert [data for data, _ in echoes[0].heard] == [b"x"]
    assert metric(place, "proxies") == 1
    proxy.close()
    wait_until(lambda: metric(place, "proxies") == 0)


def test_channels_are_closed_before_their_user_ends_the_job(
    place: Place, user: User, job: int, proxy: websocket.WebSocket, echoes: list[Echo]
) -> None:
    open_channel(proxy, 0, 0, echoes[0].port)
    assert metric(place, "channels") == 1
    assert user.ask("DELETE", f"jobs/{job}").status_code == 204
    assert metric(place, "channels") == 0


def test_power_does_not_close_channels(
    proxy: websocket.WebSocket, user: User, job: int, echoes: list[Echo]
) -> None:
    handle = open_channel(proxy, 0, 0, echoes[0].port)
    for power in ("OFF", "ON"):
        user.ask("POST", f"jobs/{job}/machine/power", json={"power": power})
        user.wait_until_ready(job)
        assert ask(proxy, words(MESSAGE, handle) + b"x").endswith(b"board 1: x")


def test_only_owners_with_their_token_get_in(
    place: Place, user: User, job: int
) -> None:
    other = place.log_in("you")
    queued = user.create(**{"num-boards": 3})
    for who, job_id, headers, status in (
        (other, job, other.headers, 404),
        (user, 99, user.headers, 404),
        (user, queued, user.headers, 404),
        (user, job, {}, 403),
        (user, job, other.headers, 403),
    ):
        who = copy(who)
        who.headers = headers
        with pytest.raises(websocket.WebSocketBadStatusException) as caught:
            open_proxy(who, job_id)
        assert caught.value.status_code == status
    plain = place.get(f"proxy/{job}", cookies=user.cookies)
    assert plain.status_code == 426


def test_channels_of_a_client_that_goes_are_closed(
    place: Place, user: User, job: int, echoes: list[Echo]
) -> None:
    proxy = open_proxy(user, job)
    for _ in range(20):
        open_channel(proxy, 0, 0, echoes[0].port)
    assert metric(place, "channels") == 20
    assert proxy.sock is not None
    proxy.sock.close()  # without a word
    wait_until(lambda: metric(place, "channels") == 0)


def test_a_client_that_does_not_read_loses_packets_and_nobody_else(
    impatient_place: Place, echoes: list[Echo]
) -> None:
    place = impatient_place
    user = place.log_in("me")
    job = user.create(**{"num-boards": 3})
    user.wait_until_ready(job)
    deaf, other = open_proxy(user, job), open_proxy(user, job)
    handle = open_channel(deaf, 0, 0, echoes[0].port)
    mine = open_channel(other, 8, 4, echoes[1].port)
    deaf.send_binary(words(MESSAGE, handle) + b"where")
    wait_until(lambda: echoes[0].heard)
    sender = echoes[0].heard[0][1]

    def flood() -> bool:
        for _ in range(500):
            echoes[0].socket.sendto(bytes(2000), sender)
        return metric(place, "packets_lost_total") > 1000

    wait_until(flood)
    for _ in range(100):
        assert ask(other, words(MESSAGE, mine) + b"x").endswith(b"board 2: x")
    # In the end it is disconnected.
    wait_until(lambda: metric(place, "proxies") == 1)
    other.close()
    deaf.close()


def test_proxies_end_with_the_gateway(
    place: Place, user: User, job: int, proxy: websocket.WebSocket
) -> None:
    assert place.gateway.stop() == 0, place.gateway.log
    opcode, data = proxy.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE
    assert struct.unpack(">H", data[:2]) == (1001,)
