"""What is served, at which paths. Nothing can be changed through it."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from aiohttp import web
from aiohttp.typedefs import Middleware
from prometheus_client import CONTENT_TYPE_LATEST

from spalloc_server.history.database import EventDatabase
from spalloc_server.history.load import ALL, SPANS, LoadHistory
from spalloc_server.history.waiting_times import WaitingTimes
from spalloc_server.observe.observer import Observed
from spalloc_server.web.encoding import encode
from spalloc_server.web.feed import Feed
from spalloc_server.web.geometry import geometry_document
from spalloc_server.web.metrics import metrics_text
from spalloc_server.web.pages import page_routes
from spalloc_server.web.snapshot import (
    Snapshot,
    State,
    job_document,
    job_documents,
    machine_documents,
    to_state,
)

Result = TypeVar("Result")

LONGEST_TURN: Final = 15.0
"""Seconds without a turn of the loop after which the server counts as ill."""

MAX_ENDED_JOBS: Final = 1000
"""How many ended jobs can be asked for at once."""

HEADERS: Final[Mapping[str, str]] = {
    # Whatever a page shows, nothing is loaded from elsewhere, and nothing runs that
    # is not a file of ours.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; "
    "style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}

SERVER: Final = web.AppKey("server", Observed)
FEED: Final = web.AppKey("feed", Feed)
TIMES: Final = web.AppKey("times", WaitingTimes)
HISTORIES: Final = web.AppKey("histories", EventDatabase)
LOAD: Final = web.AppKey("load", LoadHistory)


def make_app(
    server: Observed,
    feed: Feed,
    times: WaitingTimes,
    histories: EventDatabase,
    load: LoadHistory,
    guards: Sequence[Middleware] = (),
) -> web.Application:
    """The application, for the event loop of the web thread.

    :param guards: middlewares that requests go through before anything else is done
    """
    app = web.Application(middlewares=[_add_headers, *guards])
    app[SERVER] = server
    app[FEED] = feed
    app[TIMES] = times
    app[HISTORIES] = histories
    app[LOAD] = load
    app[LATEST] = _Latest()
    app.add_routes(
        [
            *page_routes(),
            web.get("/healthz", health),
            web.get("/metrics", metrics),
            web.get("/events", events, allow_head=False),
            web.get("/api/geometry", geometry),
            web.get("/api/machines", machines),
            web.get("/api/jobs", jobs),
            web.get("/api/jobs/{job_id:[0-9]{1,18}}", job),
            web.get("/api/jobs/{job_id:[0-9]{1,18}}/events", job_events),
            web.get("/api/ended", ended),
            web.get("/api/history", history),
        ]
    )
    return app


@web.middleware
async def _add_headers(
    request: web.Request,
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> web.StreamResponse:
    try:
        response = await handler(request)
    except TimeoutError as e:
        response = web.Response(status=503, text=f"{e}\n")
    except web.HTTPException as e:
        e.headers.update(HEADERS)
        raise
    if not response.prepared:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
    return response


def _json(document: Any) -> web.Response:
    return _json_bytes(encode(document))


def _json_bytes(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json", charset="utf-8")


async def health(request: web.Request) -> web.Response:
    """Is the server's loop turning? 200 if so, 503 if not."""
    turned_at = request.app[SERVER].stats.turned_at
    if turned_at is None:
        return web.Response(status=503, text="the loop has not turned yet\n")
    age = time.monotonic() - turned_at
    if age > LONGEST_TURN:
        return web.Response(
            status=503, text=f"the loop has not turned for {age:.0f} s\n"
        )
    return web.Response(text="ok\n")


async def metrics(request: web.Request) -> web.Response:
    """Metrics for Prometheus, also where the loop is stuck."""
    try:
        snapshot = await request.app[FEED].latest()
    except TimeoutError:
        snapshot = None
    text = metrics_text(request.app[SERVER], request.app[TIMES], snapshot)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})


