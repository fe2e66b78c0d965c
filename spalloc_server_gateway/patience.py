"""How long is waited: for the server, for changes, and for clients."""

from __future__ import annotations

from typing import NamedTuple


class Patience(NamedTuple):
    """Times in seconds. What clients wait for, before they give up, is in brackets."""

    call: float = 7.0
    """For a server that is away, to answer most requests (10)."""

    create: float = 22.0
    """The same to create a job (30)."""

    keepalive: float = 3.0
    """The same for a keepalive, which is made up for later (10)."""

    change: float = 30.0
    """For a job to change, where a request asks for that (no limit)."""

    suspend: float = 20.0
    """After so long without the server, boards may be those of others by now: nothing
    is carried until it has said that they are not."""

    body: float = 10.0
    """For the next part of a body."""

    answer: float = 4.0
    """For something to be done before its answer begins, and for each further byte of
    that (10)."""

    failure: float = 6.0
    """How long the answer to a login that failed is kept back, at most (10)."""

    heartbeat: float = 45.0
    """For a client of a proxy to do anything, before it is asked whether it is there;
    half as long for its answer."""

    deaf: float = 10.0
    """For a client of a proxy to read something."""
