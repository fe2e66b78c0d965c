"""Runs the server: ``python -m spalloc_server``, and what is installed as a command."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any, Final, TypeAlias

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status after Ctrl-C, as shells have it."""

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What may come before the server is there for it."""

Handlers: TypeAlias = Mapping[signal.Signals, Any]


def main() -> int:
    """Run the server, as `spalloc_server.server.main` does.

    A signal while all of it is still being imported stops it in good order, as soon as
    that can be done. Where a config file is only checked, Ctrl-C ends the process with
    a line and no traceback.
    """
    early: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        early.append(number)

    # Raised in the midst of an import, KeyboardInterrupt can get lost.
    old = {number: signal.signal(number, note) for number in SIGNALS}
    # Until the server is up: nearly all that is made before that stays.
    gc.disable()
    from spalloc_server.command_line.terminal import open_standard_streams

    open_standard_streams()
    from spalloc_server.command_line.options import parse_arguments

    options = parse_arguments()
    from spalloc_server.config.reading import WAITING

    # It takes a process of its own, which can work while all else is imported.
    WAITING.begin(options.config)
    try:
        if not options.check:
            from spalloc_server import server

            return server.run(options, early)
        # It does without most of the server, and somebody waits for it.
        from spalloc_server.command_line.check import check_only

        _restore(old)
        if set(early) - {signal.SIGHUP}:
            raise KeyboardInterrupt
        return check_only(options)
    except KeyboardInterrupt:
        print("spalloc_server: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        WAITING.forget()
        _restore(old)


def _restore(handlers: Handlers) -> None:
    for number, handler in handlers.items():
        signal.signal(number, handler)


if __name__ == "__main__":
    sys.exit(main())
