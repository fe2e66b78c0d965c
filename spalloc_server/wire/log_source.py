"""On whose behalf the server works just now, for limits of what it logs about that."""

from __future__ import annotations

import threading
from typing import Final

from spalloc_server.wire.connection import Connection


class LogSource(threading.local):
    """The client whose command a thread carries out, None for no client's."""

    client: Connection | None = None


SOURCE: Final = LogSource()
