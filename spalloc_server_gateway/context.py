"""What all handlers of requests need: who asks, and how to answer."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from aiohttp import web
from yarl import URL

from spalloc_server_gateway.jobs import Jobs
from spalloc_server_gateway.link import Link
from spalloc_server_gateway.logins import Logins
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.sessions import Session, Sessions

COOKIE: Final = "JSESSIONID"
CSRF_HEADER: Final = "X-CSRF-TOKEN"

MAX_BODY: Final = 64 * 1024
"""The most bytes of a body, where it is not the contents of memory."""

SERVICE: Final = "srv/spalloc"
"""The path of the service below the base that users are told."""

PREFIXES: Final = ("", "spalloc")
"""The bases under which all is served, whatever the front end makes of paths."""

_HOST = re.compile(r"([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
_NUMBER = re.compile("[0-9]{1,20}")

Parts = tuple[str, ...]
"""A path, cut at its slashes, without empty pieces."""


@dataclass
class Gateway:
    """The gateway, for its handlers."""

    link: Link
    jobs: Jobs
    sessions: Sessions
    logins: Logins
    public_url: URL | None = None
    """Where users see it, if that is not where it is asked."""

    @property
    def is_secure(self) -> bool:
        """Do users reach it by HTTPS?"""
        return self.public_url is None or self.public_url.scheme == "https"


class Asking(NamedTuple):
    """A request, and what is known of it."""

    request: web.Request
    gateway: Gateway
    prefix: str
    """What was before the path: "" or a base without slashes at its ends."""
    host: str
    """The IP address that it comes from."""
    session: Session | None

    @property
    def patience(self) -> Patience:
        """How long is waited."""
        return self.gateway.jobs.patience

    @property
    def user(self) -> str:
        """Who asks; only where there is a session."""
        assert self.session is not None
        return self.session.user

    @property
    def cookie(self) -> str:
        """The cookie of the session; only where there is one."""
        assert self.session is not None
        return self.session.cookie

    @property
    def base(self) -> str:
        """The URL that paths are relative to, without a slash at its end."""
        public = self.gateway.public_url
        if public is not None:
            return str(public).rstrip("/")
        host = self.request.host
        try:
            if not _HOST.fullmatch(host):
                raise ValueError(host)
            url = URL.build(scheme="https", authority=host)
        except ValueError:
            raise web.HTTPBadRequest(text="this is no Host\n") from None
        return str(url).rstrip("/") + (f"/{self.prefix}" if self.prefix else "")

    @property
    def service(self) -> str:
        """The URL of the service, without a slash at its end."""
        return f"{self.base}/{SERVICE}"

    def job_url(self, job_id: int) -> str:
        """The URL of a job."""
        return f"{self.service}/jobs/{job_id}"

    def machine_url(self, name: str) -> str:
        """The URL of a machine."""
        return f"{self.service}/machines/{quote(name, safe='')}"

    def proxy_url(self, job_id: int) -> str:
        """The URL of the WebSocket to a job's boards."""
        return f"ws{self.base.removeprefix('http')}/proxy/{job_id}"

    def flag(self, name: str) -> bool:
        """Is a parameter of the query true?"""
        return self.request.query.get(name, "").lower() == "true"

    def numbers(self, *names: str) -> list[int]:
        """Parameters of the query that have to be whole numbers.

        :raises HTTPBadRequest: if they are not
        """
        values = [whole_number(self.request.query.get(name, "")) for name in names]
        found = [value for value in values if value is not None and value < 2**32]
        if len(found) < len(names):
            raise web.HTTPBadRequest(
                text=f"{', '.join(names)} must be given as whole numbers\n"
            )
        return found


def whole_number(text: str) -> int | None:
    """The number that is written there, without any sign; None if it is none."""
    return int(text) if _NUMBER.fullmatch(text) else None


async def read_body(asking: Asking, limit: int = MAX_BODY) -> bytes:
    """Read the body of a request that may not be long, nor slow.

    :raises HTTPException: if it is
    """
    request = asking.request
    if (request.content_length or 0) > limit:
        raise web.HTTPRequestEntityTooLarge(limit, request.content_length or 0)
    body = bytearray()

    async def read() -> None:
        async for piece in request.content.iter_any():
            body.extend(piece)
            if len(body) > limit:
                raise web.HTTPRequestEntityTooLarge(limit, len(body))

    try:
        await asyncio.wait_for(read(), asking.patience.body)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(text="the body took too long\n") from None
    return bytes(body)


async def read_json(asking: Asking) -> Any:
    """Read a body that has to be JSON.

    :raises HTTPBadRequest: if it is not
    """
    body = await read_body(asking)
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise web.HTTPBadRequest(text="the body must be JSON\n") from None


def json_response(
    document: Any, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A reply of JSON."""
    return web.Response(
        body=json.dumps(document).encode(),
        status=status,
        content_type="application/json",
        headers=headers,
    )
