"""State of schema 1, a pickle of all the objects: read into plain data of schema 2.

Nothing of the file is executed. Each class that such a pickle may name leads to a
stand-in that holds what it is given, and all other names are refused.
"""

from __future__ import annotations

import io
import pickle
from typing import Any, Final

from spalloc_server.storage.plain_pickle import PickleRefusedError


class _Thing:
    """Holds what a pickle says of an object: its arguments, and its state."""

    kind: str

    def __new__(cls, *arguments: Any) -> _Thing:
        thing = super().__new__(cls)
        thing.arguments = arguments
        thing.state = {}
        return thing

    def __init__(self, *_arguments: Any) -> None:
        self.arguments: tuple[Any, ...]
        self.state: dict[str, Any]

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, tuple):
            # Of a class with slots: what is in its dictionary, and in its slots.
            of_dictionary, of_slots = state
            state = {**(of_dictionary or {}), **(of_slots or {})}
        if not isinstance(state, dict):
            raise PickleRefusedError(f"a {self.kind} with an impossible state")
        self.state = state

    def __getitem__(self, name: str) -> Any:
        try:
            return self.state[name]
        except KeyError:
            raise PickleRefusedError(f"a {self.kind} without {name}") from None


_KINDS: Final = {
    kind: type(kind, (_Thing,), {"kind": kind})
    for kind in (
        *("Controller", "job", "Machine"),
        *("JobQueue", "queue machine", "queue job"),
        *("Allocator", "PackTree", "SharedTriads", "held"),
        *("BoardHealth", "problems", "out of service", "report"),
    )
}


class _Number(int):
    """Stands in for a member of an enumeration."""

    def __new__(cls, value: Any) -> _Number:
        if type(value) is not int:
            raise PickleRefusedError(f"{value!r} is no member of an enumeration")
        return super().__new__(cls, value)


