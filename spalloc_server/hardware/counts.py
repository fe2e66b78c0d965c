"""How many requests each BMP was given: counts shared by the whole process.

They outlast the controllers of BMPs, which a reload may replace.
"""

from __future__ import annotations

import threading
from collections import Counter

_lock = threading.Lock()
_requests: Counter[str] = Counter()
_failures: Counter[str] = Counter()


def note_request(hostname: str, success: bool) -> None:
    """Note that a request to a BMP has ended. From any thread."""
    with _lock:
        _requests[hostname] += 1
        if not success:
            _failures[hostname] += 1


def requests_and_failures(hostname: str) -> tuple[int, int]:
    """How many requests to a BMP have ended, and how many failed of them."""
    with _lock:
        return _requests[hostname], _failures[hostname]
