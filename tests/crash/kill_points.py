"""The real command line, made to die at a chosen point of what it writes.

    python -m tests.crash.kill_points [--kill POINT TIMES] [--fail COMMIT]
        -- ARGUMENTS OF THE SERVER

Boards need no time to settle, and snapshots are written much more often than usual.
With ``--fail``, that commit fails, so that all state is written anew.
"""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.server import main as server_main
from spalloc_server.storage import database, journal, snapshots, store
from spalloc_server.storage.background import Tidying
from spalloc_server.storage.journal import Journal, JournalError
from spalloc_server.storage.snapshots import Snapshots
from spalloc_server.storage.store import StateStore

RECORDS_BEFORE_SNAPSHOT = 15

Anything = Callable[..., Any]


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Countdown:
    """Dies when it has been called so often."""

    def __init__(self, times: int) -> None:
        self._times = times

    @property
    def is_next(self) -> bool:
        """Would the next call be the last?"""
        return self._times == 1

    def step(self) -> None:
        """Count without dying."""
        self._times -= 1

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


def _in_statement(text: str) -> Callable[[Countdown], None]:
    """Within a transaction, when it is about to do a certain thing."""

    def install(count: Countdown) -> None:
        original = database.connect

        def connect(filename: str) -> Any:
            connection = original(filename)

            def trace(statement: str) -> None:
                if text in statement:
                    count()

            connection.set_trace_callback(trace)
            return connection

        database.connect = connect
        journal.connect = connect  # type: ignore[attr-defined]

    return install


def _in_child(count: Countdown) -> None:
    """While a child process makes a snapshot, which outlives the server a little."""
    parent = os.getpid()
    original = snapshots.data

    def data(controller: Any) -> bytes:
        # Only the server itself can count.
        if count.is_next:
            os.kill(parent, signal.SIGKILL)
        return original(controller)

    snapshots.data = data
    _around(Snapshots, "_begin", _nothing, count.step)


POINTS: dict[str, Callable[[Countdown], None]] = {
    "before-commit": _before(Journal, "commit"),
    "in-commit": _in_statement("INTO commits"),
    "after-commit": _after(Journal, "commit"),
    "after-events": _after(StateStore, "commit_events"),
    "before-snapshot": _before(Snapshots, "_begin"),
    "after-fork": _after(Snapshots, "_begin"),
    "in-child": _in_child,
    "before-part": _before(Journal, "write"),
    "in-part": _in_statement("INTO copies"),
    "after-part": _after(Journal, "write"),
    "before-tidying": _before(Tidying, "go_on"),
    "in-tidying": _in_statement("DELETE FROM"),
    "after-tidying": _after(Tidying, "go_on"),
    "before-restore": _before(StateStore, "restore"),
    "after-restore": _after(StateStore, "restore"),
    "after-open": _after(StateStore, "open"),
    "before-new": _before(database, "write_new"),
    "in-new": _in_statement("INTO about"),
    "after-new": _after(database, "write_new"),
    "before-swap": _before(database, "put_in_place"),
    "in-swap": _before(os, "rename"),
    "after-rename": _after(os, "rename"),
    "after-swap": _after(database, "put_in_place"),
}
"""How to have the process die there, by name."""

REWRITES = frozenset(
    {"before-new", "in-new", "after-new", "before-swap", "in-swap", "after-rename"}
    | {"after-swap"}
)
"""The points that are reached only when all state is written anew."""

AT_START = frozenset({"before-restore", "after-restore", "after-open"})
"""Those that are reached once in each start."""


def fail_once(number: int) -> None:
    """Have the commit of that number fail: every other time it is on the disk then."""
    original = Journal.commit
    commits = itertools.count(1)

    def commit(self: Journal, texts: Any, count: int | None = None) -> None:
        if next(commits) != number:
            original(self, texts, count)
            return
        if number % 2:
            original(self, texts, count)
        self._usable = False
        raise JournalError("no such luck")

    Journal.commit = commit  # type: ignore[method-assign]


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kill", nargs=2, metavar=("POINT", "TIMES"))
    parser.add_argument("--fail", type=int, metavar="COMMIT")
    parser.add_argument("arguments", nargs="*")
    options = parser.parse_args()
    directory.set_fallback(lambda host: BMPAddress(host, settle_seconds=0.0))
    snapshots.RECORDS_BEFORE_SNAPSHOT = (  # type: ignore[misc]
        RECORDS_BEFORE_SNAPSHOT
    )
    snapshots.RECORDS_PER_JOB = 0  # type: ignore[misc]
    # As with many jobs: a child process makes what is written anew.
    store.JOBS_AT_ONCE = 0  # type: ignore[misc]
    if options.fail:
        fail_once(options.fail)
    if options.kill:
        point, times = options.kill
        POINTS[point](Countdown(int(times)))
    return server_main(options.arguments)


if __name__ == "__main__":
    sys.exit(main())
