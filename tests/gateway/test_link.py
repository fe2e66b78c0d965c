"""The connection to the server, against servers that do as they are told."""

import asyncio
import contextlib
import inspect
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from spalloc_server_gateway.jobs import Jobs
from spalloc_server_gateway.link import AwayError, Link
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.wishes import Wish

Answer = Callable[[dict[str, Any]], Any]


def nothing(_command: dict[str, Any]) -> Any:
    return None


class Script:
    """A server that answers commands as it is told, or breaks the connection."""

    def __init__(self) -> None:
        self.commands: list[dict[str, Any]] = []
        self.answers: dict[str, Answer] = {
            "speak_for_others": lambda command: None if command["args"] else "c"
        }

    async def serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        with contextlib.suppress(ConnectionError):
            while line := await reader.readline():
                command = json.loads(line)
                self.commands.append(command)
                answer = self.answers.get(command["command"], nothing)
                try:
                    result = answer(command)
                    if inspect.isawaitable(result):
                        result = await result
                    reply = {"return": result}
                except EOFError:
                    break
                except LookupError:
                    continue  # no answer at all
                writer.write(json.dumps(reply).encode() + b"\n")
        writer.close()


def never(_command: dict[str, Any]) -> Any:
    raise LookupError


@contextlib.asynccontextmanager
async def linked(script: Script, tmp_path: Path) -> AsyncIterator[Link]:
    secret = tmp_path / "secret"
    secret.write_text("s" * 32)
    os.chmod(secret, 0o600)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    link = Link("127.0.0.1", server.sockets[0].getsockname()[1], str(secret))
    running = asyncio.create_task(link.run())
    try:
        yield link
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        server.close()


def test_a_job_is_not_created_twice(tmp_path: Path) -> None:
    """The connection breaks when the job is there, before its number has come."""
    script = Script()
    jobs: list[dict[str, Any]] = []

    def create(command: dict[str, Any]) -> int:
        job_id = 40 + len(jobs)
        jobs.append(
            {
                **command["kwargs"],
                "job_id": job_id,
                "state": 1,
                "start_time": 1e9 + job_id,
                "boards": None,
                "power": None,
            }
        )
        if len(jobs) == 2:
            raise EOFError
        return job_id

    script.answers["create_job"] = create
    script.answers["list_jobs"] = lambda _: jobs
    script.answers["describe_job"] = lambda command: jobs[command["args"][0] - 40]

    async def run() -> list[int]:
        async with linked(script, tmp_path) as link:
            mine = Jobs(link)
            wish = Wish([], {"keepalive": 120.0})
            return [
                (await mine.create("me", "127.0.0.1", wish))["job_id"] for _ in range(3)
            ]

    assert asyncio.run(run()) == [40, 41, 42]
    assert len(jobs) == 3


def test_a_job_that_was_not_created_is_created(tmp_path: Path) -> None:
    script = Script()
    asked: list[dict[str, Any]] = []

    def create(command: dict[str, Any]) -> int:
        asked.append(command)
        if len(asked) == 1:
            raise EOFError
        return 7

    job = {"owner": "me", "state": 1, "start_time": 1e9, "keepalive": 1.0}
    script.answers["create_job"] = create
    script.answers["list_jobs"] = lambda _: [{**job, "job_id": 3}]
    script.answers["describe_job"] = lambda _: job

    async def run() -> int:
        async with linked(script, tmp_path) as link:
            created = await Jobs(link).create(
                "me", "127.0.0.1", Wish([], {"keepalive": 120.0})
            )
            job_id: int = created["job_id"]
            return job_id

    assert asyncio.run(run()) == 7
    assert len(asked) == 2


def test_a_job_of_which_nobody_was_told_ends(tmp_path: Path) -> None:
    """The server creates it, but too late, or its client has gone meanwhile."""
    script = Script()
    jobs: dict[int, dict[str, Any]] = {}

    async def create(command: dict[str, Any]) -> int:
        await asyncio.sleep(0.3)
        job_id = len(jobs) + 7
        jobs[job_id] = {**command["kwargs"], "job_id": job_id}
        return job_id

    script.answers["create_job"] = create
    script.answers["list_jobs"] = lambda _: list(jobs.values())
    ended: list[Any] = []
    script.answers["destroy_job"] = lambda command: ended.append(
        jobs.pop(command["args"][0])
    )

    async def run() -> None:
        async with linked(script, tmp_path) as link:
            mine = Jobs(link, Patience(create=0.2))
            wish = Wish([], {"keepalive": 120.0})
            jobs[1] = {"owner": "me", "keepalive": 120.0, "job_id": 1}
            with pytest.raises(AwayError):
                await mine.create("me", "127.0.0.1", wish)
            assert len(jobs) == 1
            while len(ended) < 1:
                await asyncio.sleep(0.01)
            gone = asyncio.create_task(mine.create("me", "127.0.0.1", wish))
            while [c["command"] for c in script.commands].count("create_job") < 2:
                await asyncio.sleep(0.01)
            gone.cancel()
            while len(ended) < 2:
                await asyncio.sleep(0.01)
            assert jobs.keys() == {1}

    asyncio.run(asyncio.wait_for(run(), 20))


def test_keepalives_are_owed_until_they_have_been_sent(tmp_path: Path) -> None:
    """The server goes once more while they are being made up for."""
    script = Script()
    heard: list[int] = []

    def keepalive(command: dict[str, Any]) -> None:
        heard.append(command["args"][0])
        if heard == [1]:
            raise EOFError

    job = {"owner": "me", "state": 3, "start_time": 1e9}
    script.answers["describe_job"] = lambda _: job
    script.answers["job_keepalive"] = keepalive

    async def run() -> None:
        async with linked(script, tmp_path) as link:
            jobs = Jobs(link)
            # There is no connection yet. Others keep it alive too, in vain.
            for job_id in (1, 2, 3):
                for user in ("me", "you"):
                    await jobs.keep_alive(user, "192.0.2.1", job_id)
            while jobs.late_keepalives < 3:
                await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 20))
    assert heard == [1, 1, 2, 3]


def test_a_server_that_does_not_answer_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("spalloc_server_gateway.link.PROBE_SECONDS", 0.05)
    monkeypatch.setattr("spalloc_server_gateway.link.SILENCE_SECONDS", 0.3)
    script = Script()
    script.answers["list_jobs"] = never

    async def run() -> int:
        async with linked(script, tmp_path) as link:
            with pytest.raises(AwayError, match="does not answer"):
                await link.call("list_jobs", patience=0.1)
            while link.connections < 2:
                await asyncio.sleep(0.01)
            assert await link.call("version", patience=5) is None
            connections: int = link.connections
            return connections

    assert asyncio.run(asyncio.wait_for(run(), 20)) >= 2


def test_replies_stay_with_their_commands_when_some_are_not_waited_for(
    tmp_path: Path,
) -> None:
    script = Script()
    script.answers["echo"] = lambda command: command["args"]

    async def run() -> None:
        async with linked(script, tmp_path) as link:
            await link.call("version", patience=5)

            async def ask(number: int) -> None:
                call = asyncio.create_task(link.call("echo", number, patience=5))
                await asyncio.sleep(0)
                if number % 3 == 0:
                    call.cancel()
                else:
                    assert await call == [number]

            await asyncio.gather(*(ask(number) for number in range(300)))

    asyncio.run(asyncio.wait_for(run(), 20))
