"""Checks names and passwords, and makes guessing slow."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import secrets
from collections import OrderedDict
from typing import Final
from urllib.parse import unquote

from spalloc_server_gateway.password_checks import PasswordChecks, TooManyError
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.users import (
    LONGEST_NAME,
    LONGEST_PASSWORD,
    NOBODY,
    Password,
    Users,
    UsersError,
    check_name,
    is_name,
)

logger = logging.getLogger(__name__)

NAMELESS: Final = "anonymous"
"""The user who gives no name, where none is needed."""

FIRST_DELAY: Final = 0.5
"""After how many seconds a failure is answered; twice as many after each, up to what
there is patience for."""

MAX_REMEMBERED: Final = 10_000
"""Of how many hosts and names it is known how often they have failed."""

MAX_KNOWN: Final = 1000
"""How many logins that were right need no check when they come again."""

MAX_WAITING: Final = 64
"""How many passwords of one host may wait to be checked."""

MAX_WAITING_AFTER_FAILURE: Final = 8
"""The same for a host of which the last one has failed."""


class LoginError(Exception):
    """Nobody is logged in; the message is for the user.

    :param status: of HTTP
    """

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class Logins:
    """Decides who somebody is. For one event loop."""

    def __init__(self, users: Users | None, patience: Patience | None = None) -> None:
        """Check against the passwords of users.

        :param users: None to take any name, or none
        :param patience: how long is waited
        """
        self._patience = patience or Patience()
        self._users = users
        self._checks = PasswordChecks()
        # Scripts log in again and again. Nothing is kept from which passwords could be
        # found in another process.
        self._secret = secrets.token_bytes(32)
        self._known: OrderedDict[bytes, None] = OrderedDict()
        self._failures: OrderedDict[str, int] = OrderedDict()
        self.failed = 0
        """How many logins have failed."""
        self.succeeded = 0

    @property
    def is_open(self) -> bool:
        """Is no password needed?"""
        return self._users is None

    def close(self) -> None:
        """Check nothing more."""
        self._checks.close()

    async def log_in(self, host: str, name: str | None, password: str | None) -> str:
        """Log somebody in.

        :param host: the address that it comes from
        :return: the user's name
        :raises LoginError: if that is nobody, after a while
        """
        name = self._as_meant(name)
        if self._users is None:
            try:
                user = check_name(name) if name else NAMELESS
            except UsersError as e:
                raise LoginError(str(e)) from None
            self.succeeded += 1
            return user
        if not name or not password:
            self.failed += 1
            raise LoginError("a user name and a password are needed")
        kept = self._users.find(name) or NOBODY
        if len(password) > LONGEST_PASSWORD or not await self._is_right(
            host, name, password, kept
        ):
            await self._fail(host, name)
        for what in _counted(host, name):
            self._failures.pop(what, None)
        self.succeeded += 1
        return name

    def _as_meant(self, name: str | None) -> str | None:
        """A name as it is, or as it was before it was made part of a URL.

        Released clients take it from the URL as it stands there.
        """
        if not name or "%" not in name:
            return name
        if self._users is not None and self._users.find(name) is not None:
            return name
        plain = unquote(name)
        return plain if is_name(plain) else name

    async def _is_right(
        self, host: str, name: str, password: str, kept: Password
    ) -> bool:
        """Is this the password?

        :raises LoginError: if it cannot be checked now
        """
        login = f"{kept}\n{name}\n{password}".encode("utf-8", "replace")
        key = hmac.new(self._secret, login, hashlib.sha256).digest()
        if key not in self._known:
            has_failed = f"host {host}" in self._failures
            limit = MAX_WAITING_AFTER_FAILURE if has_failed else MAX_WAITING
            try:
                is_right = await self._checks.check(
                    host,
                    limit,
                    # It may have been found out while this one waited.
                    lambda: key in self._known or kept.is_for(password),
                )
            except TooManyError:
                self.failed += 1
                raise LoginError(
                    "too many logins at once, try again later", 429
                ) from None
            if not is_right:
                return False
        self._known[key] = None
        self._known.move_to_end(key)
        if len(self._known) > MAX_KNOWN:
            self._known.popitem(last=False)
        return True

    async def _fail(self, host: str, name: str) -> None:
        """Answer a failure, after a while: others have their turns meanwhile.

        :raises LoginError: always
        """
        self.failed += 1
        times = 0
        for what in _counted(host, name):
            times = max(times, self._failures.get(what, 0))
            self._failures[what] = self._failures.pop(what, 0) + 1
            if len(self._failures) > MAX_REMEMBERED:
                self._failures.popitem(last=False)
        if not times & (times + 1):  # not for each of thousands
            logger.warning("Login from %s failed %d times", host, times + 1)
        delay = FIRST_DELAY * 2 ** min(times, 10)
        await asyncio.sleep(min(delay, self._patience.failure))
        raise LoginError("the user name or the password is wrong")


def _counted(host: str, name: str) -> tuple[str, str]:
    """What failures are counted by."""
    return f"host {host}", f"user {name[:LONGEST_NAME]}"
