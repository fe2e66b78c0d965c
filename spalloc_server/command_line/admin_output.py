"""What ``spalloc_server_admin`` prints for people."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

_UNITS: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def lines(command: str, value: Any) -> Iterator[str]:
    """The answer to a command, as lines of text."""
    return iter(_WRITERS[command](value))


def _status(status: dict[str, Any]) -> Iterator[str]:
    host, port = status["address"]
    yield (
        f"spalloc_server {status['version']}, process {status['process']}, at "
        f"{host} port {port}, up {_duration(status['uptime'])}, "
        f"{_count(status['clients'], 'client')}"
    )
    state = status["state"]
    snapshot = state["last_snapshot"]
    yield f"config: {status['config']}"
    yield f"state: {state['file']}; last snapshot: " + (
        "before the start" if snapshot is None else _time(snapshot)
    )
    if state["problem"] is not None:
        yield f"PROBLEM: changes cannot be stored: {state['problem']}"
    yield "jobs: " + ", ".join(f"{n} {name}" for name, n in status["jobs"].items())
    if status["closed"] is not None:
        yield f"all machines are closed: {_order(status['closed'])}"
    for machine in status["machines"]:
        yield from _machine(machine, status["closed"])


def _machine(machine: dict[str, Any], all_closed: object) -> Iterator[str]:
    boards = dict(machine["boards"])
    number = boards.pop("all")
    states = ", ".join(f"{n} {state}" for state, n in boards.items() if n)
    yield f"machine {machine['name']}: {_count(number, 'board')}: {states or 'none'}"
    if machine["closed"] not in (None, all_closed):
        yield f"  closed: {_order(machine['closed'])}"
    for frame in machine["silent_frames"]:
        yield (
            f"  cabinet {frame['cabinet']} frame {frame['frame']}: BMP {frame['bmp']} "
            f"does not answer since {_time(frame['since'])}"
        )
    for board in machine["out_of_service"]:
        yield (
            f"  board {_triple(board['board'])} {_place(board['physical'])} is out of "
            f"service since {_time(board['since'])}: {board['reason']}"
        )
    for drain in machine["drained"]:
        frames = [f"cabinet {c} frame {f}" for c, f in drain["frames"]]
        what = ", ".join(frames) or _some([_triple(b) for b in drain["boards"]])
        number = len(drain["boards"])
        yield f"  drained, {_count(number, 'board')} ({what}): {_order(drain)}"
    queue = machine["queue"]
    head = queue["head"]
    if head is not None:
        yield (
            f"  queue: {_count(queue['length'], 'job')}; first: job {head['job_id']} "
            f"of {head['owner']}, for {_size(head['args'])}, since "
            f"{_time(head['start_time'])}"
        )
        note = _waiting(head, machine["name"])
        if note:
            yield f"    {note}"


def _jobs(jobs: Sequence[dict[str, Any]]) -> Iterator[str]:
    rows = [("job", "owner", "state", "asks for", "machine", "boards", "since", "")]
    for job in jobs:
        boards = job["boards"]
        rows.append(
            (
                str(job["job_id"]),
                job["owner"],
                job["state"],
                _size(job["args"]),
                job["allocated_machine_name"] or ",".join(job["queues"]),
                "" if boards is None else str(len(boards)),
                _time(job["allocated_at"] or job["start_time"]),
                _waiting(job),
            )
        )
    return _table(rows)


def _waiting(job: dict[str, Any], machine: str | None = None) -> str:
    """Why a job waits, as far as that is more than its turn.

    :param machine: what is kept for it only there
    """
    waiting = job["waiting"]
    if waiting is None:
        return ""
    if waiting["text"] is not None:
        return str(waiting["text"])
    notes = ["its owner has all boards that an owner may hold"]
    if waiting["reason"] != "limit":
        notes = [
            f"{kept['boards']} boards of {queue['machine']} are kept for it since "
            f"{_time(kept['since'])}; {kept['jobs']} jobs hold {kept['held']} of them"
            for queue in waiting["queues"]
            if (kept := queue["kept"]) is not None
            and machine in (None, queue["machine"])
        ]
    if waiting["about"] is not None:
        first, last = map(_time, waiting["about"])
        notes.append(f"may start between about {first} and {last}")
    return "; ".join(notes)


def _boards(boards: Sequence[dict[str, Any]]) -> Iterator[str]:
    heading = "machine board place address state job owner since"
    rows = [[*heading.split(), ""]]
    for board in boards:
        note = [board["problem"] or ""]
        if board["drained"] is not None:
            note.insert(0, _order(board["drained"]))
        rows.append(
            [
                board["machine"],
                _triple(board["board"]),
                " ".join(map(str, board["physical"])),
                board["ip_address"] or "",
                board["state"],
                "" if board["job"] is None else str(board["job"]),
                board["owner"] or "",
                "" if board["since"] is None else _time(board["since"]),
                "; ".join(filter(None, note)),
            ]
        )
    return _table(rows)


def _table(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _where_is(found: dict[str, Any]) -> Iterator[str]:
    yield f"machine:   {found['machine']}"
    yield f"board:     {_triple(found['logical'])}"
    yield f"place:     {_place(found['physical'])}"
    yield f"chip:      {_triple(found['chip'])} of the machine"
    yield f"           {_triple(found['board_chip'])} of the board"
    if found["job_id"] is None:
        yield "job:       none"
    else:
        yield f"job:       {found['job_id']}, chip {_triple(found['job_chip'])}"


def _problems(problems: Sequence[dict[str, Any]]) -> Iterator[str]:
    if not problems:
        yield "no problems"
    for problem in problems:
        where = (
            f"machine {problem['machine']} board {_triple(problem['board'])} "
            f"{_place(problem['physical'])}"
        )
        if problem["out_of_service"]:
            since = _time(problem["since"])
            yield f"{where}: out of service since {since}: {problem['reason']}"
            if problem["next_test"] is not None:
                yield f"  tried again in {_duration(problem['next_test'])}"
        else:
            yield f"{where}: in service, but reported"
        for report in problem["reports"]:
            by = (
                "nobody"
                if report["job_id"] is None
                else (f"job {report['job_id']} of {report['owner']}")
            )
            yield (
                f"  reported by {by} at {_time(report['time'])}: "
                f"{report['description'] or 'no description'}"
            )


def _drain(done: dict[str, Any]) -> Iterator[str]:
    yield f"drained: {_count(done['boards'], 'board')}"
    if "ended" in done:
        yield f"jobs ended: {_numbers(done['ended'])}"
    elif done["held_by"]:
        yield f"draining until these jobs have ended: {_numbers(done['held_by'])}"


def _resume(done: dict[str, Any]) -> Iterator[str]:
    yield f"resumed: {_count(done['boards'], 'board')}"


def _clear(number: int) -> Iterator[str]:
    yield f"cleared: {_count(number, 'board')}"


def _close(done: dict[str, Any]) -> Iterator[str]:
    yield f"closed: {done['machine'] or 'all machines'}"


def _open(done: dict[str, Any]) -> Iterator[str]:
    yield f"open: {done['machine'] or 'all machines'}"


def _destroy(done: dict[str, Any]) -> Iterator[str]:
    yield f"destroyed: {_numbers(done['destroyed'])}"


def _move(done: dict[str, Any]) -> Iterator[str]:
    yield f"next: job {done['moved']}"


def _reload(done: dict[str, Any]) -> Iterator[str]:
    yield from done["check"]
    if done["problem"] is None:
        yield f"reloaded; machines: {done['machines']}"
    else:
        yield "not reloaded: the old configuration stays in force"


def _snapshot(done: dict[str, Any]) -> Iterator[str]:
    if done["problem"] is None:
        yield f"stored in {done['file']}"


def _fault(done: dict[str, Any]) -> Iterator[str]:
    yield f"BMP {done['bmp']}: {done['state']}"


_WRITERS: Final[dict[str, Callable[[Any], Iterable[str]]]] = {
    "status": _status,
    "jobs": _jobs,
    "boards": _boards,
    "where-is": _where_is,
    "problems": _problems,
    "drain": _drain,
    "resume": _resume,
    "clear": _clear,
    "close": _close,
    "open": _open,
    "destroy": _destroy,
    "move": _move,
    "reload": _reload,
    "snapshot": _snapshot,
    "fault": _fault,
}


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _triple(numbers: Iterable[int]) -> str:
    return f"({', '.join(map(str, numbers))})"


def _place(physical: Sequence[int]) -> str:
    return "(cabinet {}, frame {}, board {})".format(*physical)


def _numbers(jobs: Iterable[int]) -> str:
    return ", ".join(map(str, jobs)) or "none"


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


def _size(args: Sequence[int]) -> str:
    if len(args) == 3:
        return f"board {_triple(args)}"
    if len(args) == 2:
        return "{} x {} triads".format(*args)
    return _count(args[0] if args else 1, "board")


def _order(order: dict[str, Any]) -> str:
    reason = order["reason"] or "no reason given"
    return f"{reason} ({order['user']}, {_time(order['since'])})"


def _time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _duration(seconds: float) -> str:
    """A time in its two largest units."""
    left = round(seconds)
    parts: list[str] = []
    for unit, length in _UNITS:
        if left >= length or (unit == "s" and not parts):
            parts.append(f"{left // length} {unit}")
            left %= length
    return " ".join(parts[:2])
