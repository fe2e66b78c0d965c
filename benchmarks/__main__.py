"""The command line: measure, print a table, and write CSV, plots and a page's tables.

``python -m benchmarks`` runs everything, in less than 15 minutes on two cores, but for
``python -m benchmarks scheduling`` and ``python -m benchmarks before``, which have
options of their own.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import (
    before,
    commands,
    core,
    environments,
    results,
    scale,
    scheduling,
    snapshots,
)
from benchmarks.results import Row

GROUPS = {
    "core": core,
    "commands": commands,
    "scale": scale,
    "snapshots": snapshots,
}


def main(args: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status."""
    args = sys.argv[1:] if args is None else args
    if args[:1] == ["scheduling"]:
        return scheduling.main(args[1:])
    if args[:1] == ["before"]:
        return before.main(args[1:])
    options = _parse(args)
    output: Path = options.output
    output.mkdir(parents=True, exist_ok=True)
    csv_file = output / "results.csv"
    if options.redraw:
        rows = results.read_csv(csv_file)
    else:
        releases = environments.releases(options.reference, options.no_reference)
        rows = _measured(options.only or list(GROUPS), releases, options.short)
        if options.only and csv_file.exists():
            rows = _replaced(results.read_csv(csv_file), rows)
        results.write_csv(rows, csv_file)
    print(results.table(rows))
    results.write_rst(rows, output / "tables.inc")
    if not options.no_plot:
        from benchmarks.plots import draw

        draw(rows, output)
    print(f"\nWritten to {output}", file=sys.stderr)
    return 0


def _measured(
    groups: Sequence[str], releases: Sequence[environments.Release], short: bool
) -> list[Row]:
    rows: list[Row] = []
    for name in groups:
        for row in GROUPS[name].measure(releases, short):
            rows.append(row)
            print("  ".join(results.cells(row)), file=sys.stderr, flush=True)
    return rows


def _replaced(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """The new rows, and the old ones of the groups that were not measured again."""
    rows: list[Row] = []
    for module in GROUPS.values():
        again = [row for row in new if row.group == module.GROUP]
        rows += again or [row for row in old if row.group == module.GROUP]
    return rows


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description="Measure this server and the reference release.",
    )
    parser.add_argument(
        "--short",
        action="store_true",
        help="only prove that it runs: less of everything, in less than a minute",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(GROUPS),
        help="measure one group, and keep what is there of others; may be given again",
    )
    parser.add_argument(
        "--reference",
        metavar="PYTHON",
        help="an interpreter that has the reference release "
        f"(default: ${environments.REFERENCE_VARIABLE}, "
        "or that of an environment that is made in .bench-envs)",
    )
    parser.add_argument(
        "--no-reference", action="store_true", help="measure only this server"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        default=environments.FOLDER / "docs" / "benchmarks",
        help="where to write results.csv, the tables and the plots "
        "(default: docs/benchmarks, for the documentation)",
    )
    parser.add_argument("--no-plot", action="store_true", help="do without matplotlib")
    parser.add_argument(
        "--redraw",
        action="store_true",
        help="measure nothing: write tables and plots of the results that are there",
    )
    return parser.parse_args(args)


if __name__ == "__main__":
    sys.exit(main())
