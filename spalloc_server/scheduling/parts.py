"""Which part of a machine to keep for a job, and when to expect it to be free.

How long jobs run is not known. What is known is that most are short and a few are very
long, and that who has run for long is likely to go on for long: of jobs that have run
for some time, about half run for as long again. Times are expected from that alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeVar

#: Of jobs that have run for ``age`` seconds, (1 + t / (age + START)) ** -STEEPNESS are
#: expected to run for more than ``t`` seconds more.
START = 600.0
STEEPNESS = 1.0

#: The longest time that is expected, and how exactly it is worked out.
_LONGEST = 8 * 86_400.0
_STEPS = 12

_Place = TypeVar("_Place")


class Part(NamedTuple):
    """A part that was chosen."""

    expected: float
    """In how many seconds it is expected to be free."""
    holders: frozenset[int]
    """The allocations that have boards of it."""


def expected_time(ages: Sequence[float]) -> float:
    """In how many seconds jobs are expected to have ended, all of them.

    :param ages: how many seconds they have run for
    """
    if not ages:
        return 0.0
    scales = [START + max(0.0, age) for age in ages]
    low, high = 1.0, _LONGEST
    for _ in range(_STEPS):
        middle = (low * high) ** 0.5
        left = sum((1.0 + middle / scale) ** -STEEPNESS for scale in scales)
        if left > 0.5:
            low = middle
        else:
            high = middle
    return high


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
        time = expected_time(ages)
        if best is None or time < best[1]:
            best = place, time
    return best
