"""The thread that serves the web pages, as an observer of the server."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Final

from spalloc_server.history.database import EventDatabase
from spalloc_server.history.load import LoadHistory
from spalloc_server.history.waiting_times import WaitingTimes
from spalloc_server.observe.observer import Observed, Observer
from spalloc_server.web.app import make_app
from spalloc_server.web.complaints import Complaints
from spalloc_server.web.connections import Connections
from spalloc_server.web.feed import Feed
from spalloc_server.web.guard import Guard
from spalloc_server.web.hosts import ServedHosts
from spalloc_server.web.pace import Pace
from spalloc_server.web.runner import set_up_runner
from spalloc_server.web.sampler import Sampler
from spalloc_server.web.snapshot import Snapshot, snapshot_in_parts

logger = logging.getLogger(__name__)

BACKLOG: Final = 1024

SWITCH_SECONDS: Final = 0.001
"""How long one thread may keep the interpreter from others: the server's loop has to
have it back several times for one command. The default of 5 ms can be felt then.
"""

SHUTDOWN_SECONDS: Final = 1.0
"""How long those who are being served when the server stops are waited for."""


class WebObserver(Observer):
    """Serves web pages, from when the server has started until it has ended."""

    longest_wait = 5.0

    def __init__(
        self,
        address: str,
        port: int,
        times: WaitingTimes,
        histories: EventDatabase,
        load: LoadHistory,
        hosts: Iterable[str] = (),
    ) -> None:
        """Serve at an IP address and a TCP port, 0 for a free one.

        :param load: given samples while this serves
        :param hosts: further names by which the pages may be asked for, see
            `ServedHosts`
        """
        self._address = address, port
        self._hosts = tuple(hosts)
        self._times = times
        self._histories = histories
        self._load = load
        self._socket: socket.socket | None = None
        self._server: Observed | None = None
        self._thread: threading.Thread | None = None
        self._snapshot_wanted = False
        self._parts: Iterator[Snapshot | None] | None = None
        self._load_wanted = False
        self._old_interval = 0.0
        # Of the server's thread.
        self._complaints = Complaints()
        # Of the thread's event loop.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._feed: Feed | None = None
        self._sampler: Sampler | None = None
        self._end: asyncio.Event | None = None
        self._serving = threading.Event()

    def open(self) -> None:
        """Take the port."""
        host, port = self._address
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            self._socket = socket.create_server(
                self._address, family=family, backlog=BACKLOG
            )
        except (OSError, ValueError) as e:  # of which UnicodeError is a kind
            # Python adds the address, which is told already.
            reason = (getattr(e, "strerror", None) or str(e)).partition(" (while")[0]
            raise OSError(
                getattr(e, "errno", None),
                f"cannot serve HTTP on {host} port {port}: {reason}",
            ) from e

    def started(self, server: Observed) -> None:
        """Start to serve."""
        assert self._socket is not None
        self._server = server
        # Asked before the thread has it, which closes it when it fails.
        host, port = self._socket.getsockname()[:2]
        self._old_interval = sys.getswitchinterval()
        sys.setswitchinterval(min(SWITCH_SECONDS, self._old_interval))
        self._thread = threading.Thread(target=self._run, name="Web", daemon=True)
        self._thread.start()
        host = f"[{host}]" if ":" in host else host
        logger.info("Serving http://%s:%d/", host, port)

    def turned(self) -> None:
        """Take a snapshot or a sample of the load, if they are wanted."""
        if self._load_wanted:
            self._load_wanted = False
            self._measure_load()
        assert self._server is not None
        if self._parts is None and not self._snapshot_wanted:
            return
        assert self._loop is not None
        assert self._feed is not None
        deliver: Callable[[], object]
        try:
            if self._parts is None:
                self._snapshot_wanted = False
                self._parts = snapshot_in_parts(self._server.controller)
            snapshot = next(self._parts)
            if snapshot is None:
                # Clients come first, then the next part.
                self._server.wake()
                return
        except Exception as e:
            # The server goes on without its pages.
            self._complaints.note("no snapshot could be taken", exc_info=e)
            deliver = partial(self._feed.fail, "the server's state cannot be told")
        else:
            deliver = partial(self._feed.deliver, snapshot)
        self._parts = None
        # The thread may have ended by itself, with an error.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(deliver)

    def _measure_load(self) -> None:
        assert self._server is not None
        assert self._loop is not None
        assert self._sampler is not None
        try:
            load = self._server.controller.load()
        except Exception as e:
            self._complaints.note("the load cannot be measured", exc_info=e)
            return
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._sampler.deliver, load)

    def _request_load(self) -> None:
        """Have the server's loop measure the load soon. In the web thread."""
        assert self._server is not None
        self._load_wanted = True
        self._server.wake()

    def _request_snapshot(self) -> None:
        """Have the server's loop take a snapshot soon. In the web thread."""
        assert self._server is not None
        self._snapshot_wanted = True
        self._server.wake()

    def close(self) -> None:
        """Let everybody go."""
        if self._thread is not None:
            self._serving.wait()
            assert self._loop is not None
            assert self._end is not None
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self._end.set)
            self._thread.join()
            sys.setswitchinterval(self._old_interval)
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception:
            logger.exception("Unexpected error, no web pages are served any more")
            # Let nobody wait for what will not come.
            if self._socket is not None:
                self._socket.close()
        finally:
            self._serving.set()

    async def _serve(self) -> None:
        assert self._server is not None
        assert self._socket is not None
        self._loop = asyncio.get_running_loop()
        self._end = asyncio.Event()
        complaints = Complaints()
        self._feed = Feed(self._request_snapshot, complaints)
        self._sampler = Sampler(self._request_load, self._load.add, complaints)
        self._serving.set()
        hosts = ServedHosts((self._address[0], *self._hosts))
        # DNS may take its time, and pages are served meanwhile.
        threading.Thread(target=hosts.find_full_name, daemon=True).start()
        guard = Guard(hosts, Pace(), complaints)
        app = make_app(
            self._server,
            self._feed,
            self._times,
            self._histories,
            self._load,
            [guard.middleware],
        )
        runner, make_protocol = await set_up_runner(app, complaints, SHUTDOWN_SECONDS)
        guard.connections = Connections(self._socket, make_protocol, complaints)
        work = [
            asyncio.create_task(self._end.wait()),
            asyncio.create_task(self._feed.run()),
            asyncio.create_task(self._sampler.run()),
            asyncio.create_task(guard.connections.run()),
        ]
        try:
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                # None of the others ends but by an error, which is the end of all.
                task.result()
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            await runner.cleanup()
