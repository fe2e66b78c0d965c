"""How busy the machines were and how long jobs waited, over a week."""

from __future__ import annotations

import math
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from spalloc_server.history.file import HistoryFile
from spalloc_server.history.waiting_times import SIZES, WaitingTimes, size_class
from spalloc_server.model.job_events import JobEvent
from spalloc_server.model.load import Load, MachineLoad

SLOT: Final = 300
"""Seconds of which the samples are kept as one sum."""

HOUR: Final = 3600
"""Seconds of which waits are counted together."""

KEPT_SECONDS: Final = 8 * 86400
"""How long all is remembered."""

STEP: Final = 1.1
"""Waits are told apart by powers of this, in seconds."""

ALL: Final = ""
"""What all machines together are called; no machine can have this name."""


class Span(NamedTuple):
    """A part of the past that can be asked for."""

    seconds: int
    step: int
    """Seconds from one point of the load to the next."""
    waits_step: int
    """Seconds from one point of the waits to the next."""


SPANS: Final[Mapping[str, Span]] = {
    "day": Span(86400, SLOT, HOUR),
    "week": Span(7 * 86400, 6 * SLOT, 6 * HOUR),
}

_LOAD: Final = """
    insert into load values (:slot, :machine, 1, :boards, :in_use, :out,
        :waiting, :wanted)
    on conflict (slot, machine) do update set samples = samples + 1,
        boards = boards + :boards, in_use = in_use + :in_use, out = out + :out,
        waiting = waiting + :waiting, wanted = wanted + :wanted
"""

_WAITS: Final = """
    insert into waits values (?, ?, ?, ?)
    on conflict (slot, size, step) do update set number = number + excluded.number
"""

_SERIES: Final = """
    select slot / :step * :step, 1.0 * sum(boards) / sum(samples),
        1.0 * sum(in_use) / sum(samples), 1.0 * sum(out) / sum(samples),
        1.0 * sum(waiting) / sum(samples), 1.0 * sum(wanted) / sum(samples)
    from load where machine = :machine and slot >= :start and slot < :end
    group by 1 order by 1
"""

_WAITED: Final = """
    select slot / :step * :step, size, step, sum(number)
    from waits where slot >= :start and slot < :end
    group by 1, 2, 3 order by 1, 2, 3
"""

COLUMNS: Final = ("boards", "in_use", "out", "waiting", "wanted")
"""What is told of the load, see `MachineLoad` and `Load`."""


