"""WebSockets through which users reach their boards: UDP for them, packet by packet."""

from __future__ import annotations

import asyncio
import itertools
import logging
import resource
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from spalloc_server_gateway import frames
from spalloc_server_gateway.board_watch import BoardAddresses, BoardWatch
from spalloc_server_gateway.channels import Channel
from spalloc_server_gateway.context import Asking, Parts
from spalloc_server_gateway.frames import CALLS, Op
from spalloc_server_gateway.jobs import POWER, READY
from spalloc_server_gateway.link import Link
from spalloc_server_gateway.patience import Patience

logger = logging.getLogger(__name__)

MAX_WAITING_BYTES: Final = 512 * 1024
"""How much may wait for a client that does not read. More is lost."""

LOOK_SECONDS: Final = 1.0
"""How often it is looked whether a client reads, and may still do what it does."""

MAX_CHANNELS: Final = 2048
"""How many channels one WebSocket may have."""

SHARE_OF_DESCRIPTORS: Final = 2
"""One descriptor in so many may be a channel."""


@dataclass
class Counts:
    """What has been carried, by all proxies."""

    to_boards: int = 0
    from_boards: int = 0
    lost: int = 0
    channels: int = 0
    sockets: set[Proxy] = field(default_factory=set)
    handles: itertools.count[int] = field(default_factory=lambda: itertools.count(1))


class Proxies:
    """All proxies there are. For one event loop."""

    def __init__(self, link: Link, watch: BoardWatch) -> None:
        """Begin without any.

        :param link: the connection to the server
        :param watch: tells proxies of their boards
        """
        self._link = link
        self._watch = watch
        self.counts = Counts()

    async def serve(self, asking: Asking, parts: Parts) -> web.StreamResponse:
        """Carry packets between a user and the boards of a job."""
        job_id = int(parts[0])
        job = await asking.gateway.jobs.describe(asking.user, job_id)
        if job["state"] not in (POWER, READY):
            raise web.HTTPNotFound(text="the job has no boards\n")
        websocket = web.WebSocketResponse(
            heartbeat=asking.patience.heartbeat,
            max_msg_size=frames.MAX_PAYLOAD + frames.MESSAGE_TO_BYTES,
            compress=False,
        )
        if not websocket.can_prepare(asking.request):
            raise web.HTTPUpgradeRequired(text="this is a WebSocket\n")
        proxy = Proxy(
            websocket,
            asking.request.transport,
            self._link,
            self.counts,
            asking.patience,
            lambda: asking.gateway.sessions.find(asking.cookie) is not None,
        )
        self.counts.sockets.add(proxy)
        try:
            await self._watch.add(job_id, proxy, job)
            await websocket.prepare(asking.request)
            await proxy.run()
        finally:
            self._watch.remove(job_id, proxy)
            self.counts.sockets.discard(proxy)
            proxy.close_channels()
        return websocket

    async def close(self) -> None:
        """Tell all clients that the gateway ends."""
        await asyncio.gather(
            *(proxy.go_away() for proxy in list(self.counts.sockets)),
            return_exceptions=True,
        )


