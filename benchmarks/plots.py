"""Plots of the results. Needs matplotlib: ``requirements-bench.txt``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

from benchmarks import commands, core, results
from benchmarks.results import Row

mpl.use("Agg")
# The same picture for the same figures: no random names, no dates.
mpl.rcParams["svg.hashsalt"] = "spalloc"
mpl.rcParams["svg.fonttype"] = "none"

STYLES = {
    "reference": {"color": "#b3261e", "marker": "s"},
    "ours": {"color": "#1f6fb2", "marker": "o"},
    "limit": {"color": "#6c7983", "marker": "", "linestyle": ":"},
}


def draw(rows: Sequence[Row], folder: Path) -> None:
    """Write a plot of how cost grows for each group that was measured."""
    by_board = [row for row in rows if row.group == core.GROUP]
    if by_board:
        _draw(by_board, folder / "allocation.svg", 3, "boards")
    by_client = [
        row
        for row in rows
        if row.group == commands.GROUP
        and row.what.split(": ")[-1]
        in ("calls a second", "processor time a call", "99 %")
        and "packet" not in row.what
        and row.size.split()[1] in ("client", "clients")
    ]
    if by_client:
        _draw(by_client, folder / "commands.svg", 3, "clients")


def _draw(rows: Sequence[Row], path: Path, columns: int, axis: str) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    subjects = list(dict.fromkeys(row.what for row in rows))
    lines = -(-len(subjects) // columns)
    figure = Figure(figsize=(4 * columns, 3 * lines), layout="constrained")
    panels: Any = figure.subplots(lines, columns, squeeze=False)
    for panel, subject in zip(panels.flat, subjects, strict=False):
        chosen = [row for row in rows if row.what == subject]
        sizes = [int(row.size.split()[0].replace(",", "")) for row in chosen]
        for name, style in STYLES.items():
            figures = [getattr(row, name) for row in chosen]
            if None not in figures:
                panel.plot(sizes, figures, label=name, **style)
        panel.set(xscale="log", yscale="log", title=subject, xlabel=axis)
        panel.set_xticks(sizes, [f"{size:,}" for size in sizes])
        panel.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(lambda value, _position: results.figure(value))
        panel.minorticks_off()
        panel.set_ylabel(chosen[0].unit)
        panel.title.set_fontsize(9)
        panel.grid(alpha=0.3)
    for panel in panels.flat[len(subjects) :]:
        panel.remove()
    panels.flat[0].legend()
    figure.savefig(path, metadata={"Date": None})


def draw_waits(rows: Sequence[Row], folder: Path) -> None:
    """Write plots of how long jobs wait, by load and by size."""
    for what, name in (("mean wait", "mean"), ("longest wait", "longest")):
        _draw_by_size([r for r in rows if r.group == f"By size: {what}"], folder, name)
    _draw_by_load([r for r in rows if r.group == "All jobs"], folder)


def _draw_by_size(rows: Sequence[Row], folder: Path, name: str) -> None:
    from matplotlib.figure import Figure

    loads = list(dict.fromkeys(row.size.split(", load ")[1] for row in rows))
    figure = Figure(figsize=(4 * len(loads), 3.2), layout="constrained")
    panels: Any = figure.subplots(1, len(loads), squeeze=False, sharey=True)
    for panel, load in zip(panels.flat, loads, strict=True):
        chosen = [row for row in rows if row.size.endswith(f", load {load}")]
        sizes = [row.size.split(" boards")[0] for row in chosen]
        for release in ("reference", "ours"):
            figures = [getattr(row, release) for row in chosen]
            if None not in figures:
                panel.plot(sizes, figures, label=release, **STYLES[release])
        panel.set(yscale="log", title=f"load {load}", xlabel="boards asked for")
        panel.tick_params(axis="x", labelrotation=60)
        panel.grid(alpha=0.3)
    panels[0][0].set_ylabel(f"{rows[0].what}, {rows[0].unit}")
    panels[0][0].legend()
    figure.savefig(folder / f"waits-{name}.svg", metadata={"Date": None})


def _draw_by_load(rows: Sequence[Row], folder: Path) -> None:
    from matplotlib.figure import Figure

    subjects = list(dict.fromkeys(row.what for row in rows))
    figure = Figure(figsize=(4 * len(subjects), 3), layout="constrained")
    panels: Any = figure.subplots(1, len(subjects), squeeze=False)
    for panel, subject in zip(panels.flat, subjects, strict=True):
        chosen = [row for row in rows if row.what == subject]
        loads = [float(row.size.split()[1]) for row in chosen]
        for release in ("reference", "ours"):
            figures = [getattr(row, release) for row in chosen]
            if None not in figures:
                panel.plot(loads, figures, label=release, **STYLES[release])
        scale = "linear" if chosen[0].unit == "%" else "log"
        panel.set(yscale=scale, xlabel="offered load", ylabel=chosen[0].unit)
        panel.set_title(subject, fontsize=9)
        panel.grid(alpha=0.3)
    panels[0][0].legend()
    figure.savefig(folder / "waits-by-load.svg", metadata={"Date": None})
