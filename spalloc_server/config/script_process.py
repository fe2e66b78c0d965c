"""The process in which a config file is run, so that it can be given up.

Started by `~spalloc_server.config.reading`. Whatever the script does to its
process (ends it, replaces it, hangs in it, eats its memory), the server goes on.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import sys
from typing import Final

from spalloc_server.config import serialized
from spalloc_server.config.script import ConfigFileError, load_config_file

MEMORY_BYTES: Final = 4 * 1024**3
"""How much memory (address space) a script may take before it gets a
`MemoryError`; the largest machines there are need some hundredths of that."""


def main(result_fd: int, filename: str, seconds: int) -> None:
    """Run a config file, write what came out of it to a file descriptor, and exit.

    That is a line of JSON with either an error or nothing in it, then the
    configuration.

    :param seconds: after which the system ends this process, should the server that
        has started it not be there any more to do that
    """
    os.set_inheritable(result_fd, False)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(seconds)
    _limit_memory()
    sys.argv[:] = [filename]
    error, result = None, b""
    try:
        result = serialized.dump(load_config_file(filename))
    except ConfigFileError as e:
        error = {"line": e.line, "reason": e.reason}
    except MemoryError:
        error = {"line": None, "reason": "MemoryError"}
    # What it has printed comes before what the server has to say of it.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    # The server may be gone by now: then there is nobody to tell.
    with contextlib.suppress(BrokenPipeError), open(result_fd, "wb") as file:
        file.write(json.dumps({"error": error, "size": len(result)}).encode() + b"\n")
        file.write(result)
    # Whatever the script has left behind (threads, exit handlers) is of no interest.
    os._exit(0)


def _limit_memory() -> None:
    # Where the computer itself has too little, this process goes before the server.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    with contextlib.suppress(OSError, ValueError):
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        limit = MEMORY_BYTES
        if hard != resource.RLIM_INFINITY:
            limit = min(limit, hard)
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
