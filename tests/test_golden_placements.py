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
