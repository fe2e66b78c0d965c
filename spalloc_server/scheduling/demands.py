"""What jobs ask for: checked, and matched with the machines, once for all of a kind."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from spalloc_server.scheduling.machine import Demand, _Job, _Machine

DEFAULT_TAGS = frozenset({"default"})
"""Those of a machine, and of a demand, that has none of its own."""

#: How many demands are remembered, at least, after the jobs that had them.
_REMEMBERED = 4096


class Demands:
    """The demands of all jobs of a queue, and the machines that could meet them."""

    def __init__(self, machines: Mapping[str, _Machine]) -> None:
        """Begin without any.

        :param machines: by name, highest priority first; whoever changes them, or what
            is possible on them, calls `note_change`
        """
        self._machines = machines
        self._known: dict[Hashable, Demand] = {}
        # Those that somebody waits for, known or not; a dict has an order.
        self._awaited: dict[Demand, None] = {}
        self._tidy_at = _REMEMBERED
        self._version = 0

    def find(
        self,
        machine_name: str | None,
        tags: Iterable[str] | None,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Demand:
        """The demand that is described: see `Demand`, which says what is raised."""
        own_tags = None if tags is None else frozenset(tags)
        key: Hashable = (machine_name, own_tags, args)
        if kwargs:
            key = (key, *kwargs.items())
        demand = self._known.get(key)
        if demand is None:
            if len(self._known) >= self._tidy_at:
                self._known = {k: d for k, d in self._known.items() if d.jobs}
                self._tidy_at = max(_REMEMBERED, 2 * len(self._known))
            demand = Demand(machine_name, own_tags, args, kwargs)
            self._known[key] = demand
        return demand

    def of(self, job: _Job) -> Demand:
        """The demand of a job."""
        return self.find(job.machine_name, job.tags, job.args, job.kwargs)

    def join(self, job: _Job, machines: tuple[_Machine, ...] | None = None) -> None:
        """Note that a job waits for what it asks for.

        :param machines: in whose lines it stands; None where that is not sure
        """
        demand = job.demand
        if not demand.jobs:
            self._awaited[demand] = None
            demand.placed = machines
        elif demand.placed != machines:
            demand.placed = None
        demand.jobs[job.id] = job

    def leave(self, job: _Job) -> None:
        """Note that a job does not wait any more, if it does."""
        demand = job.demand
        demand.jobs.pop(job.id, None)
        if not demand.jobs:
            self._awaited.pop(demand, None)

    def awaited(self) -> Iterable[Demand]:
        """Those that somebody waits for."""
        return self._awaited

    def note_change(self) -> None:
        """Look anew which machines could meet the demands."""
        self._version += 1

    def machines_for(self, demand: Demand) -> tuple[_Machine, ...]:
        """The machines that could meet a demand were they idle, by priority."""
        if demand.could_at != self._version:
            demand.could = tuple(self._able_to_meet(demand))
            demand.could_at = self._version
        return demand.could

    def _able_to_meet(self, demand: Demand) -> list[_Machine]:
        if demand.machine_name is not None:
            named = self._machines.get(demand.machine_name)
            in_question = [] if named is None else [named]
        else:
            tags = DEFAULT_TAGS if demand.tags is None else demand.tags
            in_question = [m for m in self._machines.values() if m.tags >= tags]
        args, kwargs = demand.args, demand.kwargs
        return [m for m in in_question if m.allocator.alloc_possible(*args, **kwargs)]
