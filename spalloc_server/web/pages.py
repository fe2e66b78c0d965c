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
        ("boards.js", "dom.js", "jobs.js", "main.js", "map.js", "model.js"),
        "text/javascript",
    ),
}
"""The files of the page, in ``static``, and their types."""


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
