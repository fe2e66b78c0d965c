"""The server, with a job log on a disk that takes nothing and never answers."""

import sys
import threading
from collections.abc import Sequence

from spalloc_server.__main__ import main
from spalloc_server.history.job_log import JobLog
from spalloc_server.model.job_events import JobEvent


def hang(_log: JobLog, _events: Sequence[JobEvent]) -> None:
    """What a write to such a disk does."""
    threading.Event().wait()


if __name__ == "__main__":
    JobLog.take = hang  # type: ignore[method-assign, assignment]
    sys.exit(main())
