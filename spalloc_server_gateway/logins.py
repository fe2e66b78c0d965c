"""Checks names and passwords, and makes guessing slow."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from spalloc_server_gateway.users import (
    LONGEST_NAME,
    LONGEST_PASSWORD,
    NOBODY,
    Password,
    Users,
    UsersError,
    check_name,
)

logger = logging.getLogger(__name__)

NAMELESS: Final = "anonymous"
"""The user who gives no name, where none is needed."""

FIRST_DELAY: Final = 0.5
LONGEST_DELAY: Final = 6.0
"""After how many seconds a failure is answered; twice as many after each. A client
waits for 10 s."""

MAX_REMEMBERED: Final = 10_000
"""Of how many hosts and names it is known how often they have failed."""

MAX_CHECKS: Final = 64
"""How many passwords may wait to be checked."""

MAX_DELAYED_OF_HOST: Final = 8
"""How many failures of a host may wait for their answers."""


class LoginError(Exception):
    """Nobody is logged in; the message is for the user.

    :param status: of HTTP
    """

    def __init__(self, message: str, status: int = 401) -> None:
        super().__init__(message)
        self.status = status


class Logins:
    """Decides who somebody is. For one event loop."""

    def __init__(self, users: Users | None) -> None:
        """Check against the passwords of users.

        :param users: None to take any name, or none
        """
        self._users = users
        # Costly and bounded: all others go on meanwhile.
        self._checks = ThreadPoolExecutor(1, "Passwords")
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._checking = 0
        self._delayed: Counter[str] = Counter()
        self.failed = 0
        """How many logins have failed."""
        self.succeeded = 0

    @property
    def is_open(self) -> bool:
        """Is no password needed?"""
        return self._users is None

    def close(self) -> None:
        """Check nothing more."""
        self._checks.shutdown(wait=False, cancel_futures=True)

    async def log_in(self, host: str, name: str | None, password: str | None) -> str:
        """Log somebody in.

        :param host: the address that it comes from
        :return: the user's name
        :raises LoginError: if that is nobody, after a while
        """
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
        if self._checking >= MAX_CHECKS or self._delayed[host] >= MAX_DELAYED_OF_HOST:
            self.failed += 1
            raise LoginError("too many logins at once, try again later", 429)
        if not await self._check(self._users.find(name) or NOBODY, password):
            await self._fail(host, name)
        self._failures.pop(f"user {name}", None)
        self.succeeded += 1
        return name

    async def _check(self, kept: Password, password: str) -> bool:
        if len(password) > LONGEST_PASSWORD:
            return False
        self._checking += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._checks, kept.is_for, password)
        finally:
            self._checking -= 1

    async def _fail(self, host: str, name: str) -> None:
        self.failed += 1
        times = 0
        for what in (f"host {host}", f"user {name[:LONGEST_NAME]}"):
            times = max(times, self._failures.get(what, 0))
            self._failures[what] = self._failures.pop(what, 0) + 1
            if len(self._failures) > MAX_REMEMBERED:
                self._failures.popitem(last=False)
        if not times & (times + 1):  # not for each of thousands
            logger.warning("Login from %s failed %d times", host, times + 1)
        with self._delay_of(host):
            delay = FIRST_DELAY * 2 ** min(times, 10)
            await asyncio.sleep(min(delay, LONGEST_DELAY))
        raise LoginError("the user name or the password is wrong")

    @contextlib.contextmanager
    def _delay_of(self, host: str) -> Iterator[None]:
        self._delayed[host] += 1
        try:
            yield
        finally:
            self._delayed[host] -= 1
            if not self._delayed[host]:
                del self._delayed[host]
