"""Requests as nobody sends them by accident: a clear status, and no error of ours."""

import gzip
import re
import struct
from collections.abc import Iterator

import pytest

from tests.gateway.boards import words
from tests.gateway.support import Place, User, metric
from tests.support import wait_until

CHUNKED = "Transfer-Encoding: chunked"
UPGRADE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
)
SERVICE = "/srv/spalloc/"


@pytest.fixture
def user(place: Place) -> Iterator[User]:
    yield place.log_in("me")
    log = place.gateway.log
    assert "Traceback" not in log
    assert "never" not in log  # awaited, or retrieved


def send(
    user: User,
    method: str,
    path: str,
    *headers: str,
    body: bytes = b"",
    host: str = "localhost",
    until: bytes | None = None,
) -> tuple[int, bytes]:
    """Send a request byte by byte; gives the status and all that comes.

    :param until: with this it is enough
    """
    lines = [
        f"{method} {path} HTTP/1.1",
        *([f"Host: {host}"] if host else []),
        "Cookie: " + "; ".join(f"{k}={v}" for k, v in user.cookies.items()),
        *(f"{k}: {v}" for k, v in user.headers.items()),
        "Connection: close",
        *headers,
    ]
    with user.place.connect_securely() as connection:
        head = "\r\n".join([*lines, "", ""]).encode()
        heard = b""
        try:
            connection.sendall(head + body)
            while piece := connection.recv(65536):
                heard += piece
                if until is not None and until in heard:
                    break
        except ConnectionError:
            pass  # it has said what it had to say
    found = re.search(rb"HTTP/1.[01] (?!100)(\d+) ", heard)
    assert found is not None, heard
    return int(found[1]), heard


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ((CHUNKED,), b"2\r\n{}\r\n0\r\n\r\n", 201),
        ((CHUNKED,), b"1\r\n{\r\n1;a=b\r\n}\r\n0\r\nTrailer: x\r\n\r\n", 201),
        ((CHUNKED,), b"zz\r\n{}\r\n0\r\n\r\n", 400),
        ((CHUNKED,), b"-2\r\n{}\r\n0\r\n\r\n", 400),
        ((CHUNKED, "Content-Length: 2"), b"2\r\n{}\r\n0\r\n\r\n", 400),
        (("Content-Length: 2", "Content-Length: 3"), b"{}", 400),
        (("Content-Length: -2",), b"{}", 400),
        (("Content-Length: 99999999999999999999999",), b"{}", 400),
        (("Content-Length: 2", "Content-Encoding: gzip"), b"{}", 415),
        (("Content-Length: 2", "Content-Encoding: identity"), b"{}", 201),
        (("Content-Length: 2", "Expect: 100-continue"), b"{}", 201),
        (("Content-Length: 2", "Expect: tea"), b"{}", 417),
        (("Content-Length: 2", "Content-Type: garbage"), b"{}", 201),
        (("Content-Length: 2", "Accept: text/html"), b"{}", 201),
        (("Content-Length: 2", "X: " + "a" * 9000), b"{}", 400),
        (("Content-Length: 2", *(f"X{n}: a" for n in range(3000))), b"{}", 400),
        (("Content-Length: 2", "X: a\0b"), b"{}", 400),
        (("Content-Length: 3",), b"\xef\xbb\xbf", 400),
        (("Content-Length: 2",), b"\xff\xfe", 400),
    ],
)
def test_bodies_and_headers(
    user: User, headers: tuple[str, ...], body: bytes, status: int
) -> None:
    assert send(user, "POST", f"{SERVICE}jobs", *headers, body=body)[0] == status


def test_a_body_that_is_broken_or_broken_off(impatient_place: Place) -> None:
    place = impatient_place
    user = place.log_in("me")
    head = [
        f"POST {SERVICE}jobs HTTP/1.1",
        "Host: localhost",
        "Cookie: " + "; ".join(f"{k}={v}" for k, v in user.cookies.items()),
        *(f"{k}: {v}" for k, v in user.headers.items()),
        CHUNKED,
    ]
    begin = "\r\n".join([*head, "", "1\r\n{\r\n"]).encode()
    for rest in (b"zz\r\n", b"1\r\n}", b""):
        with place.connect_securely() as connection:
            connection.sendall(begin)
            connection.sendall(rest)
            if rest:
                reply = connection.recv(1000)
                assert re.match(rb"HTTP/1.[01] (400|408) ", reply), reply
        wait_until(lambda: metric(place, "requests_under_way") == 1)
    assert place.old_client().call("list_jobs") == []
    assert "Traceback" not in place.gateway.log


