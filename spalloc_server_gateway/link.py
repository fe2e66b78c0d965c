"""The connection to the server: kept up, made anew, and shared by all requests."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from spalloc_server.service.gateways import proof_of
from spalloc_server.storage.secret_file import read_secret

logger = logging.getLogger(__name__)

FIRST_RETRY_SECONDS: Final = 0.05
LONGEST_RETRY_SECONDS: Final = 1.0
"""How long is waited between tries to connect, the first time and at most."""

CONNECT_SECONDS: Final = 5.0
"""How long connecting and proving may take."""

SILENCE_SECONDS: Final = 20.0
"""A server that answers nothing for so long is not there; the connection is ended."""

PROBE_SECONDS: Final = 5.0
"""How often something is asked, so that silence is noticed."""

LONGEST_LINE: Final = 256 * 1024 * 1024
"""The most that a reply may have, in bytes: a list of all jobs is long."""

MAX_PENDING: Final = 20_000
"""How many commands may wait for their replies."""


class AwayError(Exception):
    """The server cannot be reached, or does not answer in time."""


class BrokenError(AwayError):
    """The connection broke before the reply came: it is not known what was done."""


class RefusedError(Exception):
    """The server refuses a command; the message says why, for whoever wanted it."""


class _Pending(NamedTuple):
    reply: asyncio.Future[Any]
    since: float


class Link:
    """A connection to the server that comes back. For one event loop."""

    def __init__(self, host: str, port: int, secret_file: str | None) -> None:
        """Nothing is connected before `run`.

        :param host: the name or address of the server
        :param port: its TCP port
        :param secret_file: what its option ``--gateway-secret`` names, too;
            None to speak for nobody but itself
        """
        self._address = host, port
        self._secret_file = secret_file
        self._pending: deque[_Pending] = deque()
        self._writer: asyncio.StreamWriter | None = None
        self._up = asyncio.Event()
        self._lost_at = time.monotonic()
        self._problem = ""
        self.on_jobs_changed: Callable[[list[int]], object] = _nothing
        """Told which jobs have changed."""
        self.on_machines_changed: Callable[[list[str]], object] = _nothing
        """Told which machines have changed."""
        self.on_connected: Callable[[], Awaitable[object]] | None = None
        """Called when there is a connection, again or for the first time: anything may
        have changed. Commands go through meanwhile."""
        self.connections = 0
        """How often a connection was made."""

    @property
    def is_up(self) -> bool:
        """Is there a connection?"""
        return self._up.is_set()

    @property
    def away_seconds(self) -> float:
        """For how long there has been no connection; 0 while there is one."""
        return 0.0 if self.is_up else time.monotonic() - self._lost_at

    # Commands

    async def call(
        self,
        name: str,
        *args: Any,
        patience: float,
        repeat: bool = True,
        **kwargs: Any,
    ) -> Any:
        """Have the server do a command, also if it has to be waited for.

        :param patience: for how many seconds
        :param repeat: does it do no harm to do it again, where the connection has
            broken before the reply?
        :return: what the command returns
        :raises AwayError: if there was no reply in that time
        :raises BrokenError: if it may have been done, and is not to be done again
        :raises RefusedError: if the server refuses it
        """
        if self._secret_file is None:
            kwargs.pop("on_behalf_of", None)
        message = {"command": name, "args": args, "kwargs": kwargs}
        line = json.dumps(message).encode() + b"\n"
        end = time.monotonic() + patience
        while True:
            try:
                await asyncio.wait_for(self._up.wait(), end - time.monotonic())
            except asyncio.TimeoutError:
                raise AwayError("the spalloc server cannot be reached") from None
            try:
                return await asyncio.wait_for(
                    self._send(line), max(0.0, end - time.monotonic())
                )
            except asyncio.TimeoutError:
                problem = "the spalloc server does not answer"
                raise (AwayError if repeat else BrokenError)(problem) from None
            except BrokenError:
                if not repeat:
                    raise

    async def _send(self, line: bytes) -> Any:
        if self._writer is None:
            raise BrokenError("the spalloc server cannot be reached")
        if len(self._pending) >= MAX_PENDING:
            raise AwayError("the spalloc server is busy")
        reply = asyncio.get_running_loop().create_future()
        self._pending.append(_Pending(reply, time.monotonic()))
        self._writer.write(line)
        return await reply

    # The connection

    async def run(self) -> None:
        """Keep a connection up until cancelled."""
        pause = FIRST_RETRY_SECONDS
        while True:
            try:
                reader, writer = await asyncio.wait_for(
                    self._connect(), CONNECT_SECONDS
                )
            except (OSError, asyncio.TimeoutError, ValueError, EOFError) as e:
                self._note_problem(
                    getattr(e, "strerror", None) or str(e) or "it does not answer"
                )
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_RETRY_SECONDS)
                continue
            pause = FIRST_RETRY_SECONDS
            logger.info("Connected to the server at %s port %d", *self._address)
            try:
                await self._serve(reader, writer)
            finally:
                self._note_lost()
                writer.transport.abort()

    def _note_problem(self, problem: str) -> None:
        """Log why there is no connection, unless that was said already."""
        if problem != self._problem:
            self._problem = problem
            logger.warning("No server at %s port %d: %s", *self._address, problem)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect and prove to know the secret.

        :raises OSError: where that cannot be
        :raises ValueError: where the server does not accept it, or is no such server
        """
        # Read each time, so that it may be changed.
        secret = None if self._secret_file is None else read_secret(self._secret_file)
        reader, writer = await asyncio.open_connection(
            *self._address, limit=LONGEST_LINE
        )
        try:
            if secret is not None:
                challenge = await _ask(reader, writer, "speak_for_others")
                proof = proof_of(secret, challenge)
                await _ask(reader, writer, "speak_for_others", proof)
            await _ask(reader, writer, "notify_job")
            await _ask(reader, writer, "notify_machine")
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry commands and replies until the connection breaks."""
        self._writer = writer
        self._problem = ""
        self.connections += 1
        self._up.set()
        work = [
            asyncio.create_task(self._read(reader)),
            asyncio.create_task(self._watch()),
        ]
        if self.on_connected is not None:
            work.append(asyncio.create_task(_in_full(self.on_connected())))
        try:
            # The last one may end; with either of the others the connection does.
            await asyncio.wait(work[:2], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in work:
                task.cancel()
            for result in await asyncio.gather(*work, return_exceptions=True):
                if isinstance(result, Exception):
                    self._note_problem(str(result) or type(result).__name__)

    async def _read(self, reader: asyncio.StreamReader) -> None:
        while True:
            line = await reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError("the connection was closed")
            message = json.loads(line)
            if "return" in message or "exception" in message:
                pending = self._pending.popleft()
                # Whoever asked may have gone.
                if not pending.reply.done():
                    if "return" in message:
                        pending.reply.set_result(message["return"])
                    else:
                        pending.reply.set_exception(RefusedError(message["exception"]))
            elif "jobs_changed" in message:
                self.on_jobs_changed(message["jobs_changed"])
            elif "machines_changed" in message:
                self.on_machines_changed(message["machines_changed"])

    async def _watch(self) -> None:
        """End when the server is silent for too long."""
        line = b'{"command": "version", "args": [], "kwargs": {}}\n'
        while True:
            await asyncio.sleep(PROBE_SECONDS)
            if not self._pending:
                probe = asyncio.ensure_future(self._send(line))
                probe.add_done_callback(_forget)
                await asyncio.sleep(0)
            elif time.monotonic() - self._pending[0].since > SILENCE_SECONDS:
                raise ConnectionError("the server does not answer any more")

    def _note_lost(self) -> None:
        self._up.clear()
        self._lost_at = time.monotonic()
        self._writer = None
        pending, self._pending = self._pending, deque()
        for waiting in pending:
            if not waiting.reply.done():
                waiting.reply.set_exception(BrokenError("the connection has broken"))


async def _ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, name: str, *args: str
) -> Any:
    """Have a command done while there is nobody else.

    :raises ValueError: where it is refused, or the reply is none
    :raises EOFError: where there is none
    """
    message = {"command": name, "args": args, "kwargs": {}}
    writer.write(json.dumps(message).encode() + b"\n")
    while True:
        line = await reader.readline()
        if not line.endswith(b"\n"):
            raise EOFError(f"it closed the connection when asked for {name}")
        reply = json.loads(line)
        if not isinstance(reply, dict):
            raise ValueError(f"it answers {name} with what is no reply")
        if "exception" in reply:
            raise ValueError(f"it refuses {name}: {reply['exception']}")
        if "return" in reply:
            return reply["return"]


async def _in_full(work: Awaitable[object]) -> None:
    """Do something whose failure is only logged."""
    with contextlib.suppress(AwayError):
        await work


def _forget(future: asyncio.Future[Any]) -> None:
    """Take note of an outcome that nobody is interested in."""
    if not future.cancelled():
        future.exception()


def _nothing(_what: object) -> None:
    pass