class LoadHistory:
    """Samples of the load, and waits by size, in the file of the history.

    Takes events in one thread and samples in another one; any thread may read. What
    has been waited is written with the next sample.
    """

    def __init__(
        self, file: HistoryFile, clock: Callable[[], float] = time.time
    ) -> None:
        """Keep it in a file that somebody else opens.

        :param clock: gives the time in seconds since 1970 (UTC)
        """
        self._file = file
        self._clock = clock
        self._waits = WaitingTimes(self._note_wait)
        self._lock = threading.Lock()
        self._waited: Counter[tuple[int, str, int]] = Counter()

    def open(self) -> None:
        """Nothing is needed."""

    def take(self, events: Sequence[JobEvent]) -> None:
        """Note how long jobs have waited that are given boards."""
        self._waits.take(events)

    def _note_wait(self, event: JobEvent, seconds: float) -> None:
        slot = int(event.time) // HOUR * HOUR
        with self._lock:
            self._waited[slot, size_class(event.args), _step_of(seconds)] += 1

    def close(self) -> None:
        """Write what has not been written yet."""
        self._write([])

    def add(self, load: Load) -> None:
        """Keep a sample of now, and forget what is old. Waits for the disk."""
        slot = int(self._clock()) // SLOT * SLOT
        machines = load.machines
        every = MachineLoad(
            *(sum(column) for column in zip(*machines.values(), strict=True))
        ) if machines else MachineLoad(0, 0, 0)  # fmt: skip
        total = {
            **{"slot": slot, "machine": ALL, **every._asdict()},
            **{"waiting": load.waiting, "wanted": load.wanted},
        }
        # The sum says it all where there is but one.
        single = machines if len(machines) > 1 else {}
        rows = [
            {
                **{"slot": slot, "machine": name, **one._asdict()},
                **{"waiting": 0, "wanted": 0},
            }
            for name, one in single.items()
        ]
        self._write([total, *rows])

    def _write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        with self._lock:
            waited, self._waited = self._waited, Counter()
        if not rows and not waited:
            return
        now = self._clock()

        def change(database: sqlite3.Connection) -> None:
            database.executemany(_LOAD, rows)
            database.executemany(_WAITS, [(*key, n) for key, n in waited.items()])
            for table in ("load", "waits"):
                # Of times to come, too: the computer's clock was wrong.
                database.execute(
                    f"delete from {table} where slot < ? or slot > ?",
                    (now - KEPT_SECONDS, now + HOUR),
                )

        self._file.write(change)

    def machines(self) -> list[str]:
        """The machines of which something is known by themselves, in order.

        :raises sqlite3.Error: if the file cannot be read
        """
        found = self._file.read(
            lambda database: database.execute(
                "select distinct machine from load where machine != ? order by 1",
                (ALL,),
            ).fetchall()
        )
        return [name for (name,) in found]

    def series(self, span: Span, machine: str = ALL) -> dict[str, Any]:
        """The load up to now: lists of means, null where nothing is known.

        :return: ``start`` (seconds since 1970) and ``step`` of the points, and a list
            for each of `COLUMNS`
        :raises sqlite3.Error: if the file cannot be read
        """
        start, end = self._limits(span.seconds, span.step)
        values = {"step": span.step, "machine": machine, "start": start, "end": end}
        found = self._file.read(
            lambda database: database.execute(_SERIES, values).fetchall()
        )
        number = (end - start) // span.step
        columns: dict[str, list[float | None]]
        columns = {name: [None] * number for name in COLUMNS}
        for slot, *row in found:
            for column, value in zip(columns.values(), row, strict=True):
                column[(slot - start) // span.step] = round(value, 2)
        return {"start": start, "step": span.step, **columns}

    def waits(self, span: Span) -> dict[str, Any]:
        """How long jobs waited that were given boards then, by size.

        :return: ``start`` and ``step`` of the points as in `series`, and ``sizes``: for
            each of `SIZES` lists of how many ``jobs`` there were, and of the seconds
            that half of them (``median``), and 95 % (``most``), waited at most, null
            where there were none; and in ``all`` the same of all points together
        :raises sqlite3.Error: if the file cannot be read
        """
        start, end = self._limits(span.seconds, span.waits_step)
        values = {"step": span.waits_step, "start": start, "end": end}
        found = self._file.read(
            lambda database: database.execute(_WAITED, values).fetchall()
        )
        counts: dict[tuple[int, str], list[tuple[int, int]]] = {}
        for slot, size, step, jobs in found:
            counts.setdefault((slot, size), []).append((step, jobs))
        slots = range(start, end, span.waits_step)
        sizes = {}
        for size in SIZES:
            of_slots = [counts.get((slot, size), []) for slot in slots]
            whole = Counter[int]()
            for one in of_slots:
                for step, jobs in one:
                    whole[step] += jobs
            ordered = sorted(whole.items())
            sizes[size] = {
                "jobs": [sum(jobs for _, jobs in one) for one in of_slots],
                "median": [_quantile(one, 0.5) for one in of_slots],
                "most": [_quantile(one, 0.95) for one in of_slots],
                "all": {
                    "jobs": sum(whole.values()),
                    "median": _quantile(ordered, 0.5),
                    "most": _quantile(ordered, 0.95),
                },
            }
        return {"start": start, "step": span.waits_step, "sizes": sizes}

    def _limits(self, seconds: int, step: int) -> tuple[int, int]:
        """Between which times points lie; the last one has now in it."""
        end = int(self._clock()) // step * step + step
        return end - seconds, end


def _step_of(seconds: float) -> int:
    """The power of `STEP` that is nearest; below a second it is 0."""
    return 0 if seconds < 1.0 else 1 + round(math.log(seconds, STEP))


def _quantile(counts: Sequence[tuple[int, int]], share: float) -> float | None:
    """So many seconds such a share of the jobs have waited at most.

    :param counts: how many jobs have waited how long, in order: see `_step_of`
    """
    missing = share * sum(jobs for _, jobs in counts)
    for step, jobs in counts:
        missing -= jobs
        if missing <= 0:
            return 0.0 if step == 0 else float(f"{STEP ** (step - 1):.3g}")
    return None
