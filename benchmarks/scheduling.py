"""Who waits for how long, in virtual time: ``python -m benchmarks scheduling``.

The same made-up jobs are handed to the documented `JobQueue` of both releases. Nothing
depends on the computer but how long that takes: about a minute for each seed.
"""

import argparse
import json
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks import environments, results
from benchmarks.environments import Release
from benchmarks.results import Row, row

LOADS: Final = (0.3, 0.5, 0.6, 0.7, 0.85)
SEEDS: Final = (1, 2, 3, 4, 5)
DAYS: Final = 5

#: What is measured of a trace: its key, in words, its unit, a factor, is more better?
OVERALL: Final = (
    ("mean", "mean wait", "s", 1.0, False),
    ("longest", "longest wait", "h", 1 / 3600, False),
    ("in_use", "boards in use while anybody waits", "%", 100.0, True),
    ("after_sweeps", "mean wait of others' small jobs after a sweep", "s", 1.0, False),
    (
        "prompt_after_sweeps",
        "of those, have boards within 5 minutes",
        "%",
        100.0,
        True,
    ),
)
BY_SIZE: Final = (
    ("mean_by_size", "mean wait", "s", 1.0),
    ("longest_by_size", "longest wait", "h", 1 / 3600),
)

#: What a release made of the trace of each seed.
Found = dict[int, dict[str, Any]]


def measure(
    releases: Sequence[Release],
    loads: Sequence[float],
    seeds: Sequence[int],
    days: float,
    note: Callable[[str], object],
) -> list[Row]:
    """Hand the traces of some loads and seeds to each release."""
    rows: list[Row] = []
    for load in loads:
        found: dict[str, Found] = {release.name: {} for release in releases}
        for seed in seeds:
            for release in releases:
                output = release.run_script(
                    "scheduling_script.py", str(load), str(seed), str(days), timeout=900
                )
                found[release.name][seed] = outcome = json.loads(output)
                note(
                    f"load {load}, seed {seed}: {release.name} {outcome['mean']:.0f} s"
                )
        rows += _rows(load, seeds, found)
    return rows


def _rows(load: float, seeds: Sequence[int], found: dict[str, Found]) -> list[Row]:
    rows = []
    for key, what, unit, factor, more_is_better in OVERALL:
        means = {
            name: factor * _mean(outcomes[seed][key] for seed in seeds)
            for name, outcomes in found.items()
        }
        rows.append(row("All jobs", what, f"load {load}", unit, means, more_is_better))
    for key, what, unit, factor in BY_SIZE:
        sizes = sorted({int(size) for o in found["ours"].values() for size in o[key]})
        for size in sizes:
            means = {
                name: factor
                * _mean(
                    outcomes[seed][key][str(size)]
                    for seed in seeds
                    if str(size) in outcomes[seed][key]
                )
                for name, outcomes in found.items()
            }
            which = f"{size:,} boards, load {load}"
            rows.append(row(f"By size: {what}", what, which, unit, means))
    for key, what, unit, factor, more_is_better in OVERALL:
        for seed in seeds:
            figures = {name: factor * o[seed][key] for name, o in found.items()}
            trace = f"load {load}, seed {seed}"
            rows.append(row("Each seed", what, trace, unit, figures, more_is_better))
    return rows


def _mean(values: Iterable[float]) -> float:
    known = list(values)
    return math.fsum(known) / len(known)


def main(args: Sequence[str]) -> int:
    """Do what the command line says; the exit status."""
    options = _parse(args)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    csv_file = output / "scheduling.csv"
    if options.redraw:
        rows = results.read_csv(csv_file)
    else:
        releases = environments.releases(options.reference, options.no_reference)
        loads, seeds = (LOADS[:1], SEEDS[:1]) if options.short else (LOADS, SEEDS)
        rows = measure(
            releases,
            options.load or loads,
            options.seed or seeds,
            0.5 if options.short else DAYS,
            lambda line: print(line, file=sys.stderr, flush=True),
        )
        results.write_csv(rows, csv_file)
    print(results.table(rows))
    # In the documentation, seeds and most loads are left to the plots and the CSV file.
    shown = [r for r in rows if r.group == "All jobs" or r.size.endswith("load 0.6")]
    results.write_rst(shown, output / "scheduling.inc")
    if not options.no_plot:
        from benchmarks.plots import draw_waits

        draw_waits(rows, output)
    return 0


def _parse(args: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks scheduling",
        description="Measure how long made-up jobs wait with either release.",
    )
    parser.add_argument("--short", action="store_true", help="only prove that it runs")
    parser.add_argument("--load", type=float, action="append", help="only this load")
    parser.add_argument("--seed", type=int, action="append", help="only this seed")
    parser.add_argument(
        "--reference", metavar="PYTHON", help="see the other benchmarks"
    )
    parser.add_argument("--no-reference", action="store_true", help="only this server")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        default=environments.FOLDER / "docs" / "benchmarks",
        help="where to write scheduling.csv, the tables and the plots",
    )
    parser.add_argument("--no-plot", action="store_true", help="do without matplotlib")
    parser.add_argument(
        "--redraw", action="store_true", help="of the results that are there"
    )
    return parser.parse_args(args)
