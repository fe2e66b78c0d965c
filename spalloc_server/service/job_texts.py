"""Jobs in the reply to ``list_jobs``, as text: what a dictionary would say, but faster.

There may be thousands of them, and most of what is told of one is told of many others,
too. That is encoded once; what is a job's own is put in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite
from typing import Any, Final

from spalloc_server.coordinates import Board
from spalloc_server.model.job_tuples import JobTuple
from spalloc_server.scheduling.waiting import Waiting
from spalloc_server.wire.messages import quoted, to_json

_OWN: Final = ("job_id", "owner", "start_time", "boards", "keepalivehost")
"""What is put in for each job by itself."""

MOST_REMEMBERED: Final = 100
"""How many texts are kept: they may be long, and so may a client take to read them."""


class JobTexts:
    """Tells of jobs that have much in common; they have to stay as long as this."""

    def __init__(self, describe: Callable[[JobTuple], Mapping[str, Any]]) -> None:
        """Nothing has been told yet.

        :param describe: what is told of a job, but for why it waits
        """
        self._describe = describe
        # What is told of many, by all that it tells.
        self._common: dict[tuple[object, ...], str] = {}

    def text(self, job: JobTuple, waiting: Waiting | None) -> str:
        """Tell of a job, and why it waits."""
        job_id, owner, start, keep, state, power, args, kwargs, name, boards, host = job
        # What was asked for need not be hashable; mostly those who have asked in the
        # same words have these in common. 60 and 60.0 are equal, but not as texts.
        kind = keep, type(keep), state, power, name, id(args), id(kwargs)
        common = self._common.get(kind)
        if common is None:
            if len(self._common) >= MOST_REMEMBERED:
                self._common.clear()
            reply = self._describe(job)
            rest = {key: value for key, value in reply.items() if key not in _OWN}
            common = self._common[kind] = to_json(rest)[1:-1]
        created = repr(start) if isfinite(start) else to_json(start)
        where = "null" if boards is None else boards_text(boards)
        why = "" if waiting is None else f',"waiting":{waiting_text(waiting)}'
        return (
            f'{{"job_id":{job_id},"owner":{quoted(owner)},"start_time":{created},'
            f'{common},"boards":{where},"keepalivehost":{quoted(host)}{why}}}'
        )


def boards_text(boards: set[Board]) -> str:
    """Boards, in order."""
    return f"[{','.join([f'[{x},{y},{z}]' for x, y, z in sorted(boards)])}]"


def waiting_text(waiting: Waiting) -> str:
    """What `Waiting.to_reply` says."""
    reason, places, about, text = waiting
    queues = []
    for machine, place, _, kept in places:
        part = "null" if kept is None else to_json(kept._asdict())
        queues.append(f'{{"machine":{quoted(machine)},"place":{place},"kept":{part}}}')
    told = "null" if text is None else quoted(text)
    when = "null" if about is None else f"[{about[0]},{about[1]}]"
    return (
        f'{{"reason":"{reason}","text":{told},"queues":[{",".join(queues)}],'
        f'"about":{when}}}'
    )
