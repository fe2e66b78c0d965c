"""What happens to jobs, told to whoever keeps a history."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, get_args

from spalloc_server.coordinates import Board

Kind = Literal["created", "allocated", "power", "ready", "requeued", "destroyed"]

KINDS: Final[tuple[Kind, ...]] = get_args(Kind)


class JobEvent(NamedTuple):
    """A change of a job. None is for what does not apply."""

    kind: Kind
    """``power``: its boards begin to be powered on or off; ``requeued``: it lost
    faulty boards and waits for others."""
    time: float
    """When it happened, in seconds since 1970 (UTC)."""
    job_id: int
    owner: str
    host: str | None
    """IP address of the host that last asked about the job."""
    args: tuple[Any, ...]
    """The size asked for."""
    kwargs: dict[str, Any]
    """The demands made."""
    start_time: float
    """When the job was created, in seconds since 1970 (UTC)."""
    machine: str | None
    """Where its boards are, or were until now."""
    boards: frozenset[Board] | None
    """Its boards, or what they were until now."""
    power: bool | None
    """Are the boards on, or going on?"""
    reason: str | None
    """Why it was destroyed or queued again."""