async def events(request: web.Request) -> web.StreamResponse:
    """The state and its changes as server-sent events: see `.Feed`."""
    messages = request.app[FEED].messages()
    response = web.StreamResponse(
        headers={**HEADERS, "Content-Type": "text/event-stream"}
    )
    try:
        # Before anything is sent: it may fail.
        first = await anext(messages)
        with contextlib.suppress(ConnectionError):  # the page is gone
            await response.prepare(request)
            await response.write(first)
            async for message in messages:
                await response.write(message)
    finally:
        await messages.aclose()
    return response


class _Latest:
    """What was last made of the latest snapshot: it serves all who ask for that."""

    def __init__(self) -> None:
        self._snapshot: Snapshot | None = None
        self._state: State | None = None
        self._encoded: dict[Callable[[State], Any], bytes] = {}

    async def state(self, feed: Feed) -> State:
        """The state at the latest snapshot."""
        snapshot = await feed.latest()
        if self._state is None or snapshot is not self._snapshot:
            self._snapshot, self._state = snapshot, to_state(snapshot)
            self._encoded = {}
        return self._state

    async def encoded(self, feed: Feed, make: Callable[[State], Any]) -> bytes:
        """A document made of it, as JSON."""
        state = await self.state(feed)
        if make not in self._encoded:
            self._encoded[make] = encode(make(state))
        return self._encoded[make]


LATEST: Final = web.AppKey("latest", _Latest)


async def _state(request: web.Request) -> State:
    return await request.app[LATEST].state(request.app[FEED])


async def geometry(_request: web.Request) -> web.Response:
    """How boards are drawn: see `.geometry_document`."""
    return _json(geometry_document())


async def machines(request: web.Request) -> web.Response:
    """All machines with their boards: see `.machine_documents`."""
    feed, latest = request.app[FEED], request.app[LATEST]
    return _json_bytes(await latest.encoded(feed, machine_documents))


async def jobs(request: web.Request) -> web.Response:
    """All jobs that have not ended, oldest first: which is the order of the queue."""
    feed, latest = request.app[FEED], request.app[LATEST]
    return _json_bytes(await latest.encoded(feed, job_documents))


async def job(request: web.Request) -> web.Response:
    """One job: ``job`` if it has not ended, and ``events``, what happened to it."""
    job_id = int(request.match_info["job_id"])
    state = await _state(request)
    current = job_document(state, job_id) if job_id in state.jobs else None
    past = await _from_histories(request.app[HISTORIES].events_of, job_id)
    if current is None and not past:
        raise web.HTTPNotFound(text=f"nothing is known of job {job_id}\n")
    return _json({"job": current, "events": past})


async def job_events(request: web.Request) -> web.Response:
    """What happened to a job; nothing where nothing is known of it."""
    job_id = int(request.match_info["job_id"])
    return _json(await _from_histories(request.app[HISTORIES].events_of, job_id))


async def history(request: web.Request) -> web.Response:
    """The load and the waits of ``?span=day`` or ``week``; ``?machine=`` of one.

    ``machines`` has the names of those of which the load is known by themselves;
    ``load`` and ``waits`` are as `.LoadHistory` gives them.
    """
    span = SPANS.get(request.query.get("span", "day"))
    if span is None:
        raise web.HTTPBadRequest(text=f"span should be one of {', '.join(SPANS)}\n")
    machine = request.query.get("machine", ALL)
    kept = request.app[LOAD]

    def read(_: int) -> dict[str, Any]:
        return {
            "machines": kept.machines(),
            "load": kept.series(span, machine),
            "waits": kept.waits(span),
        }

    return _json(await _from_histories(read, 0))


async def ended(request: web.Request) -> web.Response:
    """The events by which the latest jobs ended; ``?limit=`` says how many."""
    try:
        limit = int(request.query.get("limit", "100"))
    except ValueError:
        raise web.HTTPBadRequest(text="limit should be a number\n") from None
    limit = max(0, min(limit, MAX_ENDED_JOBS))
    return _json(await _from_histories(request.app[HISTORIES].latest_ends, limit))


async def _from_histories(read: Callable[[int], Result], argument: int) -> Result:
    """Read from the disk, in yet another thread."""
    try:
        return await asyncio.to_thread(read, argument)
    except sqlite3.Error as e:
        raise web.HTTPServiceUnavailable(text=f"no job history: {e}\n") from None
