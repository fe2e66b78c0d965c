"""Which path leads where, and what stands before all of them."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST

from spalloc_server.web.complaints import Complaints
from spalloc_server.web.connections import Connections, max_connections
from spalloc_server_gateway import job_routes, login, machine_routes
from spalloc_server_gateway.board_watch import BoardWatch
from spalloc_server_gateway.context import (
    COOKIE,
    CSRF_HEADER,
    PREFIXES,
    SERVICE,
    Asking,
    Gateway,
    Parts,
)
from spalloc_server_gateway.jobs import NoSuchJobError
from spalloc_server_gateway.link import AwayError, RefusedError
from spalloc_server_gateway.logins import NAMELESS
from spalloc_server_gateway.machine_routes import Machines
from spalloc_server_gateway.memory import Memory
from spalloc_server_gateway.metrics import Metrics
from spalloc_server_gateway.proxy import Proxies
from spalloc_server_gateway.scp import SCPError

Handler: TypeAlias = Callable[[Asking, Parts], Awaitable[web.StreamResponse]]

HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "spalloc_server_gateway",
    "X-Content-Type-Options": "nosniff",
}

PLACES_OF_USER: Final = 2
"""One user may have one connection in so many."""

SAFE_METHODS: Final = ("GET", "HEAD")


class Route(NamedTuple):
    """A path, or several that differ in what the pattern leaves open."""

    method: str
    pattern: re.Pattern[str]
    """For the path without the base, without empty pieces, its pieces unquoted. Groups
    are handed to the handler."""
    handler: Handler
    is_open: bool
    """Is it there for those who are not logged in?"""
    has_head: bool
    """Can it be asked by HEAD, too?"""


class Router:
    """Finds the handler of a path, and answers what goes wrong in it."""

    def __init__(self, gateway: Gateway, complaints: Complaints) -> None:
        """Serve all paths of a gateway.

        :param complaints: told of what is our fault
        """
        self._gateway = gateway
        self._complaints = complaints
        self._under_way: Counter[str] = Counter()
        self._routes: list[Route] = []
        self.metrics = Metrics(gateway)
        self.connections: Connections | None = None
        """Told when requests begin and end."""
        prefixes = {*PREFIXES}
        if gateway.public_url is not None:
            prefixes.add(gateway.public_url.path.strip("/"))
        # The longest first.
        self._prefixes = sorted(prefixes, key=len, reverse=True)
        watch = BoardWatch(gateway.link, gateway.jobs)
        self.proxies = Proxies(gateway.link, watch)
        self.memory = Memory(watch)
        self._add_routes()
        self._add_counts()

    def _add_routes(self) -> None:
        machines = Machines()
        self._gateway.link.on_machines_changed = machines.forget
        self._gateway.jobs.watchers.append(
            lambda ids: machines.forget() if ids is None else None
        )
        self.add("GET", "healthz", self._health, is_open=True)
        self.add("GET", "metrics", self._tell_metrics, is_open=True)
        self.add("GET", r"system/login\.html", login.login_page, is_open=True)
        self.add("POST", "system/perform_login", login.perform_login, is_open=True)
        self.add("GET", SERVICE, machine_routes.root)
        lookup = "(logical-board|physical-board|chip|board-ip)"
        self.add("GET", f"{SERVICE}/machines", machines.list)
        self.add("GET", f"{SERVICE}/machines/(.+)/{lookup}", machine_routes.find_board)
        self.add("GET", f"{SERVICE}/machines/(.+)", machines.details)
        self.add("GET", f"{SERVICE}/jobs", job_routes.list_jobs)
        self.add("POST", f"{SERVICE}/jobs", job_routes.create_job)
        job = f"{SERVICE}/jobs/([0-9]{{1,18}})"
        for method, path, handler in (
            ("GET", "", job_routes.job_state),
            ("DELETE", "", job_routes.delete_job),
            ("PUT", "/keepalive", job_routes.keepalive),
            ("GET", "/machine", job_routes.job_machine),
            ("GET", "/machine/power", job_routes.power),
            ("POST", "/machine/power", job_routes.set_power),
            ("PUT", "/machine/power", job_routes.set_power),
            ("GET", "/chip", job_routes.job_chip),
            ("POST", "/report-issue", job_routes.report_issue),
        ):
            self.add(method, job + path, handler)
        for method, path in (
            ("GET", "fast-data-read"),
            ("POST", "fast-data-write"),
        ):
            self.add(method, f"{job}/{path}", not_implemented)

        self.add("GET", f"{job}/memory", self.memory.read, has_head=False)
        self.add("POST", f"{job}/memory", self.memory.write)
        self.add("DELETE", f"{job}/router", self.memory.reset_routing)
        self.add("GET", "proxy/([0-9]{1,18})", self.proxies.serve, has_head=False)

    def _add_counts(self) -> None:
        counts, metrics = self.proxies.counts, self.metrics
        metrics.add_gauge(
            "proxies", "WebSockets to boards", lambda: len(counts.sockets)
        )
        metrics.add_gauge("channels", "UDP sockets to boards", lambda: counts.channels)
        metrics.add_counter(
            "packets_to_boards", "Packets sent", lambda: counts.to_boards
        )
        metrics.add_counter(
            "packets_from_boards", "Packets received", lambda: counts.from_boards
        )
        metrics.add_counter("packets_lost", "Packets not carried", lambda: counts.lost)

    def add(
        self,
        method: str,
        pattern: str,
        handler: Handler,
        *,
        is_open: bool = False,
        has_head: bool = True,
    ) -> None:
        """Add a route: see `Route`. Longer patterns go before shorter ones."""
        has_head = has_head and method == "GET"
        route = Route(method, re.compile(pattern), handler, is_open, has_head)
        self._routes.append(route)
        self._routes.sort(key=lambda route: -len(route.pattern.pattern))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        transport = request.transport
        if self.connections is not None:
            self.connections.request_began(transport)
        try:
            with self.metrics.request() as done:
                response = await self._answer(request)
                done(response.status)
        finally:
            if self.connections is not None:
                self.connections.request_ended(transport)
        if not response.prepared:
            response.headers.update(HEADERS)
        return response

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        """Answer, whatever goes wrong; refusals are plain text."""
        try:
            return await self._serve(request)
        except NoSuchJobError:
            return _text(404, "there is no such job, or it is not yours")
        except AwayError as e:
            return _text(503, str(e) or "the spalloc server cannot be reached")
        except RefusedError as e:
            return _text(400, str(e))
        except SCPError as e:
            return _text(502, str(e))
        except web.HTTPException as e:
            headers = {k: v for k, v in e.headers.items() if k in _KEPT_HEADERS}
            # The rest of a body that was not read would be taken for a request.
            return web.Response(status=e.status, text=e.text, headers=headers)
        except web.RequestPayloadError:
            return _text(400, "the body is not as it should be, or not all of it came")
        except ConnectionError:
            raise  # whoever asked is gone
        except Exception as e:
            self._complaints.note("internal error", request.path, exc_info=e)
            return _text(500, "internal error")

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        pieces = [unquote(p) for p in request.rel_url.raw_path.split("/") if p]
        prefix, path = "", "/".join(pieces)
        found = self._find(request.method, path)
        for base in self._prefixes:
            if base and path.startswith(f"{base}/"):
                prefix, path = base, path.removeprefix(f"{base}/")
                found = self._find(request.method, path)
                break
        if found is None:
            return self._no_route(path)
        route, parts = found
        cookie = request.cookies.get(COOKIE, "")
        session = self._gateway.sessions.find(cookie)
        host = job_routes.host_of(request, self._gateway.public_url is not None)
        asking = Asking(request, self._gateway, prefix, host, session)
        if not route.is_open:
            if session is None:
                return web.Response(
                    status=401,
                    text="log in first, or again: your session is unknown or over\n",
                    headers={"WWW-Authenticate": 'Form realm="spalloc"'},
                )
            changes = request.method not in SAFE_METHODS
            if (changes or "Upgrade" in request.headers) and not (
                self._gateway.sessions.is_token(
                    cookie, request.headers.get(CSRF_HEADER, "")
                )
            ):
                return _text(403, f"the header {CSRF_HEADER} is missing or wrong")
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            return _text(415, "bodies must not be compressed")
        with self._place_of(asking) as has_place:
            if not has_place:
                return _text(429, "too many of your requests are under way")
            return await route.handler(asking, parts)

    @contextlib.contextmanager
    def _place_of(self, asking: Asking) -> Iterator[bool]:
        """Within, a request is under way. Has its user a place for it?

        Waits and WebSockets last long, and nobody may have all of the connections.
        """
        if asking.session is None:
            yield True
            return
        # Those without a name have nothing else in common.
        who = asking.user if asking.user != NAMELESS else f" {asking.host}"
        if self._under_way[who] >= max_connections() // PLACES_OF_USER:
            yield False
            return
        self._under_way[who] += 1
        try:
            yield True
        finally:
            self._under_way[who] -= 1
            if not self._under_way[who]:
                del self._under_way[who]

    def _find(self, method: str, path: str) -> tuple[Route, Parts] | None:
        for route in self._routes:
            match = route.pattern.fullmatch(path)
            if match is not None and (
                route.method == method or (method == "HEAD" and route.has_head)
            ):
                return route, match.groups()
        return None

    def _no_route(self, path: str) -> web.Response:
        methods = {r.method for r in self._routes if r.pattern.fullmatch(path)}
        if not methods:
            return _text(404, "there is nothing here")
        allowed = ", ".join(sorted(methods))
        response = _text(405, f"this can be asked by {allowed} only")
        response.headers["Allow"] = allowed
        return response

    async def _health(self, asking: Asking, _parts: Parts) -> web.Response:
        """Is the server there?"""
        link = asking.gateway.link
        if link.is_up:
            return web.Response(text="ok\n")
        return _text(
            503, f"the spalloc server has been away for {link.away_seconds:.0f} s"
        )

    async def _tell_metrics(self, _asking: Asking, _parts: Parts) -> web.Response:
        """Metrics for Prometheus."""
        return web.Response(
            body=self.metrics.text(), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )


async def not_implemented(asking: Asking, parts: Parts) -> web.Response:
    """What this gateway does not do."""
    await asking.gateway.jobs.describe(asking.user, int(parts[0]))
    return _text(501, "this gateway has no fast data; there is memory")


def _text(status: int, text: str) -> web.Response:
    return web.Response(status=status, text=f"{text}\n")


_KEPT_HEADERS: Final = ("Location", "Allow")
