"""Where each BMP is reached: a directory shared by the whole process.

A configuration names BMPs by hostname. Normally that is where they are, on the
standard port. A simulator registers other addresses here, so that a configuration
of real machines runs unchanged with no packet leaving the computer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import NamedTuple

from spinnman.constants import BMP_POST_POWER_ON_SLEEP_TIME, SCP_SCAMP_PORT


class BMPAddress(NamedTuple):
    """How to reach a BMP and how long its boards need after power-on."""

    host: str
    """Hostname or IPv4 address to send to."""

    port: int = SCP_SCAMP_PORT
    """UDP port."""

    settle_seconds: float = BMP_POST_POWER_ON_SLEEP_TIME
    """Seconds between a power-on and the first use of the boards."""


_lock = threading.Lock()
_addresses: dict[str, BMPAddress] = {}
_fallback: Callable[[str], BMPAddress] = BMPAddress


def lookup(hostname: str) -> BMPAddress:
    """Give the address of a BMP: the hostname itself, unless registered otherwise.

    Never resolves names. Any thread may call it.
    """
    with _lock:
        address = _addresses.get(hostname)
        fallback = _fallback
    # Without the lock: a simulator registers what it is asked for.
    return fallback(hostname) if address is None else address


def set_fallback(fallback: Callable[[str], BMPAddress] | None) -> None:
    """Say where hostnames are that nobody registered; None: where they say.

    Any thread may call it, and `fallback` is called by any thread.
    """
    global _fallback
    with _lock:
        _fallback = BMPAddress if fallback is None else fallback


def register(hostname: str, address: BMPAddress) -> None:
    """Make `lookup` answer this address for a hostname. Any thread may call it."""
    with _lock:
        _addresses[hostname] = address


def forget(hostname: str) -> None:
    """Undo `register`; nothing happens if there is nothing to undo."""
    with _lock:
        _addresses.pop(hostname, None)
