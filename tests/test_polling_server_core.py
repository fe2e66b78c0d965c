import contextlib
import select
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from spalloc_server.polling_server_core import READY_AT_ONCE, PollingServerCore


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


def test_all_that_are_ready_have_their_turn(core: PollingServerCore) -> None:
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(3 * READY_AT_ONCE)]
        for ours, theirs in pairs:
            stack.enter_context(ours)
            stack.enter_context(theirs)
            core.register_channel(ours)
            theirs.send(b"x")
        # Nobody takes what was sent, so that all stay ready.
        for _ in range(2):
            told = [channel for _ in range(3) for channel, _ in core.ready_channels(60)]
            assert len(told) == len(pairs)
            assert set(told) == {ours for ours, _ in pairs}
        for ours, _ in pairs:
            core.unregister_channel(ours)