class Proxy:
    """One WebSocket and its channels."""

    def __init__(
        self,
        websocket: web.WebSocketResponse,
        transport: asyncio.BaseTransport | None,
        link: Link,
        counts: Counts,
        patience: Patience,
        is_allowed: Callable[[], bool],
    ) -> None:
        self._websocket = websocket
        self._transport = transport
        self._link = link
        self._counts = counts
        self._patience = patience
        self._is_allowed = is_allowed
        self._boards: BoardAddresses = {}
        self._channels: dict[int, Channel] = {}
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._sending_since: float | None = None

    # The boards

    def set_boards(self, boards: BoardAddresses) -> None:
        """Note which boards the job has. With any change its channels are closed."""
        if boards != self._boards:
            self._boards = boards
            self.close_channels()

    def close_channels(self) -> None:
        """Close all channels; the WebSocket stays open."""
        for channel in self._channels.values():
            channel.close()
        self._counts.channels -= len(self._channels)
        self._channels.clear()

    @property
    def _is_suspended(self) -> bool:
        return self._link.away_seconds > self._patience.suspend

    # From the user

    async def run(self) -> None:
        """Carry packets until the user has gone."""
        work = [
            asyncio.ensure_future(self._send()),
            asyncio.ensure_future(self._watch()),
        ]
        try:
            async for message in self._websocket:
                if message.type is WSMsgType.BINARY:
                    self._take(message.data)
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)

    async def go_away(self) -> None:
        """End it, since the gateway ends."""
        await asyncio.wait_for(self._websocket.close(code=WSCloseCode.GOING_AWAY), 2.0)

    def _take(self, frame: bytes) -> None:
        if len(frame) < frames.MESSAGE_BYTES:
            return
        op, handle = frames.words(frame, 2)
        if op == Op.MESSAGE:
            channel = self._channels.get(handle)
            if channel is None or not channel.is_bound or self._is_suspended:
                self._counts.lost += 1
            else:
                payload = memoryview(frame)[frames.MESSAGE_BYTES :]
                self._note_sent(channel.send(payload))
        elif op == Op.MESSAGE_TO:
            self._send_to(frame)
        elif op in CALLS:
            self._put(self._answer(Op(op), handle, frame))

    def _note_sent(self, is_sent: bool) -> None:
        if is_sent:
            self._counts.to_boards += 1
        else:
            self._counts.lost += 1

    def _send_to(self, frame: bytes) -> None:
        if len(frame) < frames.MESSAGE_TO_BYTES:
            return
        _, handle, x, y, port = frames.words(frame, 5)
        channel, board = self._channels.get(handle), self._boards.get((x, y))
        if (
            channel is None
            or channel.is_bound
            or board is None
            or not 1 <= port <= 65535
            or self._is_suspended
        ):
            self._counts.lost += 1
            return
        payload = frame[frames.MESSAGE_TO_BYTES :]
        self._note_sent(channel.send_to(payload, (board, port)))

    def _answer(self, op: Op, correlation: int, frame: bytes) -> bytes:
        """Do what a frame asks for; whatever it is, there is an answer."""
        if len(frame) != 4 * CALLS[op]:
            return frames.error(correlation, "the frame has a wrong length")
        try:
            if op is Op.OPEN:
                _, _, x, y, port = frames.words(frame, 5)
                return frames.reply(op, correlation, self._open(x, y, port))
            if op is Op.OPEN_UNBOUND:
                handle = self._open_unbound()
                address = self._channels[handle].address
                return frames.unbound_reply(correlation, handle, *address)
        except OSError as e:
            return frames.error(correlation, e.strerror or str(e))
        _, _, handle = frames.words(frame, 3)
        channel = self._channels.pop(handle, None)
        if channel is None:
            handle = 0
        else:
            self._counts.channels -= 1
            channel.close()
        return frames.reply(op, correlation, handle)

    def _open(self, x: int, y: int, port: int) -> int:
        """Open a channel to a board.

        :return: its handle
        :raises OSError: if it cannot be opened
        """
        self._check_room()
        board = self._boards.get((x, y))
        if board is None:
            raise OSError(f"unrecognised ethernet chip ({x}, {y})")
        if not 1 <= port <= 65535:
            raise OSError(f"port must be from 1 to 65535, not {port}")
        handle = self._next_handle()
        self._channels[handle] = Channel(
            lambda payload: self._deliver(handle, payload), to=(board, port)
        )
        self._counts.channels += 1
        return handle

    def _open_unbound(self) -> int:
        """Open a channel to all boards: see `_open`."""
        self._check_room()
        near = next(iter(self._boards.values()))
        if ":" in near:
            raise OSError("these boards have no IPv4 addresses")
        handle = self._next_handle()
        self._channels[handle] = Channel(
            lambda payload: self._deliver(handle, payload),
            near=near,
            senders=set(self._boards.values()),
        )
        self._counts.channels += 1
        return handle

    def _check_room(self) -> None:
        if not self._boards:
            raise OSError("the job has no boards any more")
        if self._is_suspended:
            raise OSError("the spalloc server cannot be reached")
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        if (
            len(self._channels) >= MAX_CHANNELS
            or self._counts.channels >= limit // SHARE_OF_DESCRIPTORS
        ):
            raise OSError("there are too many channels")

    def _next_handle(self) -> int:
        # There are never so many that one comes again while it is in use.
        return next(self._counts.handles) % 0xFFFF_FFFF + 1

    # To the user

    def _deliver(self, handle: int, payload: bytes) -> None:
        if self._is_suspended:
            self._counts.lost += 1
        elif self._put(frames.message(handle, payload)):
            self._counts.from_boards += 1

    def _put(self, frame: bytes) -> bool:
        """Have a frame sent; is there room for it?"""
        if self._waiting_bytes + len(frame) > MAX_WAITING_BYTES:
            self._counts.lost += 1
            return False
        self._waiting.append(frame)
        self._waiting_bytes += len(frame)
        self._wake.set()
        return True

    async def _send(self) -> None:
        """Send what waits, as fast as the user reads it."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                frame = self._waiting.popleft()
                self._sending_since = time.monotonic()
                try:
                    await self._websocket.send_bytes(frame)
                except (ConnectionError, RuntimeError):
                    return  # it has gone
                # What is being sent counts as waiting until the user has room for it.
                self._waiting_bytes -= len(frame)
            self._sending_since = None

    async def _watch(self) -> None:
        """Disconnect a user who does not read, or whose session is over."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            since = self._sending_since
            if since is not None and time.monotonic() - since > self._patience.deaf:
                logger.info("A user of a proxy does not read, and is disconnected")
            elif not self._is_allowed():
                logger.info("The session of a user of a proxy is over")
                self.close_channels()
            else:
                continue
            if isinstance(self._transport, asyncio.Transport):
                self._transport.abort()
            return
