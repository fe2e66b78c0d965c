"""Is anything slower than it was? This tree beside an earlier one, measured in turn.

``python -m benchmarks before FOLDER``, where the folder is a checkout of an earlier
commit (``git worktree add FOLDER COMMIT``). What measures is the code of this tree.
"""

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Final

from benchmarks import commands, core, scale
from benchmarks.environments import Release, ours
from benchmarks.results import Row, aligned, figure

# A snapshot is asked for by a hook in the server's own code, which an earlier tree
# need not have.
GROUPS: Final = {"core": core, "commands": commands, "scale": scale}

HEADINGS: Final = ("What", "Size", "Unit", "Before", "Now", "Times")


@dataclass(frozen=True)
class Comparison:
    """The best figures of a row, of several rounds."""

    what: str
    size: str
    unit: str
    before: float
    now: float
    more_is_better: bool

    @property
    def times(self) -> float:
        """How many times worse it is now: above 1 it has become slower, or larger."""
        worse, better = (
            (self.before, self.now) if self.more_is_better else (self.now, self.before)
        )
        if worse == better:
            return 1.0
        return worse / better if better else float("inf")

    @property
    def cells(self) -> tuple[str, ...]:
        """As text, below the headings."""
        numbers = (figure(self.before), figure(self.now), f"{self.times:.2f}")
        return (self.what, self.size, self.unit, *numbers)


def compared(rows: Iterable[Row]) -> list[Comparison]:
    """The best of all rounds, since whatever else a computer does makes figures worse.

    :param rows: of any number of rounds, each with the earlier tree as the reference
    """
    found: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        if row.reference is not None:
            found.setdefault((row.what, row.size), []).append(row)
    return [_best(rounds) for rounds in found.values()]


def _best(rounds: Sequence[Row]) -> Comparison:
    first = rounds[0]
    best = max if first.more_is_better else min
    before = best(row.reference for row in rounds if row.reference is not None)
    now = best(row.ours for row in rounds)
    return Comparison(
        first.what, first.size, first.unit, before, now, first.more_is_better
    )


def measured(
    groups: Iterable[ModuleType], folder: Path, rounds: int, short: bool
) -> Iterator[Row]:
    """Measure both trees in turn; each round begins with the other one.

    :param folder: the earlier tree
    """
    trees = [Release("reference", sys.executable, False, folder.resolve()), ours()]
    for group in groups:
        for _ in range(rounds):
            yield from group.measure(trees, short)
            trees.reverse()


def main(args: Sequence[str] | None = None) -> int:
    """Do what the command line says; the exit status, 1 if something is slower."""
    options = _parse(args)
    groups = [GROUPS[name] for name in options.only or GROUPS]
    rows: list[Row] = []
    for row in measured(groups, options.folder, options.rounds, options.short):
        rows.append(row)
        for one in compared([row]):
            print(*one.cells, sep="  ", file=sys.stderr, flush=True)
    found = compared(rows)
    print(aligned([HEADINGS, *(one.cells for one in found)]))
    most = 1 + options.percent / 100
    slower = [one for one in found if one.times > most]
    print(f"\n{len(slower)} of {len(found)} more than {options.percent:g} % worse")
    for one in slower:
        print(f"  {one.what}, {one.size}: {one.times:.2f}")
    return 1 if slower else 0


def _parse(args: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks before",
        description="Measure this tree and an earlier one in turn.",
    )
    parser.add_argument(
        "folder", type=Path, metavar="FOLDER", help="a checkout of an earlier commit"
    )
    parser.add_argument(
        "--rounds",
        type=int,
        default=3,
        metavar="N",
        help="measure so many times, and take the best (default: %(default)s)",
    )
    parser.add_argument(
        "--percent",
        type=float,
        default=5.0,
        metavar="P",
        help="what is more than P percent worse makes the exit status 1 "
        "(default: %(default)g)",
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(GROUPS),
        help="measure one group; may be given again",
    )
    parser.add_argument(
        "--short", action="store_true", help="only prove that it runs: less of all"
    )
    options = parser.parse_args(args)
    if not (options.folder / "spalloc_server").is_dir():
        parser.error(f"{options.folder} has no spalloc_server in it")
    return options
