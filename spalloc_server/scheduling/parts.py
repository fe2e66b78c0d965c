"""Which part of a machine is expected to be free first, and when.

How long jobs run is not known. What is known is that most are short and a few are very
long, and that who has run for long is likely to go on for long. Times are expected from
that alone: they need not be right, only put parts in a sensible order.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

#: Of jobs that have run for ``age`` seconds, (1 + t / (age + START)) ** -2 are expected
#: to run for more than ``t`` seconds more.
START = 600.0

#: The longest time that is expected, and in how many steps it is worked out.
_LONGEST = 8 * 86_400.0
_STEPS = 12

_Place = TypeVar("_Place")


def expected_time(ages: Sequence[float]) -> float:
    """In how many seconds all of these jobs are expected to have ended.

    That is when half a job is expected to be left.

    :param ages: how many seconds they have run for
    """
    if not ages:
        return 0.0
    scales = [START + max(0.0, age) for age in ages]
    low, high = 1.0, _LONGEST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        if _left(scales, middle) > 0.5:
            low = middle
        else:
            high = middle
    return high


def _left(scales: Iterable[float], time: float) -> float:
    """How many jobs are expected to be left after some seconds."""
    return sum((1.0 + time / scale) ** -2 for scale in scales)


def best_part(
    parts: Iterable[tuple[_Place, Sequence[float]]],
) -> tuple[_Place, float] | None:
    """The part that is expected to be free first; of equal ones the first.

    :param parts: places, and how long those have run that hold boards there
    :return: a place, and in how many seconds it is expected to be free; None where
        there are no parts
    """
    best: tuple[_Place, float] | None = None
    for place, ages in parts:
        if best is not None:
            scales = [START + max(0.0, age) for age in ages]
            if _left(scales, best[1]) > 0.5:
                continue
        time = expected_time(ages)
        if best is None or time < best[1]:
            best = place, time
    return best
