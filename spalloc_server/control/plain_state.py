"""The state as plain data, which is what outlives the process, and back again.

Plain data says what it is by its schema number. It has no classes in it, so that
nothing has to be executed to read it, and it is checked as a whole when it is read:
what is missing, unknown or of another type is an error then, and not some time later.

Each machine is in it once, in the form that the journal has, too. The machines in force
come first, in their order; those that are not, but that jobs still have boards of, come
after them. Jobs refer to machines by number.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from spalloc_server.configuration import Machine
from spalloc_server.control.availability import Availability
from spalloc_server.control.state import State
from spalloc_server.job_queue import JobQueue
from spalloc_server.model.board_health import BoardHealth
from spalloc_server.model.job import _Job
from spalloc_server.model.job_record import job_from_plain, job_to_plain
from spalloc_server.model.job_tuples import JobState
from spalloc_server.model.machine_record import machine_from_record, machine_to_record
from spalloc_server.model.withheld import Withheld
from spalloc_server.plain.shapes import (
    INT,
    OPTIONAL_STR,
    PlainCopies,
    PlainDataError,
    anything_plain,
    dict_of,
    fields,
    list_of,
    of_type,
    one_of,
)

SCHEMA: Final = 5
"""What `to_plain` gives; see `spalloc_server.control.old_schemas` for those before."""

# What checks itself when it is made again is looked at but once.
_KEPT = of_type(dict)

_STATE = fields(
    "state",
    {
        "schema": one_of(SCHEMA),
        "next_id": INT,
        "next_holder_id": INT,
        "max_retired_jobs": INT,
        "machines": of_type(list),
        "machines_in_force": INT,
        "job_queue": _KEPT,
        "jobs": list_of(_KEPT),
        "ending_jobs": list_of(_KEPT),
        "retired_jobs": dict_of(INT, OPTIONAL_STR),
        "health": anything_plain,
        "withheld": anything_plain,
        "rules": INT,
    },
)


def to_plain(state: State) -> dict[str, Any]:
    """All of a state that outlives the process, as plain data.

    The data shares nothing with the state that changes. What is told to those who
    watch (`State.changed_jobs`, `State.changed_machines`) ends with them.

    :param state: to be called with the lock that guards it
    """
    machines, copies = _Machines(state.machines), PlainCopies()
    jobs, ending = (
        [job_to_plain(job, machines.number(job), copies.of) for job in some.values()]
        for some in (state.jobs, state.ending_jobs)
    )
    return {
        "schema": SCHEMA,
        "next_id": state.next_id,
        "next_holder_id": state.next_holder_id,
        "max_retired_jobs": state.max_retired_jobs,
        "machines": [machine_to_record(machine) for machine in machines.all],
        "machines_in_force": len(state.machines),
        "job_queue": state.job_queue.__getstate__(),
        "jobs": jobs,
        "ending_jobs": ending,
        "retired_jobs": dict(state.retired_jobs),
        "health": state.health.__getstate__(),
        "withheld": state.withheld.__getstate__(),
        "rules": state.rules,
    }


def from_plain(data: Any) -> State:
    """Make a state of plain data, of the present schema or of one since 2.

    The callbacks of its job queue are None. All jobs count as heard from just now.

    :raises PlainDataError: if the data is not what `to_plain` gives
    """
    if isinstance(data, dict) and data.get("schema") != SCHEMA:
        # Once after an upgrade, at most.
        from spalloc_server.control.old_schemas import of_present_schema

        data = of_present_schema(data)
    _STATE(data, "state")
    machines = [machine_from_record(machine) for machine in data["machines"]]
    in_force = data["machines_in_force"]
    if not 0 <= in_force <= len(machines):
        raise PlainDataError(f"state: {in_force} of {len(machines)} machines")
    job_queue = JobQueue.__new__(JobQueue)
    job_queue.__setstate__(data["job_queue"])
    health = BoardHealth()
    health.__setstate__(data["health"])
    withheld = Withheld()
    withheld.__setstate__(data["withheld"])
    jobs, ending = (
        [_job_from_plain(job, machines) for job in data[name]]
        for name in ("jobs", "ending_jobs")
    )
    for job in jobs:
        if job.state is JobState.destroyed:
            raise PlainDataError(f"state: {job} is among those that have not ended")
    for job in ending:
        if job.state is not JobState.destroyed:
            raise PlainDataError(f"state: {job} is among those that have ended")
    state = State(
        job_queue=job_queue,
        next_id=data["next_id"],
        next_holder_id=data["next_holder_id"],
        max_retired_jobs=data["max_retired_jobs"],
        machines=OrderedDict((m.name, m) for m in machines[:in_force]),
        jobs={job.id: job for job in jobs},
        ending_jobs={job.id: job for job in ending},
        retired_jobs=OrderedDict(data["retired_jobs"]),
        health=health,
        withheld=withheld,
        rules=data["rules"],
    )
    # Of the boards that are not given out, the allocators know no more.
    availability = Availability(state)
    for machine in state.machines.values():
        job_queue.restore_withheld(
            machine.name, *availability.dead_and_withheld(machine)
        )
    return state


def comparable(data: Mapping[str, Any]) -> Any:
    """What of plain data is promised to be equal after a replay.

    That leaves out which host asked last, and for how many seconds boards have yet to
    cool down, though not in which order: neither is recorded.

    :param data: what `to_plain` gives, which is not changed
    """
    queue = data["job_queue"]
    return {
        **data,
        "jobs": [_without(job, "lasthost") for job in data["jobs"]],
        "ending_jobs": [_without(job, "lasthost") for job in data["ending_jobs"]],
        "retired_jobs": list(data["retired_jobs"].items()),
        "job_queue": {
            **queue,
            "machines": [
                {
                    **machine,
                    "allocator": {
                        **machine["allocator"],
                        "cooling": [i for i, _ in machine["allocator"]["cooling"]],
                    },
                }
                for machine in queue["machines"]
            ],
        },
    }


def _without(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}


class _Machines:
    """Numbers machines: first those in force, then others as they turn up."""

    def __init__(self, in_force: Mapping[str, Machine]) -> None:
        self.all = list(in_force.values())
        self._number_of = {id(machine): n for n, machine in enumerate(self.all)}

    def number(self, job: _Job) -> int | None:
        """The number of a job's machine, None for a job without boards."""
        machine = job.allocated_machine
        if machine is None:
            return None
        number = self._number_of.get(id(machine))
        if number is None:
            # One of before a reload of the configuration; equal ones are one.
            if machine in self.all:
                number = self.all.index(machine)
            else:
                number = len(self.all)
                self.all.append(machine)
            # Its ID stays its own: the job holds it.
            self._number_of[id(machine)] = number
        return number


def _job_from_plain(data: dict[str, Any], machines: list[Machine]) -> _Job:
    number = data.get("machine")
    machine = None
    if number is not None:
        if type(number) is not int or not 0 <= number < len(machines):
            raise PlainDataError(f"state: a job has boards of machine {number!r}")
        machine = machines[number]
    return job_from_plain(data, machine)
