import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from spalloc_server.polling_server_core import PollingServerCore


@pytest.fixture
def core() -> Iterator[PollingServerCore]:
    core = PollingServerCore()
    yield core
    core._close_core()


def woken(core: PollingServerCore, timeout: float) -> bool:
    return [channel for channel, _ in core.ready_channels(timeout)] == [
        core._notify_recv
    ]


def test_a_wait_ends_after_its_timeout_in_seconds(core: PollingServerCore) -> None:
    before = time.monotonic()
    assert core.ready_channels(0.05) == []
    assert 0.05 <= time.monotonic() - before < 5


def test_wake_from_another_thread_ends_the_wait(core: PollingServerCore) -> None:
    thread = threading.Thread(target=core.wake)
    thread.start()
    assert woken(core, 60)
    thread.join()


def test_a_wake_before_the_wait_is_not_lost_and_many_count_as_one(
    core: PollingServerCore,
) -> None:
    for _ in range(100_000):  # more than a socket pair holds
        core.wake()
    assert woken(core, 60)
    assert core.ready_channels(0) == []


def test_wake_after_close_is_harmless() -> None:
    core = PollingServerCore()
    core._close_core()
    core.wake()


def test_channels_are_reported_while_registered(core: PollingServerCore) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        core.register_channel(ours)
        assert core.is_registered(ours)
        assert not core.is_registered(theirs)
        assert core.ready_channels(0) == []
        theirs.send(b"x")
        assert core.ready_channels(60) == [(ours, select.POLLIN)]
        core.register_channel(ours, select.POLLIN | select.POLLOUT)
        assert core.ready_channels(60) == [(ours, select.POLLIN | select.POLLOUT)]
        core.register_channel(ours, 0)
        assert core.ready_channels(0) == []
        core.unregister_channel(ours)
        assert not core.is_registered(ours)
        assert core.ready_channels(0) == []


def test_port_0_takes_a_free_port(core: PollingServerCore) -> None:
    with core._open_server_socket("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        assert address[0] == "127.0.0.1"
        assert address[1] > 0
        with socket.create_connection(address), listener.accept()[0]:
            pass
        assert listener.getblocking() is False


def test_a_port_in_use_is_an_error(core: PollingServerCore) -> None:
    with (
        core._open_server_socket("127.0.0.1", 0) as listener,
        pytest.raises(OSError, match="Address already in use"),
    ):
        core._open_server_socket("127.0.0.1", listener.getsockname()[1])


def test_a_closed_port_can_be_taken_again_at_once(core: PollingServerCore) -> None:
    with core._open_server_socket("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        listener.accept()[0].close()  # leaves the connection in TIME_WAIT
    client.close()
    core._open_server_socket("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("ip", "family"),
    [("", socket.AF_INET), ("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6)],
)
def test_the_ip_decides_the_family(
    core: PollingServerCore, ip: str, family: socket.AddressFamily
) -> None:
    try:
        listener = core._open_server_socket(ip, 0)
    except OSError:
        if family == socket.AF_INET:
            raise
        pytest.skip("this machine has no IPv6")
    with listener:
        assert listener.family == family
