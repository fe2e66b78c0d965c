"""Whose password is checked next, and whose not at all."""

import asyncio
import threading
from collections.abc import Awaitable

import pytest

from spalloc_server_gateway.password_checks import PasswordChecks, TooManyError

HOST = "192.0.2.1"


def run(work: Awaitable[None]) -> None:
    async def within_time() -> None:
        await asyncio.wait_for(work, 20)

    asyncio.run(within_time())


class Desk:
    """Checks that note when they are made, after a first one that takes its time."""

    def __init__(self, limit: int = 100) -> None:
        self.checks = PasswordChecks(limit)
        self.done: list[str] = []
        self.go_on = threading.Event()

    async def begin(self) -> None:
        """Begin with a check that lasts until `go_on` is set."""
        first = self.checks.check("first", 9, self.go_on.wait)
        self.first = asyncio.create_task(first)
        await asyncio.sleep(0.01)

    async def ask(self, host: str, limit: int = 100) -> asyncio.Task[bool]:
        def is_right() -> bool:
            self.done.append(host)
            return True

        task = asyncio.create_task(self.checks.check(host, limit, is_right))
        await asyncio.sleep(0)
        return task

    async def finish(self, *tasks: asyncio.Task[bool]) -> int:
        """Wait for all of them; gives how many were refused."""
        self.go_on.set()
        results = await asyncio.gather(self.first, *tasks, return_exceptions=True)
        self.checks.close()
        refused = sum(isinstance(result, TooManyError) for result in results)
        assert results.count(True) == len(results) - refused
        return refused


def test_hosts_take_turns() -> None:
    async def turns() -> None:
        desk = Desk()
        await desk.begin()
        hosts = ["many"] * 5 + ["two", "one", "two"]
        assert await desk.finish(*[await desk.ask(host) for host in hosts]) == 0
        assert desk.done == ["many", "two", "one", "many", "two", *["many"] * 3]

    run(turns())


def test_those_with_the_most_are_refused_first() -> None:
    async def refuse() -> None:
        desk = Desk(limit=4)
        await desk.begin()
        hosts = ["many"] * 8 + ["two", "one", "two"]
        assert await desk.finish(*[await desk.ask(host) for host in hosts]) == 7
        assert desk.done == ["many", "two", "one", "many"]

    run(refuse())


def test_each_host_has_a_limit() -> None:
    async def limit() -> None:
        desk = Desk()
        await desk.begin()
        tasks = [await desk.ask(HOST, 2) for _ in range(6)]
        tasks.append(await desk.ask("other", 2))
        assert await desk.finish(*tasks) == 4
        assert desk.done == [HOST, "other", HOST]

    run(limit())


def test_what_fails_or_is_given_up_keeps_nobody_waiting() -> None:
    async def fail() -> None:
        desk = Desk()
        await desk.begin()

        def broken() -> bool:
            raise MemoryError("too dear")

        failing = asyncio.create_task(desk.checks.check(HOST, 9, broken))
        tasks = [await desk.ask(HOST) for _ in range(3)]
        tasks.pop(1).cancel()
        assert await desk.finish(*tasks) == 0
        with pytest.raises(MemoryError, match="too dear"):
            await failing
        assert desk.done == [HOST] * 2

    run(fail())
