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

MAX_LOGINS: Final = 64
"""How many logins may be under way."""

MAX_LOGINS_AFTER_FAILURE: Final = 8
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

    def __init__(self, users: Users | None) -> None:
        """Check against the passwords of users.

        :param users: None to take any name, or none
        """
        self._users = users
        # Costly and bounded: all others go on meanwhile.
        self._checks = ThreadPoolExecutor(1, "Passwords")
        self._failures: OrderedDict[str, int] = OrderedDict()
        self._under_way: Counter[str] = Counter()
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
        with self._place_of(host):
            loop = asyncio.get_running_loop()
            kept = self._users.find(name) or NOBODY
            if len(password) > LONGEST_PASSWORD or not await loop.run_in_executor(
                self._checks, kept.is_for, password
            ):
                await self._fail(host, name)
        for what in _counted(host, name):
            self._failures.pop(what, None)
        self.succeeded += 1
        return name

    async def _fail(self, host: str, name: str) -> None:
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
        await asyncio.sleep(min(delay, LONGEST_DELAY))
        raise LoginError("the user name or the password is wrong")

    @contextlib.contextmanager
    def _place_of(self, host: str) -> Iterator[None]:
        """A place for a login, for as long as it is under way."""
        has_failed = f"host {host}" in self._failures
        if self._under_way.total() >= MAX_LOGINS or (
            has_failed and self._under_way[host] >= MAX_LOGINS_AFTER_FAILURE
        ):
            self.failed += 1
            raise LoginError("too many logins at once, try again later", 429)
        self._under_way[host] += 1
        try:
            yield
        finally:
            self._under_way[host] -= 1
            if not self._under_way[host]:
                del self._under_way[host]


def _counted(host: str, name: str) -> tuple[str, str]:
    """What failures are counted by."""
    return f"host {host}", f"user {name[:LONGEST_NAME]}"
