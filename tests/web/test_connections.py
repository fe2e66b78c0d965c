"""How many connections there may be, and how long, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator, Callable

import pytest

from spalloc_server.web import connections
from spalloc_server.web.complaints import Complaints
from spalloc_server.web.connections import Connections
from tests.support import TIMEOUT


class Flood(asyncio.Protocol):
    """Sends more than anybody takes, until it may not."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        transport.write(b"x" * 50_000_000)


@contextlib.asynccontextmanager
async def serving(
    protocol: Callable[[], asyncio.Protocol],
) -> AsyncIterator[tuple[Connections, tuple[str, int]]]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        served = Connections(listening, protocol, Complaints())
        task = asyncio.create_task(served.run())
        try:
            yield served, listening.getsockname()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            for connection in list(served._open.values()):
                connection.abort()
            await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.01)

    await asyncio.wait_for(wait(), TIMEOUT)


def test_who_reads_nothing_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "DEAF_SECONDS", 0.3)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)

    async def run() -> None:
        async with serving(Flood) as (served, address):
            with socket.create_connection(address), socket.socket() as reading:
                reading.setblocking(False)
                loop = asyncio.get_running_loop()
                await loop.sock_connect(reading, address)
                await until(lambda: len(served._open) == 2)
                (reader,) = (
                    c
                    for t, c in served._open.items()
                    if t.get_extra_info("peername") == reading.getsockname()
                )
                # Whoever reads slowly is no such one.
                while len(served._open) == 2:
                    await loop.sock_recv(reading, 100_000)
                    await asyncio.sleep(0.01)
                assert list(served._open.values()) == [reader]

    asyncio.run(run())


def complained(caplog: pytest.LogCaptureFixture) -> bool:
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    return any("cannot be looked after" in r.getMessage() for r in errors)


def test_an_error_with_one_connection_leaves_the_others_looked_after(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "DEAF_SECONDS", 0.1)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.02)
    look = connections._Connection.look
    broken: list[object] = []

    def fail_with_the_first(connection: connections._Connection, now: float) -> None:
        if connection in (broken or [connection]):
            broken.append(connection)
            raise AttributeError("no such transport")
        look(connection, now)

    monkeypatch.setattr(connections._Connection, "look", fail_with_the_first)

    async def run() -> None:
        async with serving(Flood) as (served, address):
            with socket.create_connection(address):
                await until(lambda: broken)
                with socket.create_connection(address):
                    await until(lambda: len(served._open) == 2)
                    await until(lambda: len(served._open) == 1)
                assert list(served._open.values()) == [broken[0]]

    asyncio.run(run())
    assert complained(caplog)


def test_an_error_does_not_keep_others_from_being_taken_in(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.02)
    resume = Connections._resume
    failed: list[object] = []

    def fail_at_first(served: Connections) -> None:
        if len(failed) < 3:
            failed.append(served)
            raise OSError("no room for another descriptor")
        resume(served)

    monkeypatch.setattr(Connections, "_resume", fail_at_first)

    async def run() -> None:
        async with serving(asyncio.Protocol) as (served, address):
            with socket.create_connection(address):
                await until(lambda: len(served._open) == 1)

    asyncio.run(run())
    assert complained(caplog)


def test_there_is_a_limit_and_whoever_asks_nothing_makes_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 3)
    monkeypatch.setattr(connections, "GRACE_SECONDS", 0.2)
    monkeypatch.setattr(connections, "LOOK_SECONDS", 0.05)

    async def run() -> None:
        async with serving(asyncio.Protocol) as (served, address):
            with contextlib.ExitStack() as stack:
                busy = [
                    stack.enter_context(socket.create_connection(address))
                    for _ in range(2)
                ]
                await until(lambda: len(served._open) == 2)
                for transport in list(served._open):
                    served.request_began(transport)
                for _ in range(20):
                    idle = stack.enter_context(socket.create_connection(address))
                idle.sendall(b"x")

                def peers() -> set[object]:
                    assert len(served._open) <= 3
                    return {t.get_extra_info("peername") for t in served._open}

                # One after the other has its turn, but never those with a request.
                await until(lambda: idle.getsockname() in peers())
                assert {one.getsockname() for one in busy} <= peers()
                for transport in list(served._open):
                    served.request_began(transport)
                late = stack.enter_context(socket.create_connection(address))
                await until(lambda: not served._is_accepting)
                busy[0].close()
                await until(lambda: late.getsockname() in peers())

    asyncio.run(run())


def test_at_the_end_newcomers_are_left_to_the_next_who_serves_the_socket() -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            served = Connections(listening, asyncio.Protocol, Complaints())
            task = asyncio.create_task(served.run())
            address = listening.getsockname()
            with socket.create_connection(address) as first:
                await until(lambda: served._open)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                with socket.create_connection(address) as late:
                    # One that goes makes room, for nobody now.
                    first.close()
                    await until(lambda: not served._open)
                    await served.finish(0.1)
                    taken, peer = listening.accept()
                    taken.close()
                    assert peer == late.getsockname()

    asyncio.run(run())