def test_compressed_bodies_are_not_unpacked(user: User) -> None:
    job = user.create()
    bomb = gzip.compress(bytes(100_000_000))
    for path in ("jobs", f"jobs/{job}/memory?x=0&y=0&address=0"):
        status, _ = send(
            user,
            *("POST", SERVICE + path, "Content-Encoding: gzip"),
            f"Content-Length: {len(bomb)}",
            body=bomb,
        )
        assert status == 415


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("LocalHost:8443", 200),
        ("127.0.0.1", 200),
        ("[::1]:8443", 200),
        ("xn--bcher-kva.example", 200),
        ("", 400),
        ("a/b?c#d@e", 400),
        ("me@localhost", 400),
        ("a\r\nHost: b", 400),
        ("a:99999999", 400),
        ("a b", 400),
    ],
)
def test_hosts(user: User, host: str, status: int) -> None:
    found, text = send(user, "GET", SERVICE, host=host)
    assert found == status
    if status == 200:
        assert f"https://{host.lower()}/srv/spalloc/jobs".encode() in text


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("jobs/{job}/chip?x=0&y=0", 200),
        ("jobs/{job}/chip?x=%31&y=0", 200),
        ("jobs/{job}/chip?x=8&y=0", 204),
        ("jobs/{job}/chip?x=4294967295&y=0", 204),
        ("jobs/{job}/chip?x=4294967296&y=0", 400),
        ("jobs/{job}/chip?x=-1&y=0", 400),
        ("jobs/{job}/chip?x=+1&y=0", 400),
        ("jobs/{job}/chip?x=1_0&y=0", 400),
        ("jobs/{job}/chip?x=1.0&y=0", 400),
        ("jobs/{job}/chip?x=%D9%A1&y=0", 400),
        ("jobs/{job}/chip?x=&y=0", 400),
        ("jobs/{job}/chip?y=0", 400),
        ("jobs/{job}/chip?x=" + "9" * 5000 + "&y=0", 400),
        ("jobs//{job}//machine//", 200),
        ("jobs/0{job}", 200),
        ("jobs/+{job}", 404),
        ("jobs/-1", 404),
        ("jobs/%D9%A1", 404),
        ("jobs/" + "9" * 30, 404),
        ("jobs/%00", 404),
        ("jobs/%zz", 404),
        ("JOBS/{job}", 404),
        ("machines/%ff%fe", 404),
        ("machines/%2e%2e", 404),
        ("jobs?start=%ff", 400),
        ("jobs?start=-1", 400),
        ("jobs?limit=0", 400),
        ("jobs?limit=99999&start=99999999999999999999", 200),
    ],
)
def test_paths_and_numbers(user: User, path: str, status: int) -> None:
    job = user.create()
    user.wait_until_ready(job)
    path = path.format(job=job)
    assert send(user, "GET", f"{SERVICE}{path}")[0] == status


def test_methods(user: User) -> None:
    job = user.create()
    user.wait_until_ready(job)
    proxy, memory = f"/proxy/{job}", f"{SERVICE}jobs/{job}/memory?x=0&y=0&address=0"
    for method, path, status in (
        ("HEAD", SERVICE, 200),
        ("HEAD", f"{SERVICE}jobs/{job}", 200),
        ("HEAD", f"{memory}&size=4", 405),
        ("HEAD", proxy, 405),
        ("POST", proxy, 405),
        ("OPTIONS", SERVICE, 405),
        ("PUT", f"{SERVICE}jobs", 405),
        ("PATCH", f"{SERVICE}jobs/{job}", 405),
        ("TRACE", SERVICE, 405),
        ("NONSENSE", SERVICE, 400),
        ("CONNECT", "localhost:443", 404),
        ("OPTIONS", "*", 404),
    ):
        headers = UPGRADE if path == proxy else ()
        found, text = send(user, method, path, *headers)
        assert found == status, (method, path)
        assert (b"Allow: " in text) == (status == 405)
        if method == "HEAD":
            assert text.endswith(b"\r\n\r\n")
            assert b"Server: spalloc_server_gateway\r\n" in text


def frame(op: int, data: bytes, fin: bool = True, reserved: int = 0) -> bytes:
    """A frame as clients send them, with a mask that changes nothing."""
    first = bytes([fin << 7 | reserved << 4 | op])
    if len(data) < 126:
        return first + bytes([0x80 | len(data)]) + bytes(4) + data
    return first + b"\xff" + struct.pack(">Q", len(data)) + bytes(4) + data


OPENING = words(3, 1)

CLOSED = (
    ("continuation of nothing", frame(0, OPENING), 1002),
    ("reserved bits", frame(2, OPENING, reserved=4), 1002),
    ("unknown kind", frame(3, OPENING), 1002),
    ("long ping", frame(9, bytes(200)), 1002),
    ("ping in parts", frame(9, b"x", fin=False), 1002),
    ("close without reason", frame(8, b""), 1000),
    ("half a reason", frame(8, b"x"), 1002),
    ("no such reason", frame(8, b"\x03\xe7"), 1002),
    ("text that is none", frame(1, b"\xff"), 1007),
    ("too long", b"\x82\xff" + struct.pack(">Q", 2**62), 1009),
    ("negative", b"\x82\xff" + b"\xff" * 8, 1009),
    ("parts too long", frame(2, bytes(40_000), False) + frame(0, bytes(40_000)), 1009),
)


@pytest.mark.parametrize(
    ("data", "code"),
    [pytest.param(data, code, id=label) for label, data, code in CLOSED],
)
def test_frames_that_end_a_websocket(user: User, data: bytes, code: int) -> None:
    job = user.create()
    user.wait_until_ready(job)
    found, text = send(user, "GET", f"/proxy/{job}", *UPGRADE, body=data)
    assert found == 101
    assert text.endswith(b"\x88\x02" + struct.pack(">H", code))


def test_frames_in_parts_and_of_no_length(user: User) -> None:
    job = user.create()
    user.wait_until_ready(job)
    parts = [frame(2, b"", fin=False), *[frame(0, b"", fin=False)] * 5000]
    parts += [frame(9, b"there?"), frame(0, OPENING[:3], fin=False)]
    parts += [frame(0, OPENING[3:])]
    answer = b"\x8a\x06there?\x82\x14" + OPENING
    _, text = send(
        user, "GET", f"/proxy/{job}", *UPGRADE, body=b"".join(parts), until=answer
    )
    assert answer in text
