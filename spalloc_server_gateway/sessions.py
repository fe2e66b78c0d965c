"""Sessions without a table: cookies that say who it is, signed with a key.

So they outlive the gateway's restarts, and any number of them costs nothing. Released
clients log in once and never again, so a session has to last as long as any of their
processes.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import struct
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from spalloc_server_gateway.users import Users

LOGIN_SECONDS: Final = 3600.0
"""How long a login page that was asked for is good for."""

SESSION_SECONDS: Final = 180 * 86400.0
"""How long a session lasts at most."""

SIGNATURE_BYTES: Final = 16
LONGEST_COOKIE: Final = 1024

# Is somebody logged in; since when (seconds since 1970); chance; the password's stamp
_HEAD = struct.Struct(">BQ8s4s")
_NO_STAMP = bytes(4)


class Session(NamedTuple):
    """Somebody who is logged in."""

    user: str
    cookie: str
    csrf_token: str


class Sessions:
    """Makes and reads cookies. Their letters are those that released clients take:
    ``A-Z0-9``, and ``a-z0-9`` for the CSRF token.
    """

    def __init__(
        self,
        key: bytes,
        users: Users | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Sign with a key.

        :param key: secret
        :param users: a session ends when its user's password changes; None where
            there are no passwords
        :param clock: gives seconds since 1970
        """
        self._key = hashlib.sha256(b"spalloc gateway sessions" + key).digest()
        self._users = users
        self._clock = clock

    def begin_login(self) -> Session:
        """Somebody is about to log in, and has no name yet."""
        return self._make(0, "", _NO_STAMP)

    def begin(self, user: str) -> Session:
        """Somebody has logged in."""
        return self._make(1, user, self._stamp(user) or _NO_STAMP)

    def is_login(self, cookie: str, csrf_token: str) -> bool:
        """Is this somebody who was shown the login page?"""
        found = self._open(cookie)
        return (
            found is not None
            and found[0] == 0
            and self._clock() - found[1] < LOGIN_SECONDS
            and self.is_token(cookie, csrf_token)
        )

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie; None if nobody is logged in with it."""
        found = self._open(cookie)
        if found is None or found[0] != 1:
            return None
        _, began, stamp, user = found
        if self._clock() - began > SESSION_SECONDS or self._stamp(user) != stamp:
            return None
        return Session(user, cookie, self._token(cookie))

    def is_token(self, cookie: str, csrf_token: str) -> bool:
        """Is this the CSRF token that goes with a cookie?"""
        return hmac.compare_digest(
            self._token(cookie).encode(), csrf_token.encode("utf-8", "replace")
        )

    def _stamp(self, user: str) -> bytes | None:
        """What of a user's password is in the cookie; None if there is no such user."""
        if self._users is None:
            return _NO_STAMP
        password = self._users.find(user)
        return None if password is None else password.stamp

    def _make(self, kind: int, user: str, stamp: bytes) -> Session:
        head = _HEAD.pack(kind, int(self._clock()), secrets.token_bytes(8), stamp)
        body = head + user.encode()
        cookie = base64.b32encode(body + self._sign(body)).decode().rstrip("=")
        return Session(user, cookie, self._token(cookie))

    def _open(self, cookie: str) -> tuple[int, int, bytes, str] | None:
        """What is in a cookie; None if it is not of our making."""
        if len(cookie) > LONGEST_COOKIE:
            return None
        try:
            signed = base64.b32decode(cookie + "=" * (-len(cookie) % 8))
        except ValueError:
            return None
        body, signature = signed[:-SIGNATURE_BYTES], signed[-SIGNATURE_BYTES:]
        if len(body) < _HEAD.size:
            return None
        if not hmac.compare_digest(self._sign(body), signature):
            return None
        kind, began, _chance, stamp = _HEAD.unpack_from(body)
        return kind, began, stamp, body[_HEAD.size :].decode()

    def _sign(self, body: bytes) -> bytes:
        return hmac.new(self._key, b"cookie" + body, hashlib.sha256).digest()[
            :SIGNATURE_BYTES
        ]

    def _token(self, cookie: str) -> str:
        message = b"token" + cookie.encode("utf-8", "replace")
        return hmac.new(self._key, message, hashlib.sha256).hexdigest()[:32]
