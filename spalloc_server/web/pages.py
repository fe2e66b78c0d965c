"""The page itself: files that are the same for everybody."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

from aiohttp import web

FILES: Final[Mapping[str, str]] = {
    "index.html": "text/html",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
    **dict.fromkeys(
        (
            *("address.js", "asking.js", "dom.js", "ended.js", "history.js"),
            *("jobpage.js", "jobs.js", "machine.js", "main.js", "map.js", "model.js"),
            *("overview.js", "plot.js", "search.js", "singles.js", "summary.js"),
            *("table.js", "uplot.js", "waiting.js", "zoom.js"),
        ),
        "text/javascript",
    ),
    "uplot.css": "text/css",
    "uplot.LICENSE": "text/plain",
}
"""The files of the page, in ``static``, and their types."""

PUBLISHED: Final[Mapping[str, str]] = {
    "uplot.js": "5dd9b3281aa64b461b42d9945f6adb2649d346502b12281a9ae0d46599a80eba",
    "uplot.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
    "uplot.LICENSE": "8f989229699b4fe2f1a0432d0e9edc338a8a911e250e2d1b01ecd770a5f5b1bd",
}
"""The SHA-256 of those that are uPlot 1.6.32 (MIT licence), as npm has them:
``dist/uPlot.esm.js``, ``dist/uPlot.min.css`` and ``LICENSE`` of its package ``uplot``.
"""


def page_routes() -> list[web.RouteDef]:
    """Where the page is. Reads its files."""
    folder = resources.files("spalloc_server.web").joinpath("static")
    routes = []
    for name, content_type in FILES.items():
        path = "/" if name == "index.html" else f"/static/{name}"
        body = folder.joinpath(name).read_bytes()
        routes.append(web.get(path, _file(body, content_type)))
    return routes


def _file(
    body: bytes, content_type: str
) -> Callable[[web.Request], Awaitable[web.Response]]:
    etag = hashlib.sha256(body).hexdigest()[:16]
    # Asked for every time, so that a page and its parts are of one release.
    headers = {"ETag": f'"{etag}"', "Cache-Control": "no-cache"}

    async def serve(request: web.Request) -> web.Response:
        known = request.if_none_match
        if known is not None and any(tag.value == etag for tag in known):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=body, content_type=content_type, charset="utf-8", headers=headers
        )

    return serve
