"""State of older schemas, as plain data of the present one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from spalloc_server.plain.shapes import PlainDataError


def of_present_schema(data: Any) -> Any:
    """Bring plain data from an older schema to the present one, step by step.

    :param data: not checked yet, and not changed
    :return: not checked yet; what is no plain data of an older schema is left as it is
    :raises PlainDataError: if it is not what its schema says it is
    """
    while isinstance(data, dict) and data.get("schema") in _STEPS:
        try:
            data = _STEPS[data["schema"]](data)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise PlainDataError(
                f"state of schema {data['schema']}: {type(e).__name__}: {e}"
            ) from e
    return data


def _from_2(data: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 2 knew one rule of scheduling, and nothing of owners or of the time."""
    known = {job["id"]: job for job in (*data["ending_jobs"], *data["jobs"])}
    queue = data["job_queue"]
    jobs = []
    for number, job in enumerate(queue["jobs"], 1):
        of_client = known[job["id"]]
        jobs.append(
            {
                **job,
                "owner": of_client["owner"],
                "number": number,
                "queued_at": of_client["start_time"],
                # Nothing better is known.
                "started_at": of_client["start_time"],
            }
        )
    numbers = {job["id"]: job["number"] for job in jobs}
    machines = [
        {
            **machine,
            "queue": [(job_id, 0, numbers[job_id], 0) for job_id in machine["queue"]],
            "round": 0,
            "rounds": [],
            "head": None,
            "looked": 0.0,
            "keep_at_once": False,
            "kept": None,
        }
        for machine in queue["machines"]
    ]
    return {
        **data,
        "schema": 3,
        "job_queue": {
            **queue,
            "scheduling": "fifo",
            "longest_overtaking": 28_800.0,
            "boards_per_owner": None,
            "jobs_per_owner": None,
            "time": (0.0, 0.0),
            "arrivals": len(jobs),
            "requeued": 0,
            "machines": machines,
            "jobs": jobs,
        },
    }


def _from_3(data: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 3: nothing was drained or closed, and what failed made jobs impossible.

    It was not kept since when jobs have their boards.
    """
    jobs = {
        name: [{**job, "allocated_at": None} for job in data[name]]
        for name in ("jobs", "ending_jobs")
    }
    return {
        **data,
        **jobs,
        "schema": 4,
        "withheld": {"drained": {}, "closed": {}, "all_closed": None},
        "rules": 3,
    }


def _from_4(data: Mapping[str, Any]) -> dict[str, Any]:
    """Schema 4: machines were dictionaries, though the journal had them as lists."""
    machines = [
        [
            machine["name"],
            sorted(machine["tags"]),
            machine["width"],
            machine["height"],
            sorted(map(list, machine["dead_boards"])),
            sorted(map(list, machine["dead_links"])),
            *(
                sorted([_row(key), _row(value)] for key, value in machine[name].items())
                for name in ("board_locations", "bmp_ips")
            ),
            # Not in order, for what is no text has none.
            [[_row(key), value] for key, value in machine["spinnaker_ips"].items()],
        ]
        for machine in data["machines"]
    ]
    return {**data, "schema": 5, "machines": machines}


def _row(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


_STEPS: Final[Mapping[int, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    2: _from_2,
    3: _from_3,
    4: _from_4,
}
