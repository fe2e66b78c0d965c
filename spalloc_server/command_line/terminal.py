"""What is printed, for terminals and pipes that may take it badly.

Imports nothing but the least, since it is needed before anything else is there.
"""

from __future__ import annotations

import os
import sys
from typing import TextIO


def printable(text: str) -> str:
    """A text in one line, without anything that could change the terminal.

    What cannot be printed (line feeds, escapes, marks that turn text around) becomes
    what one would write in a string of Python.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode("ascii")
        for c in text
    )


def open_standard_streams() -> None:
    """Have something at the descriptors 0, 1 and 2, where they were closed.

    Otherwise they are those of the next files that are opened, into which is then
    written what is meant for the terminal.
    """
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free


def prepare_output() -> None:
    """Have what the terminal's encoding cannot hold written as Python strings are."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def say(*lines: str, end: str = "\n") -> None:
    """Print lines at once; where nobody reads them any more, that is no error.

    :raises OSError: where they cannot be written for another reason
    """
    try:
        for line in lines:
            print(line, end=end)
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        discard(sys.stdout)
    except OSError:
        # Nor is it tried again when the interpreter ends.
        discard(sys.stdout)
        raise


def discard(stream: TextIO) -> None:
    """Let what is still to be written to a stream go nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)
