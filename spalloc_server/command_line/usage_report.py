"""``spalloc_server_usage``: reports of use, from job logs, for people."""

from __future__ import annotations

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final

from spalloc_server import __version__
from spalloc_server.command_line.terminal import (
    open_standard_streams,
    prepare_output,
    printable,
    say,
)
from spalloc_server.history.usage import (
    KEYS,
    JobKey,
    LogEntries,
    Row,
    report,
    uses,
    within,
)
from spalloc_server.history.waits import WaitRow, created_within, report_waits, waits

LONGEST_NAME: Final = 50
"""So many characters of a name are shown in a table."""

_MARKS: Final = frozenset("'=+-@\t\r\n|%\uff1d\uff0b\uff0d\uff20")
"""What a formula may begin with, in one spreadsheet or another."""


def make_parser() -> argparse.ArgumentParser:
    """The parser of the command line, for whoever reads or describes it."""
    parser = argparse.ArgumentParser(
        prog="spalloc_server_usage",
        description="Report the jobs and board-hours, or the waiting times, that job "
        "logs tell of (spalloc_server --job-log).",
    )
    parser.add_argument(
        "files", metavar="FILE", nargs="+", help="job logs, in any order, also .gz"
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"%(prog)s {__version__}"
    )
    parser.add_argument(
        "--by",
        type=_keys,
        metavar="KEYS",
        help="what to sum up by: owner, machine, day, size (boards asked for), or "
        "several with commas between them (default: owner, with --waits owner,size)",
    )
    parser.add_argument(
        "--waits",
        action="store_true",
        help="report how long jobs waited for boards: the median, and what 95 %% of "
        "them waited at most; days are those on which they came",
    )
    parser.add_argument(
        "--since",
        type=_day,
        default=-math.inf,
        metavar="DAY",
        help="leave out what was before a day, given as YYYY-MM-DD",
    )
    parser.add_argument(
        "--until",
        type=_day,
        default=math.inf,
        metavar="DAY",
        help="leave out this day and what was after it",
    )
    output = parser.add_mutually_exclusive_group()
    output.add_argument("--csv", action="store_true", help="print CSV, not a table")
    output.add_argument(
        "--plot",
        metavar="PICTURE",
        help="draw board-hours into a .png, .svg or .pdf file instead (needs "
        "spalloc_server[plot])",
    )
    return parser


def _keys(text: str) -> tuple[str, ...]:
    keys = tuple(text.split(","))
    if len(set(keys)) < len(keys) or not set(keys) <= set(KEYS):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not made of {', '.join(KEYS)}, each at most once"
        )
    return keys


def _day(text: str) -> float:
    return datetime.strptime(text, "%Y-%m-%d").timestamp()


# As argparse's error messages call them.
_keys.__name__ = "list of keys"
_day.__name__ = "day"


def main(args: Sequence[str] | None = None) -> int:
    """Print or draw a report. Returns the exit status: 1 if a file cannot be used.

    :param args: the arguments, those of the process if None
    """
    open_standard_streams()
    prepare_output()
    parser = make_parser()
    options = parser.parse_args(args)
    if options.waits and options.plot is not None:
        parser.error("--plot is of board-hours: not with --waits")
    try:
        _report(options)
    except (OSError, ValueError, ImportError) as e:
        print(printable(f"spalloc_server_usage: {e}"), file=sys.stderr)
        return 1
    return 0


def _report(options: argparse.Namespace) -> None:
    logs = LogEntries()
    entries = logs.read(options.files)
    incomplete = set[JobKey]()
    if options.waits:
        keys = options.by or ("owner", "size")
        waited = created_within(
            waits(entries, incomplete), options.since, options.until
        )
        wait_rows = report_waits(waited, keys)
        left_out = "left out"
    else:
        keys = options.by or ("owner",)
        found = within(uses(entries, incomplete), options.since, options.until)
        rows = report(found, keys)
        left_out = "whose use is estimated"
    if logs.bad_lines:
        print(f"{logs.bad_lines} unreadable lines were ignored", file=sys.stderr)
    if incomplete:
        text = f"jobs with incomplete records, {left_out}"
        print(f"{text}: {len(incomplete)}", file=sys.stderr)
    if options.waits:
        _print_waits(wait_rows, keys, options.csv)
    elif options.plot is not None:
        plot(rows, keys, options.plot)
    elif options.csv:
        lines = [(*row.group, str(row.jobs), f"{row.board_hours:.4f}") for row in rows]
        _print_csv([*keys, "jobs", "board_hours"], lines, len(keys))
    else:
        lines = [(*row.group, str(row.jobs), f"{row.board_hours:.2f}") for row in rows]
        _print_table([*keys, "jobs", "board-hours"], lines, len(keys))


