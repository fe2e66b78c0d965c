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
from typing import IO, Any

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.server import main as server_main
from spalloc_server.storage import store
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


class _HalfWriter:
    """A file of which only half gets written before the process dies."""

    def __init__(self, file: IO[bytes], count: Countdown) -> None:
        self._file = file
        self._count = count

    def write(self, data: bytes) -> None:
        self._file.write(data[: len(data) // 2])
        self._file.flush()
        self._count()
        self._file.write(data[len(data) // 2 :])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> _HalfWriter:
        return self

    def __exit__(self, *_exception: object) -> None:
        self._file.close()


def _half_written(count: Countdown) -> None:
    original = os.fdopen

    def fdopen(fd: int, mode: str, *args: Any) -> Any:
        file = original(fd, mode, *args)
        return _HalfWriter(file, count) if mode == "wb" else file

    os.fdopen = fdopen  # type: ignore[assignment]


def _in_transaction(count: Countdown) -> None:
    """Within the transaction that empties the journal, and between its statements."""
    original = Journal._open

    def open_(self: Journal) -> Any:
        database = original(self)
        database.set_trace_callback(
            lambda statement: count() if "DELETE FROM commits" in statement else None
        )
        return database

    Journal._open = open_  # type: ignore[method-assign]


def _in_insert(count: Countdown) -> None:
    original = Journal._open

    def open_(self: Journal) -> Any:
        database = original(self)

        def trace(statement: str) -> None:
            if statement.startswith("INSERT OR REPLACE INTO commits"):
                count()

        database.set_trace_callback(trace)
        return database

    Journal._open = open_  # type: ignore[method-assign]


POINTS: dict[str, Callable[[Countdown], None]] = {
    "before-commit": _before(Journal, "_write"),
    "in-commit": _in_insert,
    "after-commit": _after(Journal, "_write"),
    "after-events": _after(StateStore, "commit_events"),
    "before-snapshot": _before(StateStore, "_write_snapshot"),
    "half-snapshot": _half_written,
    "before-sync": _before(os, "fsync"),
    "after-sync": _after(os, "fsync"),
    "before-rename": _before(os, "replace"),
    "after-rename": _after(os, "replace"),
    "before-new-journal": _before(Journal, "start_over"),
    "in-new-journal": _in_transaction,
    "after-new-journal": _after(Journal, "start_over"),
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
