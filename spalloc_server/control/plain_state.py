"""Interim: the kept state as a dictionary of objects."""

from __future__ import annotations

from typing import Any

from spalloc_server.control.state import State

_KEPT = (
    "job_queue",
    "next_id",
    "next_holder_id",
    "max_retired_jobs",
    "machines",
    "jobs",
    "ending_jobs",
    "retired_jobs",
    "changed_jobs",
    "changed_machines",
    "health",
)


def to_plain(state: State) -> dict[str, Any]:
    """Give what is kept."""
    return {name: getattr(state, name) for name in _KEPT}


def from_plain(data: dict[str, Any]) -> State:
    """Take what is kept."""
    return State(**data)
