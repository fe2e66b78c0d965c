"""The login, with the page, form and cookie that released clients look for."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs, urlsplit

from aiohttp import web

from spalloc_server_gateway.context import (
    COOKIE,
    Asking,
    Parts,
    json_response,
    read_body,
)
from spalloc_server_gateway.logins import LoginError
from spalloc_server_gateway.sessions import Session

# Clients find the token with a pattern for a line of exactly this form.
PAGE: Final = """\
<!DOCTYPE html>
<html lang="en">
<head><meta charset="utf-8"><title>Log in</title></head>
<body>
<h1>Log in to the SpiNNaker partitioning server</h1>
<form method="post" action="perform_login">
<p><label>User name <input type="text" name="username" autofocus></label></p>
<p><label>Password <input type="password" name="password"></label></p>
<input type="hidden" name="_csrf" value="{token}" />
<p><button type="submit" name="submit" value="submit">Log in</button></p>
</form>
</body>
</html>
"""


async def login_page(asking: Asking, _parts: Parts) -> web.Response:
    """Show the login page; or log in whoever has a token, where anybody may."""
    gateway = asking.gateway
    if asking.request.headers.get("Authorization", "").lower().startswith("bearer "):
        if not gateway.logins.is_open:
            return _refusal(
                LoginError("tokens are not known here: give a user name and a password")
            )
        user = await gateway.logins.log_in(asking.host, None, None)
        return _with_cookie(asking, web.Response(), gateway.sessions.begin(user))
    session = gateway.sessions.begin_login()
    page = PAGE.format(token=session.csrf_token)
    response = web.Response(text=page, content_type="text/html")
    return _with_cookie(asking, response, session)


async def perform_login(asking: Asking, _parts: Parts) -> web.Response:
    """Log in with the form of the page. Only a success sets the cookie."""
    gateway = asking.gateway
    try:
        body = await read_body(asking)
        form = parse_qs(body.decode(), max_num_fields=20)
    except ValueError:
        raise web.HTTPBadRequest(text="this is no form\n") from None

    def field(name: str) -> str | None:
        return form.get(name, [None])[0]

    cookie = asking.request.cookies.get(COOKIE, "")
    if not gateway.sessions.is_login(cookie, field("_csrf") or ""):
        return _refusal(LoginError("the login page is too old: ask for it again", 403))
    try:
        user = await gateway.logins.log_in(
            asking.host, field("username"), field("password")
        )
    except LoginError as e:
        return _refusal(e)
    response = web.Response(status=302, headers={"Location": f"{asking.service}/"})
    return _with_cookie(asking, response, gateway.sessions.begin(user))


def _refusal(error: LoginError) -> web.Response:
    return json_response({"message": str(error)}, error.status)


def _with_cookie(
    asking: Asking, response: web.Response, session: Session
) -> web.Response:
    response.set_cookie(
        COOKIE,
        session.cookie,
        path=urlsplit(asking.base).path or "/",
        httponly=True,
        secure=asking.gateway.is_secure,
        samesite="Strict",
    )
    return response
