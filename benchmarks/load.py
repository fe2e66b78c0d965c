"""Many clients at once, from one thread, at little cost for each call."""

import errno
import gc
import os
import select
import socket
import time
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeAlias

from benchmarks.servers import HOST

READ_BYTES: Final = 65536
ANSWER_SECONDS: Final = 30.0
"""How long to wait for any reply."""

Packet: TypeAlias = Sequence[bytes]
"""Commands that a client sends together."""


class Load(NamedTuple):
    """What clients saw who called again as soon as they had their replies."""

    calls: int
    """Calls answered after all clients had had their first reply."""
    seconds: float
    """How long that took."""
    latencies: list[float]
    """Seconds from each packet sent to its last reply, in order of length."""

    @property
    def calls_a_second(self) -> float:
        """Calls answered in a second, of all clients together."""
        return self.calls / self.seconds

    @property
    def longest(self) -> float:
        """The longest that a client that was connected ever waited."""
        return self.latencies[-1]

    def percentile(self, percent: float) -> float:
        """How long so many of the packets took at most."""
        last = len(self.latencies) - 1
        return self.latencies[min(last, int(len(self.latencies) * percent / 100))]


class _Caller:
    """A connection that waits for replies to the packet that it has sent."""

    def __init__(self, port: int, packet: Packet) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.fd = self.socket.fileno()
        self.packet = packet
        self.data = b"".join(packet)
        self.commands = len(packet)
        self.awaited = 0
        self.sent_at = time.perf_counter()
        code = self.socket.connect_ex((HOST, port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))


class Callers:
    """Clients that are connected, each with the packet that it sends."""

    def __init__(
        self, port: int, packets: Sequence[Packet], at_once: bool = False
    ) -> None:
        """Connect, and wait until each has had its first replies.

        :param packets: for each client the commands that it sends in one packet
        :param at_once: connect all at the same time, not one after the other
        """
        self._poll = select.epoll()
        self._callers: dict[int, _Caller] = {}
        self.longest_wait = 0.0
        """From the start of a connection to its first replies, in seconds."""
        self.unanswered = 0
        """How many had no reply in the end, and have given up."""
        if at_once:
            self._connect(port, packets)
        else:
            for packet in packets:
                self._connect(port, [packet])
            if self.unanswered:
                raise TimeoutError("the server does not answer new clients")

    def __enter__(self) -> "Callers":
        return self

    def __exit__(self, *_exception: object) -> None:
        for caller in self._callers.values():
            caller.socket.close()
        self._poll.close()

    def _connect(self, port: int, packets: Sequence[Packet]) -> None:
        """Connect clients at the same time."""
        silent: dict[int, _Caller] = {}
        for packet in packets:
            caller = _Caller(port, packet)
            silent[caller.fd] = caller
            self._poll.register(caller.fd, select.EPOLLOUT)
        deadline = time.perf_counter() + ANSWER_SECONDS
        while silent and time.perf_counter() < deadline:
            for fd, _ in self._poll.poll(1.0):
                caller = silent[fd]
                if not caller.awaited:
                    caller.socket.send(caller.data)
                    caller.awaited = caller.commands
                    self._poll.modify(fd, select.EPOLLIN)
                    continue
                reply = caller.socket.recv(READ_BYTES)
                if not reply or b'"exception"' in reply:
                    raise RuntimeError(f"the server answered {reply[:200]!r}")
                caller.awaited -= reply.count(b"\n")
                if not caller.awaited:
                    waited = time.perf_counter() - caller.sent_at
                    self.longest_wait = max(self.longest_wait, waited)
                    self._callers[fd] = silent.pop(fd)
        if silent:
            self.longest_wait = ANSWER_SECONDS
            self.unanswered += len(silent)
        for caller in silent.values():
            self._poll.unregister(caller.fd)
            caller.socket.close()

    def run(self, seconds: float) -> Load:
        """Have every client call for a time, again as soon as it has its replies."""
        callers, poll = self._callers, self._poll.poll
        read, write, clock = os.read, os.write, time.perf_counter
        latencies: list[float] = []
        calls = 0
        gc.collect()
        gc.disable()
        try:
            for caller in callers.values():
                caller.awaited = caller.commands
                caller.sent_at = clock()
                write(caller.fd, caller.data)
            start = clock()
            end = start + seconds
            now = start
            while now < end:
                for fd, _ in poll(1.0):
                    caller = callers[fd]
                    replies = read(fd, READ_BYTES).count(b"\n")
                    now = clock()
                    if not replies:
                        raise ConnectionError("the server has hung up")
                    calls += replies
                    caller.awaited -= replies
                    if not caller.awaited:
                        latencies.append(now - caller.sent_at)
                        caller.sent_at = now
                        caller.awaited = caller.commands
                        write(fd, caller.data)
            # Those who still wait have waited at least so long.
            latencies += [now - caller.sent_at for caller in callers.values()]
        finally:
            gc.enable()
        self._await_replies()
        return Load(calls, now - start, sorted(latencies))

    def _await_replies(self) -> None:
        """Take what is still due: the reference ends where clients leave before."""
        for caller in self._callers.values():
            caller.socket.settimeout(ANSWER_SECONDS)
            while caller.awaited:
                caller.awaited -= caller.socket.recv(READ_BYTES).count(b"\n")
            caller.socket.setblocking(False)
