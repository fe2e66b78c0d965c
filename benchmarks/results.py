"""What was measured: rows for both releases, as a table, as CSV and for the page."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measurement of both releases."""

    group: str
    what: str
    size: str
    """Of what: boards, clients, jobs."""
    unit: str
    reference: float | None
    """None where the reference was not, or cannot be, measured."""
    ours: float
    limit: float | None = None
    """Of an echo server, the least that there is to do."""
    more_is_better: bool = False

    @property
    def ratio(self) -> float | None:
        """How many times better ours is than the reference."""
        if self.reference is None or not self.ours or not self.reference:
            return None
        ratio = self.reference / self.ours
        return 1 / ratio if self.more_is_better else ratio


def row(
    group: str,
    what: str,
    size: str,
    unit: str,
    figures: Mapping[str, float],
    more_is_better: bool = False,
) -> Row:
    """A row of the figures of releases by name; "echo" is for the limit."""
    return Row(
        group,
        what,
        size,
        unit,
        figures.get("reference"),
        figures["ours"],
        figures.get("echo"),
        more_is_better,
    )


def figure(value: float | None) -> str:
    """A number for people: three digits that count."""
    if value is None:
        return "–"  # noqa: RUF001
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


HEADINGS = ("What", "Size", "Unit", "Reference", "Ours", "Times better", "Limit")


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, below the headings."""
    numbers = (row.reference, row.ours, row.ratio, row.limit)
    return (row.what, row.size, row.unit, *map(figure, numbers))


def table(rows: Iterable[Row]) -> str:
    """The rows as a table for a terminal."""
    return aligned([HEADINGS, *(cells(row) for row in rows)])


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """Lines of text as columns, the first three to the left."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_csv(rows: Iterable[Row], path: Path) -> None:
    """Write the rows, with all digits."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [*(f.name for f in fields(Row)), "ratio"], lineterminator="\n"
        )
        writer.writeheader()
        for item in rows:
            writer.writerow({**asdict(item), "ratio": item.ratio})


def read_csv(path: Path) -> list[Row]:
    """Read what `write_csv` wrote."""

    def number(text: str) -> float | None:
        return float(text) if text else None

    with path.open(newline="") as file:
        return [
            Row(
                line["group"],
                line["what"],
                line["size"],
                line["unit"],
                number(line["reference"]),
                float(line["ours"]),
                number(line["limit"]),
                line["more_is_better"] == "True",
            )
            for line in csv.DictReader(file)
        ]


def write_rst(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as tables, one for each group, for the documentation."""
    lines: list[str] = []
    group = ""
    for item in rows:
        if item.group != group:
            group = item.group
            widths = "34 18 10 10 10 10 10"
            lines += ["", f".. list-table:: {group}", "   :header-rows: 1"]
            lines += [f"   :widths: {widths}", ""]
            lines += _list_table_row(HEADINGS)
        lines += _list_table_row(cells(item))
    path.write_text("\n".join(lines[1:]) + "\n", encoding="utf-8")


def _list_table_row(texts: Iterable[str]) -> list[str]:
    return [f"   {'*' if i == 0 else ' '} - {text}" for i, text in enumerate(texts)]
