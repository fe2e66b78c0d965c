"""Runs the server: ``python -m spalloc_server``, and what is installed as a command."""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from spalloc_server.command_line.options import Options

INTERRUPTED: Final = 128 + signal.SIGINT
"""The exit status after Ctrl-C, as shells have it."""


def main() -> int:
    """Run the server, as `spalloc_server.server.main` does.

    A Ctrl-C while all of it is still being imported, or while a config file is only
    checked, ends the process with a line and no traceback.
    """
    early: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        early.append(number)

    # Raised in the midst of an import, KeyboardInterrupt can get lost.
    old = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGHUP)
    }
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
        program = _program(options)
        for number, handler in old.items():
            signal.signal(number, handler)
        if signal.SIGINT in early:
            raise KeyboardInterrupt
        return program(options)
    except KeyboardInterrupt:
        print("spalloc_server: interrupted", file=sys.stderr)
        return INTERRUPTED
    finally:
        WAITING.forget()


def _program(options: Options) -> Callable[[Options], int]:
    """Import what there is to run."""
    if options.check:
        # It does without most of the server, and somebody waits for it.
        from spalloc_server.command_line.check import check_only

        return check_only
    from spalloc_server import server

    return server.run


if __name__ == "__main__":
    sys.exit(main())
