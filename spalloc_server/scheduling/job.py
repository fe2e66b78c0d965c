"""A job as the queue sees it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spalloc_server.scheduling.machine import _Machine


class _Job:
    """A job that is queued, allocated, or waiting for its boards to be freed."""

    __slots__ = (
        "allocation_id",
        "args",
        "boards",
        "ending",
        "id",
        "kwargs",
        "machine",
        "machine_name",
        "number",
        "owner",
        "pending",
        "queued_at",
        "queues",
        "started_at",
        "tags",
    )

    def __init__(
        self,
        _id: int,
        pending: bool = True,
        machine_name: str | None = None,
        tags: Iterable[str] | None = frozenset(),
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        machine: _Machine | None = None,
        allocation_id: int | None = None,
        owner: str | None = None,
    ) -> None:
        """Describe a job.

        :param _id: unique among the jobs of its queue
        :param pending: is it queued?
        :param machine_name: the only machine it may run on, None for any with the tags
        :param tags: what its machine must have, None for "default"
        :param args: what to ask of `Allocator.alloc`
        :param kwargs: what to ask of `Allocator.alloc`
        :param machine: the machine it is allocated on
        :param allocation_id: its allocation on that machine
        :param owner: who takes turns with others, and whom limits are for
        """
        self.id = _id
        self.pending = pending
        self.machine_name = machine_name
        self.tags = tags
        self.args = args
        self.kwargs = kwargs or {}
        self.machine = machine
        self.allocation_id = allocation_id
        self.owner = owner
        # The machines in whose queues the job still stands.
        self.queues: list[_Machine] = []
        # Is it destroyed, but still in possession of its boards?
        self.ending = False
        # For how many boards it counts: those that come with whole triads do, too.
        self.boards = 1
        # Its place in the order of arrival, and when it was queued and got boards.
        self.number = 0
        self.queued_at = 0.0
        self.started_at = 0.0

    def __repr__(self) -> str:
        return f"<_Job {self.id}>"

    @property
    def request(self) -> tuple[Any, ...]:
        """What it asks of a machine; the same for jobs that ask for the same."""
        return (self.args, *self.kwargs.items())
