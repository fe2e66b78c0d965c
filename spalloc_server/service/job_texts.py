"""Jobs in the reply to ``list_jobs``, as text: what a dictionary would say, but faster.

There may be thousands of them, and most of what is told of one is told of many others,
too. That is encoded once; what is a job's own is put in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import isfinite
from typing import Any, Final

from spalloc_server.coordinates import Board
from spalloc_server.model.job_tuples import JobTuple
from spalloc_server.scheduling.waiting import Waiting
from spalloc_server.wire.messages import to_json

_OWN: Final = ("job_id", "start_time", "boards")
"""What is put in for each job by itself, in this order."""


class JobTexts:
    """Tells of jobs that have much in common; they have to stay as long as this."""

    def __init__(self, describe: Callable[[JobTuple], Mapping[str, Any]]) -> None:
        """Nothing has been told yet.

        :param describe: what is told of a job, but for why it waits
        """
        self._describe = describe
        # The texts around what is its own, by all that they tell.
        self._around: dict[tuple[object, ...], list[str]] = {}

    def text(self, job: JobTuple, waiting: Waiting | None) -> str:
        """Tell of a job, and why it waits."""
        job_id, owner, start, keep, state, power, args, kwargs, name, boards, host = job
        # What was asked for need not be hashable; mostly those who have asked in the
        # same words have these in common. 60 and 60.0 are equal, but not as texts.
        asked = id(args), id(kwargs), type(keep)
        kind = owner, keep, state, power, asked, name, host
        around = self._around.get(kind)
        if around is None:
            around = self._around[kind] = _around(self._describe(job))
        before, between, after, end = around
        created = repr(start) if isfinite(start) else to_json(start)
        where = "null" if boards is None else boards_text(boards)
        why = "" if waiting is None else f',"waiting":{waiting_text(waiting)}'
        return f"{before}{job_id}{between}{created}{after}{where}{end}{why}}}"


def _around(reply: Mapping[str, Any]) -> list[str]:
    """The texts before, between and after what is a job's own."""
    text = "{"
    around = []
    for key, value in reply.items():
        if key in _OWN:
            around.append(f"{text}{to_json(key)}:")
            text = ","
        else:
            text += f"{to_json(key)}:{to_json(value)},"
    return [*around, text.removesuffix(",")]


def boards_text(boards: set[Board]) -> str:
    """Boards, in order."""
    return f"[{','.join([f'[{x},{y},{z}]' for x, y, z in sorted(boards)])}]"


def waiting_text(waiting: Waiting) -> str:
    """What `Waiting.to_reply` says."""
    reason, places, about, text = waiting
    queues = []
    for machine, place, _, kept in places:
        part = "null" if kept is None else to_json(kept._asdict())
        queues.append(f'{{"machine":{_common(machine)},"place":{place},"kept":{part}}}')
    when = "null" if about is None else f"[{about[0]},{about[1]}]"
    return (
        f'{{"reason":"{reason}","text":{_common(text)},'
        f'"queues":[{",".join(queues)}],"about":{when}}}'
    )


_common = lru_cache(1024)(to_json)
"""The text of a string that many are told, or of None."""
