"""State of older schemas, made into that of the present one, a step at a time.

Schema 1 was a pickle of all the objects themselves; `spalloc_server.storage.legacy`
makes schema 2 of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final


def _from_2(data: dict[str, Any]) -> dict[str, Any]:
    """Nothing could be drained or closed, and what failed made jobs impossible.

    It was not kept since when jobs have their boards.
    """
    nothing: dict[str, Any] = {"drained": {}, "closed": {}, "all_closed": None}
    jobs = {
        name: [{**job, "allocated_at": None} for job in data.get(name, ())]
        for name in ("jobs", "ending_jobs")
    }
    return {**data, **jobs, "withheld": nothing, "rules": 2}


_STEPS: Final[dict[int, Callable[[dict[str, Any]], dict[str, Any]]]] = {2: _from_2}
"""By the schema from which they lead to the next one."""


def upgraded(data: Any) -> Any:
    """Give plain data of an older schema the form of the present one.

    :param data: not checked yet, and not changed
    """
    while isinstance(data, dict) and data.get("schema") in _STEPS:
        schema = data["schema"]
        data = {**_STEPS[schema](data), "schema": schema + 1}
    return data
