"""Placements recorded from release 1!7.0.0, which sites have scripts for.

``golden/placements.json`` holds sequences of requests to allocators of random
machines with dead boards and links, and what each request got.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.allocator import Allocator
from spalloc_server.job_queue import JobQueue
from spalloc_server.links import Links

RECORDED = json.loads(
    (Path(__file__).parent / "golden" / "placements.json").read_text()
)


@pytest.mark.parametrize("recorded", RECORDED)
def test_allocations_are_the_recorded_ones(recorded: dict[str, Any]) -> None:
    machine = recorded["machine"]
    allocator = Allocator(
        machine["width"],
        machine["height"],
        {(x, y, z) for x, y, z in machine["dead_boards"]},
        {(x, y, z, Links(link)) for x, y, z, link in machine["dead_links"]},
        seconds_before_free=0,
    )
    for step in recorded["steps"]:
        if "free" in step:
            allocator.free(step["free"])
            continue
        args, kwargs = step["args"], step["kwargs"]
        assert allocator.alloc_possible(*args, **kwargs) == step["possible"]
        expected = step["allocation"]
        found = allocator.alloc(*args, **kwargs)
        if expected is None:
            assert found is None
            continue
        assert found is not None
        assert found.allocation_id == expected["id"]
        assert sorted(map(list, found.boards)) == expected["boards"]
        assert sorted(map(list, found.periphery)) == expected["periphery"]
        assert found.torus == expected["torus"]


@pytest.mark.parametrize("scheduling", ["fifo", "backfill"])
@pytest.mark.parametrize("recorded", RECORDED)
def test_jobs_are_given_the_recorded_boards_where_nobody_waits(
    recorded: dict[str, Any], scheduling: str
) -> None:
    given: dict[int, Any] = {}
    queue = JobQueue(
        lambda job_id, _, *found: given.update({job_id: found}),
        lambda *_: None,
        lambda *_: None,
        seconds_before_free=0,
        scheduling=scheduling,
    )
    machine = recorded["machine"]
    queue.add_machine(
        "m",
        machine["width"],
        machine["height"],
        dead_boards={(x, y, z) for x, y, z in machine["dead_boards"]},
        dead_links={(x, y, z, Links(link)) for x, y, z, link in machine["dead_links"]},
    )
    job_of: dict[int, int] = {}
    for job_id, step in enumerate(recorded["steps"]):
        if "free" in step:
            if step["free"] in job_of:
                queue.destroy_job(job_of[step["free"]])
                queue.free(job_of.pop(step["free"]))
            else:
                queue._machines["m"].allocator.free(step["free"])
            continue
        expected = step["allocation"]
        if expected is not None and not step["possible"]:
            # There happens to be room for what the queue would refuse.
            found = queue._machines["m"].allocator.alloc(
                *step["args"], **step["kwargs"]
            )
            assert found is not None
            assert found.allocation_id == expected["id"]
            continue
        queue.create_job(*step["args"], **step["kwargs"], job_id=job_id, owner="me")
        if expected is None:
            assert job_id not in given
            if step["possible"]:
                queue.destroy_job(job_id)
            continue
        job_of[expected["id"]] = job_id
        boards, periphery, torus = given[job_id]
        assert sorted(map(list, boards)) == expected["boards"]
        assert sorted(map(list, periphery)) == expected["periphery"]
        assert torus == expected["torus"]
