"""The real command line, made to die at a chosen point of what it writes.

    python -m tests.crash.kill_points [--kill POINT TIMES] -- ARGUMENTS OF THE SERVER

Boards need no time to settle, and snapshots are written much more often than usual.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.server import main as server_main
from spalloc_server.storage import database, store
from spalloc_server.storage.background import Tidying
from spalloc_server.storage.journal import Journal
from spalloc_server.storage.store import StateStore

RECORDS_BEFORE_SNAPSHOT = 15

Anything = Callable[..., Any]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Dies when it has been called so often."""

    def __init__(self, times: int) -> None:
        self._times = times

    def __call__(self) -> None:
        self._times -= 1
        if self._times == 0:
            die()


def _around(holder: Any, name: str, before: Anything, after: Anything) -> None:
    original = getattr(holder, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before()
        result = original(*args, **kwargs)
        after()
        return result

    setattr(holder, name, wrapped)


def _nothing() -> None:
    pass


def _before(holder: Any, name: str) -> Callable[[Countdown], None]:
    return lambda count: _around(holder, name, count, _nothing)


def _after(holder: Any, name: str) -> Callable[[Countdown], None]:
    return lambda count: _around(holder, name, _nothing, count)


def _in_insert(count: Countdown) -> None:
    """Within the transaction of a commit, when its row is being inserted."""
    original = database.connect

    def connect(filename: str) -> Any:
        connection = original(filename)

        def trace(statement: str) -> None:
            if "INTO commits" in statement:
                count()

        connection.set_trace_callback(trace)
        return connection

    database.connect = connect


POINTS: dict[str, Callable[[Countdown], None]] = {
    "before-commit": _before(Journal, "commit"),
    "in-commit": _in_insert,
    "after-commit": _after(Journal, "commit"),
    "after-events": _after(StateStore, "commit_events"),
    "before-snapshot": _before(StateStore, "_begin_background"),
    "after-fork": _after(StateStore, "_begin_background"),
    "before-part": _before(Journal, "write"),
    "after-part": _after(Journal, "write"),
    "before-tidying": _before(Tidying, "go_on"),
    "after-tidying": _after(Tidying, "go_on"),
}
"""How to have the process die there, by name."""


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill", nargs=2, metavar=("POINT", "TIMES"))
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    directory.set_fallback(lambda host: BMPAddress(host, settle_seconds=0.0))
    store.RECORDS_BEFORE_SNAPSHOT = (  # type: ignore[misc]
        RECORDS_BEFORE_SNAPSHOT
    )
    store.RECORDS_PER_JOB = 0  # type: ignore[misc]
    if options.kill:
        point, times = options.kill
        POINTS[point](Countdown(int(times)))
    return server_main(options.arguments)


if __name__ == "__main__":
    sys.exit(main())
