import json
import select
import socket
import threading
from collections.abc import Callable, Iterator

import pytest

from spalloc_server.wire.connection import (
    LONG_REPLY_BYTES,
    Connection,
    OutputFullError,
)
from spalloc_server.wire.framing import LineTooLongError
from spalloc_server.wire.messages import LongReply
from tests.support import wait_until

LIMIT = 100_000


class Pair:
    """A connection under test and the client's end of it."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.client = socket.create_connection(listener.getsockname())
            self.client.settimeout(30)
            ours, _ = listener.accept()
        self.connection = Connection(ours, max_output_bytes=LIMIT)
        # Small buffers of the kernel, so that the connection's own come into play.
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        self.client_file = self.client.makefile("rb")

    def receive(self, lines: int = 1) -> list[bytes]:
        """Have the connection read until it has so many lines."""
        taken: list[bytes] = []

        def enough() -> bool:
            self.connection.receive()
            while (line := self.connection.next_line()) is not None:
                taken.append(line)
            return len(taken) >= lines

        wait_until(enough)
        return taken

    def receive_until(self, predicate: Callable[[], bool]) -> None:
        """Have the connection read until something holds."""

        def holds() -> bool:
            self.connection.receive()
            return predicate()

        wait_until(holds)

    def read_message(self) -> object:
        """The next message, the connection sending as much as the client takes."""
        self.client.setblocking(False)
        data = b""
        while not data.endswith(b"\n"):
            self.connection.flush()
            select.select([self.client], [], [], 0.01)
            try:
                data += self.client.recv(1)
                while not data.endswith(b"\n"):
                    data += self.client.recv(1)
            except BlockingIOError:
                continue
        return json.loads(data)

    def clog(self) -> int:
        """Send until the client, which reads nothing, takes no more; how often?"""
        sent = 0
        while True:
            self.connection.send({"return": "x" * 1000})
            self.connection.flush()
            sent += 1
            # So much that it is not gone when the kernel finds a little more room.
            if self.connection.output_bytes > LIMIT // 2:
                return sent


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.connection.close()
    pair.client_file.close()
    pair.client.close()


def test_peer_stays_known_after_closing(pair: Pair) -> None:
    fd = pair.connection.fileno()
    address = pair.client.getsockname()
    assert pair.connection.getpeername() == address
    pair.connection.close()
    assert pair.connection.getpeername() == address
    assert pair.connection.fileno() == fd
    assert repr(pair.connection) == f"127.0.0.1 port {address[1]}"


def test_an_ipv4_client_of_an_ipv6_socket_has_its_ipv4_address() -> None:
    try:
        listener = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True
        )
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        client = socket.create_connection(("127.0.0.1", listener.getsockname()[1]))
        ours, address = listener.accept()
    assert address[0] == "::ffff:127.0.0.1"
    connection = Connection(ours)
    assert connection.getpeername()[0] == "127.0.0.1"
    connection.close()
    client.close()


def test_lines_come_in_and_replies_go_out_in_order(pair: Pair) -> None:
    pair.client.sendall(b"one\ntwo\nthr")
    assert pair.receive(2) == [b"one", b"two"]
    pair.client.sendall(b"ee\n")
    assert pair.receive() == [b"three"]
    pair.connection.send({"return": 1})
    pair.connection.send({"exception": "é"})
    assert select.select([pair.client], [], [], 0)[0] == []  # nothing before flush
    pair.connection.flush()
    assert pair.client_file.readline() == b'{"return":1}\n'
    assert pair.client_file.readline() == b'{"exception":"\\u00e9"}\n'


def test_receive_without_input_does_not_block(pair: Pair) -> None:
    pair.connection.receive()
    assert pair.connection.next_line() is None
    assert not pair.connection.at_end


def test_end_of_input_leaves_lines_and_output_alone(pair: Pair) -> None:
    pair.client.sendall(b"one\npart")
    pair.client.shutdown(socket.SHUT_WR)
    assert pair.receive() == [b"one"]
    pair.receive_until(lambda: pair.connection.at_end)
    assert pair.connection.events == 0
    pair.connection.send(1)
    pair.connection.flush()
    assert pair.client_file.readline() == b"1\n"


def test_a_line_too_long(pair: Pair) -> None:
    pair.client.sendall(b"one\n" + b"x" * 70_000)
    pair.receive_until(pair.connection.has_line)
    assert pair.connection.next_line() == b"one"
    with pytest.raises(LineTooLongError):
        pair.receive()


def test_a_broken_connection_is_an_error(pair: Pair) -> None:
    pair.connection.send("never read")
    pair.connection.flush()
    pair.client_file.close()
    pair.client.close()  # with unread input: this resets the connection

    def broken() -> bool:
        try:
            pair.connection.receive()
        except OSError:
            return True
        return False

    wait_until(broken)


def test_pollout_is_asked_for_only_while_something_waits(pair: Pair) -> None:
    assert pair.connection.events == select.POLLIN
    sent = pair.clog()
    assert pair.connection.events == select.POLLIN | select.POLLOUT
    for _ in range(sent):
        assert pair.read_message() == {"return": "x" * 1000}
    assert pair.connection.output_bytes == 0
    assert pair.connection.events == select.POLLIN


def test_no_more_input_is_asked_for_while_lines_wait(pair: Pair) -> None:
    pair.client.sendall(b"a\nb\n")
    pair.receive_until(pair.connection.has_line)
    assert pair.connection.events == 0


def test_output_for_a_client_that_does_not_read_is_bounded(pair: Pair) -> None:
    pair.clog()
    while pair.connection.output_bytes + 2000 < LIMIT:
        pair.connection.send("x" * 1000)
    with pytest.raises(OutputFullError, match=f"more than {LIMIT} may not"):
        pair.connection.send("x" * 2000)
    assert pair.connection.output_bytes <= LIMIT


def test_a_client_that_reads_may_be_sent_any_amount_at_once(pair: Pair) -> None:
    for _ in range(10):
        pair.connection.send("x" * (LIMIT // 2))
    for _ in range(10):
        assert pair.read_message() == "x" * (LIMIT // 2)


def test_one_reply_may_be_longer_than_the_bound(pair: Pair) -> None:
    pair.connection.send("x" * (3 * LIMIT))
    assert not pair.connection.is_blocked
    pair.connection.flush()
    wait_until(lambda: pair.connection.is_blocked)
    assert pair.connection.events == select.POLLOUT
    assert pair.read_message() == "x" * (3 * LIMIT)
    assert not pair.connection.is_blocked


def test_notifications_for_a_slow_client_merge_and_none_is_lost(pair: Pair) -> None:
    sent = pair.clog()
    for change in (3, 1, 2, 3):
        pair.connection.notify("jobs_changed", [change])
        pair.connection.flush()
    pair.connection.notify("machines_changed", ["b", "a"])
    pair.connection.send("later")
    for _ in range(sent):
        pair.read_message()
    assert pair.read_message() == "later"
    assert pair.read_message() == {"jobs_changed": [3, 1, 2]}
    assert pair.read_message() == {"machines_changed": ["b", "a"]}
    assert not pair.connection.has_output


def test_changes_can_be_forgotten(pair: Pair) -> None:
    pair.connection.notify("jobs_changed", [1, 2, 3])
    pair.connection.notify("machines_changed", ["a"])
    pair.connection.forget_changes("jobs_changed", 2)
    pair.connection.forget_changes("jobs_changed", 2)
    pair.connection.forget_changes("machines_changed")
    pair.connection.forget_changes("unknown")
    assert pair.read_message() == {"jobs_changed": [1, 3]}
    assert not pair.connection.has_output
    pair.connection.notify("jobs_changed", [1])
    pair.connection.forget_changes("jobs_changed", 1)
    assert not pair.connection.has_output
    pair.connection.flush()
    assert pair.connection.output_bytes == 0


def test_changes_that_wait_are_bounded(pair: Pair) -> None:
    pair.clog()
    with pytest.raises(OutputFullError):
        pair.connection.notify("jobs_changed", range(LIMIT))


def test_nothing_comes_in_between_the_pieces_of_a_long_reply(pair: Pair) -> None:
    connection = pair.connection
    connection.begin_reply(LongReply(iter([b'"a', b"b", b'c"\n']), 0))
    for number in range(3):
        assert connection.is_busy
        connection.go_on_with_reply()
        connection.notify("jobs_changed", [number], b"not now")
        connection.flush()
        assert connection.events == 0
    connection.go_on_with_reply()
    assert not connection.is_busy
    assert pair.read_message() == "abc"
    assert pair.read_message() == {"jobs_changed": [0, 1, 2]}
    assert connection.events == select.POLLIN


def test_no_more_of_a_long_reply_is_made_than_there_is_room_for(pair: Pair) -> None:
    connection = pair.connection
    made = 0

    def pieces() -> Iterator[bytes]:
        nonlocal made
        yield b'"'
        for _ in range(10_000):
            made += 1
            yield b"x" * 1000
        yield b'"\n'

    connection.begin_reply(LongReply(pieces(), 0))
    most = 0
    for _ in range(20_000):
        connection.go_on_with_reply()
        connection.flush()
        most = max(most, connection.output_bytes)
    assert made < 10_000
    assert most <= LONG_REPLY_BYTES + 1000
    assert connection.is_busy
    assert not connection.has_room
    assert connection.events == select.POLLOUT
    # A client that begins to read gets all of it.
    reader = threading.Thread(target=pair.client_file.readline, daemon=True)
    reader.start()
    while connection.is_busy or connection.has_output:
        connection.go_on_with_reply() if connection.is_busy else None
        connection.flush()
    reader.join(10)
    assert not reader.is_alive()
    assert made == 10_000


def test_a_notification_that_is_encoded_already_goes_as_it_is(pair: Pair) -> None:
    pair.connection.notify("jobs_changed", [1, 2], b'{"jobs_changed":[1,2]}\n')
    pair.connection.send("later")
    assert pair.read_message() == {"jobs_changed": [1, 2]}
    assert pair.read_message() == "later"


def test_encoded_notifications_for_a_slow_client_merge_too(pair: Pair) -> None:
    sent = pair.clog()
    pair.connection.notify("jobs_changed", [1], b'{"jobs_changed":[1]}\n')
    pair.connection.notify("jobs_changed", [1, 2], b'{"jobs_changed":[1,2]}\n')
    for _ in range(sent):
        pair.read_message()
    assert pair.read_message() == {"jobs_changed": [1, 2]}
    assert not pair.connection.has_output


def test_a_connection_is_quiet_while_it_waits_for_input_only(pair: Pair) -> None:
    assert pair.connection.is_quiet()
    pair.connection.send("x")
    assert not pair.connection.is_quiet()
    assert pair.read_message() == "x"
    assert pair.connection.is_quiet()
    pair.connection.begin_reply(LongReply(iter([]), 0))
    assert not pair.connection.is_quiet()
    pair.connection.go_on_with_reply()
    pair.client.sendall(b"a\n")
    wait_until(lambda: select.select([pair.connection], [], [], 0)[0])
    pair.connection.receive()
    assert pair.connection.has_line()
    assert not pair.connection.is_quiet()


def test_closing_does_not_destroy_what_was_sent(pair: Pair) -> None:
    pair.client.sendall(b"never handled\n" * 100)
    wait_until(lambda: select.select([pair.connection], [], [], 0)[0])
    pair.connection.send("the reply")
    pair.connection.flush()
    pair.connection.close()
    assert pair.client_file.readline() == b'"the reply"\n'
    assert pair.client_file.readline() == b""