def _print_waits(rows: Sequence[WaitRow], keys: Sequence[str], as_csv: bool) -> None:
    def numbers(row: WaitRow) -> tuple[str, ...]:
        times = (row.median, row.most)
        if as_csv:
            told = ["" if time is None else f"{time:.3f}" for time in times]
        else:
            told = ["-" if time is None else _duration(time) for time in times]
        return (*row.group, str(row.jobs), *told, str(row.without))

    lines = [numbers(row) for row in rows]
    if as_csv:
        names = ["jobs", "median_seconds", "seconds_of_95_percent", "without_boards"]
        _print_csv([*keys, *names], lines, len(keys))
    else:
        names = ["jobs", "median", "95 %", "without boards"]
        _print_table([*keys, *names], lines, len(keys))


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds, from the largest that there are."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _print_csv(names: Sequence[str], lines: Iterable[Sequence[str]], keys: int) -> None:
    """Print rows, of which so many columns at the beginning are names."""
    # All is quoted, so that there is one way only to take the columns apart.
    text = io.StringIO()
    writer = csv.writer(text, quoting=csv.QUOTE_ALL)
    writer.writerow(names)
    for line in lines:
        writer.writerow([*map(_inert, line[:keys]), *line[keys:]])
    say(text.getvalue(), end="")


def _inert(name: str) -> str:
    """A name that no spreadsheet takes for a formula.

    Where one could, or begins with an apostrophe, an apostrophe is put before it; so
    a program gets the name back by removing one apostrophe at the beginning.
    """
    begins = name.lstrip()[:1]
    return f"'{name}" if name[:1] in _MARKS or begins in _MARKS else name


def _print_table(
    names: Sequence[str], lines: Iterable[Sequence[str]], keys: int
) -> None:
    """Print rows, of which so many columns at the beginning are names."""
    shown = [list(names)]
    for line in lines:
        group = [_cut(_printable(name)) or "-" for name in line[:keys]]
        shown.append([*group, *line[keys:]])
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = [
            cell.ljust(width) if i < keys else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        say("  ".join(cells).rstrip())


def _cut(name: str) -> str:
    """A name that leaves room for the numbers."""
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 3]}..."


def _printable(name: str) -> str:
    """A name without anything that could change the terminal."""
    return "".join(c if c.isprintable() else "?" for c in name)


def plot(rows: Sequence[Row], keys: Sequence[str], filename: str) -> None:
    """Draw board-hours: by day where days are told apart, in bars otherwise.

    :raises ImportError: without matplotlib, else what that raises
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 6), layout="constrained")
    axes = figure.add_subplot()
    axes.set_axisbelow(True)
    axes.grid(axis="x" if "day" not in keys else "y", alpha=0.3)
    if "day" in keys:
        at = list(keys).index("day")
        days = sorted({row.group[at] for row in rows})
        below = dict.fromkeys(days, 0.0)
        series = sorted({_label(row.group, at) for row in rows})
        for name in series:
            hours = dict.fromkeys(days, 0.0)
            for row in rows:
                if _label(row.group, at) == name:
                    hours[row.group[at]] += row.board_hours
            axes.bar(
                days, list(hours.values()), bottom=list(below.values()), label=name
            )
            below = {day: below[day] + hours[day] for day in days}
        axes.tick_params(axis="x", rotation=60)
        axes.set_ylabel("board-hours")
        if series not in ([], [""]):
            axes.legend()
    else:
        labels = [_label(row.group) for row in rows]
        axes.barh(labels, [row.board_hours for row in rows])
        axes.invert_yaxis()
        axes.set_xlabel("board-hours")
    figure.savefig(filename)


def _label(group: Sequence[str], without: int | None = None) -> str:
    names = [_printable(name) or "-" for i, name in enumerate(group) if i != without]
    # matplotlib would take dollars for mathematics.
    return ", ".join(names).replace("$", r"\$")
