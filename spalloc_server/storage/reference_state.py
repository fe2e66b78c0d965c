"""State that the reference server has left: it keeps its own under the same names.

Such a file is a pickle of that program's objects, of which nothing is used. It is known
by its name and its first bytes, and left alone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from typing import Final

from spalloc_server.storage import names

# It has been 0.x, and then 1!7.0.0; this server is 1.x.y.
_RELEASE: Final = re.compile(r"(?:[0-9]+!|0\.)[0-9A-Za-z.]+")

_HEAD_BYTES: Final = 4096

_CLASS: Final = b"spalloc_server.controller"
"""Of what is pickled: it is named at the beginning."""


def reference_states(*stems: str) -> Iterator[str]:
    """Tell of each state of the reference server that there is, in words.

    :param stems: what names are made of, see `names`
    """
    found = {}
    for stem in stems:
        for filename, release in names.released_state_files(stem):
            found[os.path.realpath(filename)] = filename, release
    for filename, release in found.values():
        if is_reference_state(filename, release):
            yield (
                f"left by the reference server, release {release}, as {filename}; its "
                "jobs are not taken over, and the file is left alone"
            )


def is_reference_state(filename: str, release: str) -> bool:
    """Has the reference server left this file? Nothing of it is executed.

    :param release: as the name of the file says
    """
    return bool(_RELEASE.fullmatch(release)) and _CLASS in _head(filename)


def _head(filename: str) -> bytes:
    """The first bytes of a file; none of what is no file, or cannot be read."""
    try:
        # Nobody waits for the other end of a pipe.
        descriptor = os.open(filename, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            is_file = stat.S_ISREG(os.fstat(descriptor).st_mode)
            return os.read(descriptor, _HEAD_BYTES) if is_file else b""
        finally:
            os.close(descriptor)
    except OSError:
        return b""
