import contextlib
import resource
import select
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest

from spalloc_server.server import SpallocServer
from spalloc_server.wire import listener as listener_module
from spalloc_server.wire.listener import ACCEPTS_PER_TURN, Listener
from tests.support import ONE_TRIAD, Client, Site, free_port, wait_until


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener("127.0.0.1", 0)
    yield listener
    listener.close()


def accept_one(listener: Listener) -> socket.socket:
    accepted: list[socket.socket] = []

    def has_accepted() -> bool:
        accepted.extend(listener.accept())
        return bool(accepted)

    wait_until(has_accepted)
    [client] = accepted
    return client


def test_port_0_takes_a_free_port(listener: Listener) -> None:
    ip, port = listener.address
    assert ip == "127.0.0.1"
    assert port > 0
    assert listener.accept() == []
    with socket.create_connection(listener.address) as client:
        with accept_one(listener) as accepted:
            assert accepted.getpeername() == client.getsockname()
        assert listener.accept() == []


def test_a_port_in_use_is_named(listener: Listener) -> None:
    ip, port = listener.address
    with pytest.raises(OSError, match=f"on {ip} port {port}: Address already in use"):
        Listener(ip, port)


def test_an_ip_that_is_not_ours_is_named() -> None:
    with pytest.raises(OSError, match=r"on 192\.0\.2\.1 port 0: Cannot assign"):
        Listener("192.0.2.1", 0)
    with pytest.raises(OSError, match="on any IP port 70000: no such port"):
        Listener("", 70000)


def test_a_closed_port_can_be_taken_again_at_once(listener: Listener) -> None:
    client = socket.create_connection(listener.address)
    accept_one(listener).close()  # leaves the connection in TIME_WAIT
    client.close()
    address = listener.address
    listener.close()
    Listener(*address).close()


