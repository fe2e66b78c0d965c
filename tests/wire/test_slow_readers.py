import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from spalloc_server.wire import slow_readers
from spalloc_server.wire.connection import Connection
from spalloc_server.wire.messages import LongReply
from spalloc_server.wire.slow_readers import (
    LEAST_BYTES,
    PATIENCE_SECONDS,
    SlowReaders,
)
from tests.support import wait_until


class Pairs:
    """Connections, each with the client's end of it, and who is behind."""

    def __init__(self, undo: ExitStack) -> None:
        self._undo = undo
        self.slow = SlowReaders()

    def connect(self) -> tuple[Connection, socket.socket]:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = self._undo.enter_context(
                socket.create_connection(listener.getsockname())
            )
            ours, _ = listener.accept()
        connection = Connection(ours)
        self._undo.callback(connection.close)
        return connection, client

    def clogged(self, now: float = 0.0) -> tuple[Connection, socket.socket]:
        """A connection whose client has left a long reply lying."""
        connection, client = self.connect()
        connection.begin_reply(LongReply(iter(lambda: b"x" * 10_000, b""), 1000))
        for _ in range(10_000):
            connection.go_on_with_reply()
            connection.flush()
        assert connection.is_blocked
        self.slow.note(connection, now)
        return connection, client

    def take(self, connection: Connection, client: socket.socket) -> None:
        """Have a client take so much that it counts."""
        before = connection.sent_bytes

        def enough() -> bool:
            client.recv(LEAST_BYTES)
            for _ in range(100):
                connection.go_on_with_reply()
                connection.flush()
            taken = connection.sent_bytes - before >= LEAST_BYTES
            return taken and bool(connection.held_bytes)

        wait_until(enough)


@pytest.fixture
def pairs() -> Iterator[Pairs]:
    with ExitStack() as undo:
        yield Pairs(undo)


def test_who_takes_nothing_of_a_long_reply_has_to_go(pairs: Pairs) -> None:
    connection, _ = pairs.clogged()
    assert pairs.slow.who_has_to_go(PATIENCE_SECONDS - 0.1) == {}
    pairs.slow.note(connection, PATIENCE_SECONDS - 0.1)  # is known already
    (reason,) = pairs.slow.who_has_to_go(PATIENCE_SECONDS).values()
    assert reason == "it has taken 0 bytes of a long reply in 30 s"
    pairs.slow.forget(connection)
    pairs.slow.forget(connection)
    assert pairs.slow.behind() == []


def test_who_reads_slowly_may_stay(pairs: Pairs) -> None:
    connection, client = pairs.clogged()
    for n in range(1, 4):
        pairs.take(connection, client)
        assert pairs.slow.who_has_to_go(n * PATIENCE_SECONDS) == {}
    assert connection in pairs.slow.who_has_to_go(4 * PATIENCE_SECONDS)


def test_short_replies_that_wait_hurt_nobody(pairs: Pairs) -> None:
    connection, client = pairs.connect()
    while not connection.output_bytes:
        connection.send("x" * 1000)
        connection.flush()
    pairs.slow.note(connection, 0.0)
    assert pairs.slow.who_has_to_go(1e6) == {}
    assert pairs.slow.behind() == [connection]
    client.setblocking(False)

    def all_taken() -> bool:
        connection.flush()
        try:
            client.recv(1 << 20)
        except BlockingIOError:
            return not connection.held_bytes
        return False

    wait_until(all_taken)
    pairs.slow.note(connection, 2e6)
    assert pairs.slow.behind() == []


def test_the_slowest_go_where_too_much_is_held_for_all(
    pairs: Pairs, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = [pairs.clogged() for _ in range(3)]
    held = sum(connection.held_bytes for connection, _ in three)
    monkeypatch.setattr(slow_readers, "MAX_HELD_BYTES", held)
    assert not pairs.slow.is_too_much
    assert pairs.slow.who_has_to_go(0.0) == {}
    for connection, client in (three[0], three[2]):
        pairs.take(connection, client)
        pairs.slow.note(connection, 1.0)
    held = sum(connection.held_bytes for connection, _ in three)
    monkeypatch.setattr(slow_readers, "MAX_HELD_BYTES", held - 100)
    monkeypatch.setattr(slow_readers, "HELD_AFTERWARDS", held - 200)
    assert pairs.slow.is_too_much
    (leaving,) = pairs.slow.who_has_to_go(1.0).items()
    assert leaving[0] is three[1][0]
    assert "bytes wait for it, and for all clients more than" in leaving[1]
    pairs.slow.forget(leaving[0])
    assert not pairs.slow.is_too_much
