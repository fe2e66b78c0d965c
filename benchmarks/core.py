"""Measurements of the allocator and the job queue, at four sizes of machine."""

import json
from collections.abc import Iterator, Sequence
from typing import Final

from benchmarks.environments import Release
from benchmarks.results import Row, row

GROUP: Final = "Allocation"
SIDES: Final = (10, 20, 40, 64)

ROWS: Final = {
    "fill": ("allocate single boards until full, each", "us", 1.0),
    "churn": ("mixed allocating and freeing, an operation", "us", 1.0),
    "possible_whole": ("alloc_possible(whole machine)", "us", 1.0),
    "possible_quarter": ("alloc_possible(a quarter of the boards)", "us", 1.0),
    "enqueue": ("enqueue behind a full machine, a job", "us", 1.0),
    "regenerate": ("regenerate that queue of 300 jobs", "ms", 1e-3),
}


def measure(releases: Sequence[Release], short: bool) -> Iterator[Row]:
    """Run the script with each release, one size after the other."""
    for side in SIDES[:2] if short else SIDES:
        figures = {}
        for release in releases:
            output = release.run_script("core_script.py", str(int(short)), str(side))
            figures[release.name] = json.loads(output)[str(side)]
        for key, (what, unit, factor) in ROWS.items():
            values = {name: factor * found[key] for name, found in figures.items()}
            yield row(GROUP, what, f"{3 * side * side:,} boards", unit, values)