# By where they have been, in whichever commit.
_CLASSES: Final[dict[tuple[str, str], Any]] = {
    ("collections", "OrderedDict"): dict,
    ("collections", "deque"): list,
    ("spalloc_server.controller", "Controller"): _KINDS["Controller"],
    ("spalloc_server.job", "_Job"): _KINDS["job"],
    ("spalloc_server.model.job", "_Job"): _KINDS["job"],
    ("spalloc_server.controller", "_Job"): _KINDS["job"],
    ("spalloc_server.job", "JobState"): _Number,
    ("spalloc_server.model.job", "JobState"): _Number,
    ("spalloc_server.configuration", "Machine"): _KINDS["Machine"],
    ("spalloc_server.coordinates", "WrapAround"): _Number,
    ("spalloc_server.links", "Links"): _Number,
    ("spalloc_server.job_queue", "JobQueue"): _KINDS["JobQueue"],
    ("spalloc_server.job_queue", "_Machine"): _KINDS["queue machine"],
    ("spalloc_server.job_queue", "_Job"): _KINDS["queue job"],
    ("spalloc_server.allocator", "Allocator"): _KINDS["Allocator"],
    ("spalloc_server.allocator", "_Held"): _KINDS["held"],
    ("spalloc_server.allocator", "_Rectangle"): _KINDS["held"],
    ("spalloc_server.allocator", "_AllocationType"): _Number,
    ("spalloc_server.pack_tree", "PackTree"): _KINDS["PackTree"],
    ("spalloc_server.shared_triads", "SharedTriads"): _KINDS["SharedTriads"],
    ("spalloc_server.placement.shared_triads", "SharedTriads"): _KINDS["SharedTriads"],
    **{
        (f"spalloc_server.{module}", name): _KINDS[kind]
        for module in ("board_health", "model.board_health")
        for name, kind in (
            ("BoardHealth", "BoardHealth"),
            ("_Problems", "problems"),
            ("OutOfService", "out of service"),
            ("Report", "report"),
        )
    },
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = _CLASSES.get((module, name))
        if found is None:
            raise PickleRefusedError(f"{module}.{name} is no part of saved state")
        return found

    def persistent_load(self, _pid: Any) -> Any:
        raise PickleRefusedError("refers to something outside")


def load_schema_1(contents: bytes) -> tuple[dict[str, Any], int]:
    """Read a pickled `Controller` of schema 1.

    :return: plain data of schema 2, not checked yet; and the number of this snapshot,
        which the journal beside it names
    :raises PickleRefusedError: if it is no such pickle, or is damaged
    """
    try:
        controller = _Unpickler(io.BytesIO(contents)).load()
        if not isinstance(controller, _Thing) or controller.kind != "Controller":
            raise PickleRefusedError("holds no Controller")
        generation = controller.state.get("generation", 0)
        if type(generation) is not int:
            raise PickleRefusedError("has no number")
        return _Migration(controller).data(), generation
    except PickleRefusedError:
        raise
    except Exception as e:  # a damaged pickle may raise anything at all
        raise PickleRefusedError(f"{type(e).__name__}: {e}") from e


class _Migration:
    """From the objects of schema 1 to the data of schema 2."""

    def __init__(self, controller: _Thing) -> None:
        self._controller = controller
        self._machines: list[tuple[Any, ...]] = []
        self._number_of: dict[int, int] = {}

    def data(self) -> dict[str, Any]:
        controller = self._controller
        for machine in controller["_machines"].values():
            self._number_of[id(machine)] = len(self._machines)
            self._machines.append(machine.arguments)
        in_force = len(self._machines)
        jobs = [self._job(job) for job in controller["_jobs"].values()]
        ending = [self._job(job) for job in controller["_ending_jobs"].values()]
        return {
            "schema": 2,
            "next_id": controller["_next_id"],
            # There was no such number when boards were not taken out of service.
            "next_holder_id": controller.state.get("_next_holder_id", -1),
            "max_retired_jobs": controller["_max_retired_jobs"],
            "machines": [_machine(arguments) for arguments in self._machines],
            "machines_in_force": in_force,
            "job_queue": _job_queue(controller["_job_queue"]),
            "jobs": jobs,
            "ending_jobs": ending,
            "retired_jobs": dict(controller["_retired_jobs"]),
            "health": _health(controller.state.get("_health")),
        }

    def _machine_number(self, machine: _Thing | None) -> int | None:
        if machine is None:
            return None
        number = self._number_of.get(id(machine))
        if number is None:
            if machine.arguments in self._machines:
                number = self._machines.index(machine.arguments)
            else:
                number = len(self._machines)
                self._machines.append(machine.arguments)
            self._number_of[id(machine)] = number
        return number

    def _job(self, job: _Thing) -> dict[str, Any]:
        state = int(job["state"])
        torus, periphery = job["torus"], job["periphery"]
        ended = state == 4
        return {
            "id": job["id"],
            "owner": job["owner"],
            "start_time": job["start_time"],
            "keepalive": job["keepalive"],
            "lasthost": job["lasthost"],
            "state": state,
            "power": job["power"],
            "args": job["args"],
            "kwargs": job["kwargs"],
            "machine": self._machine_number(job["allocated_machine"]),
            "boards": job["boards"],
            "periphery": None if periphery is None else _links(periphery),
            "torus": None if torus is None else int(torus),
            "unfinished": job["bmp_requests_until_ready"] != 0,
            # Younger than the others: what they say when nothing is known.
            "was_ready": job.state.get("was_ready", state == 3),
            "failed_places": job.state.get("failed_places", 0),
            "failure": None if ended else job.state.get("failure"),
            "machine_removed": job["machine_removed"],
            "rank": job.state.get("rank", job["id"]),
        }


def _links(links: Any) -> set[tuple[int, int, int, int]]:
    return {(x, y, z, int(link)) for x, y, z, link in links}


def _machine(arguments: tuple[Any, ...]) -> dict[str, Any]:
    name, tags, width, height, dead_boards, dead_links, *places = arguments
    board_locations, bmp_ips, spinnaker_ips = places
    return {
        "name": name,
        "tags": set(tags),
        "width": width,
        "height": height,
        "dead_boards": set(dead_boards),
        "dead_links": _links(dead_links),
        "board_locations": board_locations,
        "bmp_ips": bmp_ips,
        "spinnaker_ips": spinnaker_ips,
    }


def _job_queue(queue: _Thing) -> dict[str, Any]:
    machines = list(queue["_machines"].values())
    in_force = len(machines)
    number_of = {id(machine): n for n, machine in enumerate(machines)}
    jobs = []
    for job in queue["_jobs"].values():
        machine, tags = job["machine"], job["tags"]
        if machine is not None and id(machine) not in number_of:
            number_of[id(machine)] = len(machines)
            machines.append(machine)
        jobs.append(
            {
                "id": job["id"],
                "pending": job["pending"],
                "ending": job["ending"],
                "machine_name": job["machine_name"],
                "tags": None if tags is None else set(tags),
                "args": job["args"],
                "kwargs": job["kwargs"],
                "machine": None if machine is None else number_of[id(machine)],
                "allocation_id": job["allocation_id"],
            }
        )
    return {
        "seconds_before_free": queue["_seconds_before_free"],
        "machines": [
            {
                "name": machine["name"],
                "tags": set(machine["tags"]),
                "removed": number >= in_force,
                "allocator": _allocator(machine["allocator"]),
                "queue": [job["id"] for job in machine["queue"] if job["pending"]],
            }
            for number, machine in enumerate(machines)
        ],
        "jobs": jobs,
    }


def _allocator(allocator: _Thing) -> dict[str, Any]:
    cooling = allocator["_cooling"]
    if "_held" in allocator.state:
        # Of before single boards had a dictionary of their own. How large an
        # allocation is was known to the tree only.
        sizes = _sizes(allocator["pack_tree"])
        held = {i: held.arguments for i, held in allocator["_held"].items()}
        boards = {i: (x, y, z) for i, (kind, x, y, z, *_) in held.items() if kind == 1}
        triads = {
            i: (x, y, *sizes[x, y]) for i, (kind, x, y, *_) in held.items() if kind != 1
        }
        seconds_left = [(allocation_id, left) for left, allocation_id in cooling]
    else:
        boards = dict(allocator["_held_boards"])
        triads = {i: held.arguments for i, held in allocator["_held_triads"].items()}
        seconds_left = list(cooling.items())
    shared = allocator["_shared_triads"]
    return {
        "width": allocator["width"],
        "height": allocator["height"],
        "next_id": allocator["next_id"],
        "seconds_before_free": allocator["seconds_before_free"],
        "dead_boards": set(allocator["_dead_boards"]),
        "dead_links": _links(allocator["_dead_links"]),
        "boards": boards,
        "triads": triads,
        "cooling": seconds_left,
        "shared_triads": {
            "held": {triad: set(held) for triad, held in shared["_held"].items()},
            "open": list(shared["_open"]),
        },
        "pack_tree": dict(allocator["pack_tree"].state),
    }


def _sizes(tree: _Thing) -> dict[tuple[int, int], tuple[int, int]]:
    """The sizes of the allocated regions of a tree, by their corners."""
    sizes = {}
    waiting = [tree["space"]]
    for kind, where in tree["nodes"]:
        x, y, width, height = waiting.pop()
        if kind == "rows":
            waiting.append((x, where, width, y + height - where))
            waiting.append((x, y, width, where - y))
        elif kind == "columns":
            waiting.append((where, y, x + width - where, height))
            waiting.append((x, y, where - x, height))
        elif kind == "allocated":
            sizes[x, y] = width, height
    return sizes


def _health(health: _Thing | None) -> dict[str, Any]:
    if health is None:
        return {"first_interval": 600.0, "longest_interval": 86_400.0, "boards": {}}
    boards = {}
    for key, problems in health["_problems"].items():
        out = problems["out"]
        boards[key] = {
            "out": None
            if out is None
            else {
                name: out[name]
                for name in ("reason", "since", "waits_for_bmp", "tests")
            },
            "reports": [report.arguments for report in problems["reports"]],
        }
    return {
        "first_interval": health["first_interval"],
        "longest_interval": health["longest_interval"],
        "boards": boards,
    }