@pytest.mark.parametrize(
    ("ip", "family"),
    [("", socket.AF_INET), ("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)],
)
def test_the_ip_decides_the_family(ip: str, family: socket.AddressFamily) -> None:
    try:
        listener = Listener(ip, 0)
    except OSError:
        if family == socket.AF_INET:
            raise
        pytest.skip("this machine has no IPv6")
    assert listener._socket.family == family
    listener.close()


def test_moving_to_the_same_address_does_nothing(listener: Listener) -> None:
    before = listener.address
    assert not listener.move("127.0.0.1", 0)
    assert listener.address == before


def test_moving_to_an_overlapping_address() -> None:
    listener = Listener("", 0)
    port = listener.address[1]
    assert listener.move("127.0.0.1", port)
    assert listener.address == ("127.0.0.1", port)
    with socket.create_connection(("127.0.0.1", port)), accept_one(listener):
        pass
    listener.close()


def test_a_move_that_fails_keeps_the_old_address(listener: Listener) -> None:
    before = listener.address
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()
        with pytest.raises(OSError, match="Address already in use"):
            listener.move(*taken)
        assert listener.address == before
    with pytest.raises(OSError, match="Cannot assign"):
        listener.move("192.0.2.1", 0)
    assert listener.address == before
    with socket.create_connection(before), accept_one(listener):
        pass
    # It is tried again, not taken for done.
    assert listener.move(*taken)


def test_many_that_wait_come_in_over_several_turns(listener: Listener) -> None:
    number = ACCEPTS_PER_TURN + 10
    clients = [socket.create_connection(listener.address) for _ in range(number)]
    accepted: list[socket.socket] = []

    def all_accepted() -> bool:
        taken = listener.accept()
        assert len(taken) <= ACCEPTS_PER_TURN
        accepted.extend(taken)
        return len(accepted) == number

    wait_until(all_accepted)
    for client in [*clients, *accepted]:
        client.close()


# Runs in a process of its own, because it uses up the file descriptors.
EXHAUSTION = """
    import os, resource, socket, sys, time
    from spalloc_server.wire.listener import Listener

    listener = Listener("127.0.0.1", 0)
    fill = sys.argv[1] == "none left"
    # Connected while there is room, on descriptors out of the way of the limit.
    clients = []
    for n in range(60):
        client = socket.create_connection(listener.address)
        clients.append(socket.socket(fileno=os.dup2(client.fileno(), 200 + n)))
        client.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
    if fill:
        try:
            while True:
                os.dup(0)
        except OSError:
            pass
    accepted, closed = [], 0
    for client in clients:
        client.setblocking(False)
    deadline = time.monotonic() + 30
    while len(accepted) + closed < 60 and time.monotonic() < deadline:
        accepted += listener.accept()
        assert listener.resume_at is None
        closed = 0
        for client in clients:
            try:
                closed += client.recv(1) == b""
            except BlockingIOError:
                pass
            except ConnectionResetError:
                closed += 1
    assert listener.refused == {"out of descriptors": closed}, listener.refused
    print(len(accepted), closed, max([0, *(a.fileno() for a in accepted)]))
"""


@pytest.mark.parametrize("situation", ["some left", "none left"])
def test_at_the_descriptor_limit_clients_are_turned_away(situation: str) -> None:
    if resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 300:
        pytest.skip("the limit of this machine is too low to start from")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(EXHAUSTION), situation],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    accepted, closed, highest = map(int, done.stdout.split())
    assert accepted + closed == 60
    assert closed > 0
    assert done.stderr.count("Out of file descriptors") == 1
    if situation == "none left":
        assert accepted == 0
    else:
        assert accepted > 0
        assert highest < 64 - 16


def take_on_second_try(
    monkeypatch: pytest.MonkeyPatch, new: tuple[str, int], old: tuple[str, int]
) -> list[socket.socket]:
    """Have somebody take an old address in the moment in which nobody has it."""
    takers: list[socket.socket] = []
    tries = []
    really_open = listener_module._open_socket

    def open_socket(ip: str, port: int) -> socket.socket:
        if (ip, port) == new:
            tries.append(1)
            if len(tries) == 2:
                takers.append(socket.create_server(old))
        return really_open(ip, port)

    monkeypatch.setattr(listener_module, "_open_socket", open_socket)
    return takers


def test_an_old_address_that_somebody_else_has_taken(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    listener = Listener("127.0.0.1", 0)
    old = listener.address
    with socket.create_server(("127.0.0.2", old[1])):
        takers = take_on_second_try(monkeypatch, ("", old[1]), old)
        with pytest.raises(OSError, match=r"on any IP port .*Address already in use"):
            listener.move("", old[1])
    assert not listener.is_open
    assert listener.address == old
    assert "nobody can connect until it can be had again" in caplog.text
    # It is not ready for ever, nor does it fail.
    assert select.select([listener], [], [], 0)[0] == []
    assert listener.accept() == []
    assert not listener.listen_again()
    for one in takers:
        one.close()
    assert listener.listen_again()
    assert listener.is_open
    with socket.create_connection(old), accept_one(listener):
        pass
    assert not listener.listen_again()
    listener.close()


def test_a_server_without_address_goes_on_and_gets_it_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    port = free_port()
    moving = ONE_TRIAD.replace("seconds_", 'ip="{}", seconds_')
    site.write(moving.replace("{}", "127.0.0.1"))
    site.serve_bmps()
    running = site.undo.enter_context(SpallocServer(str(site.config), port=port))
    client = site.connect(running)
    with socket.create_server(("127.0.0.2", port)):
        takers = take_on_second_try(monkeypatch, ("", port), ("127.0.0.1", port))
        site.write(moving.replace("{}", ""))
        running.request_reload()
        wait_until(lambda: "it is tried again" in caplog.text)
    assert client.call("version")
    for taker in takers:
        taker.close()

    def is_back() -> bool:
        with contextlib.suppress(ConnectionRefusedError), Client(port) as other:
            return bool(other.call("version"))
        return False

    wait_until(is_back)
    # The new one is had with the next reload.
    running.request_reload()
    wait_until(lambda: running.address == ("0.0.0.0", port))
    running.stop_and_join()
    assert not running.failed


@pytest.mark.parametrize("ip", ["10.0..1", "a\0b", 70 * "x", "\udc80", "ü..x", "-"])
def test_an_ip_that_is_none_is_named(ip: str) -> None:
    with pytest.raises(OSError, match="cannot listen on") as caught:
        Listener(ip, 0)
    assert caught.value.strerror
    assert caught.value.errno is not None
