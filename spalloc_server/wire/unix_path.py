"""Unix sockets in folders with long names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 100
"""So many bytes of a path fit into the address of a socket for certain."""


@contextlib.contextmanager
def short_path(path: str) -> Iterator[str]:
    """Give a path that an address has room for, and that leads to the same place.

    :raises OSError: if the folder is not there
    """
    if len(os.fsencode(path)) <= LONGEST:
        yield path
        return
    folder, name = os.path.split(path)
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{name}"
    finally:
        os.close(fd)
