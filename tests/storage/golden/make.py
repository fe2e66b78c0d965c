"""Make a golden file of saved state with whichever version is on the path.

PYTHONPATH=FOLDER python tests/storage/golden/make.py NAME
"""

from __future__ import annotations

import json
import pickle
import sys
from pathlib import Path
from typing import Any

import spalloc_server.controller as controller_module
from spalloc_server.configuration import Machine
from spalloc_server.controller import Controller
from spalloc_server.coordinates import WrapAround
from spalloc_server.links import Links

#: The same moment in all files.
NOW = 1_750_000_000.5


class Bmp:
    """Stands in for an AsyncBMPController: answers when it is told to."""

    made: list[Bmp] = []  # noqa: RUF012

    def __init__(self, *_: Any) -> None:
        self.requests: list[Any] = []
        Bmp.made.append(self)

    def add_requests(self, requests: Any) -> None:
        self.requests.append(requests)

    def watch(self, _on_answer: Any) -> None:
        pass

    def stop(self) -> None:
        pass

    def join(self) -> None:
        pass


def answer(*arguments: Any) -> None:
    """Have all requests made so far succeed, or fail."""
    waiting = [(bmp, bmp.requests) for bmp in Bmp.made]
    for bmp, requests in waiting:
        bmp.requests = []
        for request in requests:
            request.on_done(*(arguments or (True,)))


def machine(name: str, width: int, height: int, **options: Any) -> Machine:
    """Describe a machine with a frame for each column of triads."""
    triads = [(x, y) for x in range(width) for y in range(height)]
    return Machine(
        name,
        width=width,
        height=height,
        board_locations={
            (x, y, z): (0, x, 3 * y + z) for x, y in triads for z in range(3)
        },
        bmp_ips={(0, x): f"bmp-{name}-{x}" for x in range(width)},
        spinnaker_ips={
            (x, y, z): f"board-{name}-{x}-{y}-{z}" for x, y in triads for z in range(3)
        },
        **options,
    )


def make() -> Controller:
    """Make a controller with jobs in every state."""
    controller = Controller(next_id=11, seconds_before_free=1000)
    if hasattr(getattr(controller, "settings", None), "scheduling"):
        settings = controller.settings._replace(
            scheduling="backfill", longest_overtaking=0.0, jobs_per_owner=50
        )
        controller.configure(settings)
    controller.machines = {
        "m": machine(
            "m", 4, 2, dead_boards={(3, 1, 2)}, dead_links={(3, 0, 0, Links.east)}
        ),
        "n": machine("n", 1, 1, tags={"other", "default"}),
        "gone": machine("gone", 1, 1, tags={"gone"}),
    }

    def create(*args: int, **kwargs: Any) -> int:
        return controller.create_job("10.0.0.1", *args, owner="alice", **kwargs)

    create(2, 1)  # ready
    off = create()  # ready, and powered off
    cooling = create(1, 1)
    single = create(1, keepalive=None, max_dead_boards=0)
    create(1, tags=["gone"])
    gone = create(1, 1, machine="n")
    answer()
    controller.power_off_job_boards("10.0.0.2", off)
    controller.destroy_job(None, cooling, "cooling")
    answer()
    create(3, 2, 1, keepalive=12.5)  # no such board
    create(1, 1, machine="n")  # waits
    create(4, 2, require_torus=True, min_ratio=0.5)  # waits
    create(4, 2, machine="m")  # waits
    create(1, 1)  # power
    controller.destroy_job(None, gone, "ending")
    controller.destroy_job(None, single, "ending, too")
    if hasattr(controller, "report_problem"):
        controller.report_problem("board-m-0-0-0", 1, 2, 3, "hot")
        controller.report_problem("board-m-3-1-0", description="loud")
    controller.machines = {
        name: m for name, m in controller.machines.items() if name != "gone"
    }
    if hasattr(controller, "report_problem"):
        # Fails where it is tried first; the job gets other boards.
        create()
        first = [bmp for bmp in Bmp.made if bmp.requests][-1]
        (request,) = [first.requests.pop()]
        request.on_done(False, "broken")
    if hasattr(controller, "apply"):
        order(controller)
    return controller


def order(controller: Controller) -> None:
    """Have operators drain boards, close machines and move a job."""
    from spalloc_server.model import changes

    if not hasattr(changes, "Drain"):
        return
    boards = [(3, 1, 0), (3, 1, 1)]
    controller.apply(changes.Drain("ada", "m", boards, "new fans", False))
    controller.apply(changes.Close("ada", "n", None))
    controller.apply(changes.MoveJob("ada", 20, "urgent"))


def plain(value: Any) -> Any:
    """What JSON can hold."""
    if isinstance(value, (set, frozenset)):
        return sorted(map(plain, value))
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    return int(value) if isinstance(value, WrapAround | Links) else value


def describe(controller: Any) -> dict[str, Any]:
    """All that has to be the same when the state is read again."""

    def kept(name: str) -> Any:
        state = getattr(controller, "_state", None)
        return vars(controller)[f"_{name}"] if state is None else getattr(state, name)

    queue = kept("job_queue")
    described = {
        "jobs": [
            {
                **job._asdict(),
                "reason": None,
                "periphery": kept("jobs")[job.job_id].periphery,
                "connections": {
                    " ".join(map(str, chip)): host
                    for chip, host in (
                        kept("jobs")[job.job_id].connections or {}
                    ).items()
                },
                "unfinished": kept("jobs")[job.job_id].bmp_requests_until_ready > 0,
            }
            for job in controller.list_jobs()
        ],
        "retired": list(kept("retired_jobs").items()),
        "ending": [
            [job.id, job.boards, job.machine_removed]
            for job in kept("ending_jobs").values()
        ],
        "next_id": kept("next_id"),
        "machines": [m._asdict() for m in controller.machines.values()],
        "queues": {
            name: [job.id for job in m.queue if job.pending]
            for name, m in queue._machines.items()
        },
        "trees": {
            name: m.allocator.pack_tree.__getstate__()
            for name, m in queue._machines.items()
        },
        "cooling": {
            name: len(m.allocator._cooling) for name, m in queue._machines.items()
        },
        "problems": [
            {
                name: None if name == "next_test" else value
                for name, value in problem.items()
                # Follows from the rest, and was not told always.
                if name != "waits_for_bmp"
            }
            for problem in controller.list_problems()
        ]
        if hasattr(controller, "list_problems")
        else [],
    }
    if hasattr(getattr(controller, "settings", None), "scheduling"):
        described["scheduling"] = {
            "settings": controller.settings._asdict(),
            "lines": {
                name: [[job_id, *m.line.key_of(job_id)] for job_id in m.line]
                for name, m in queue._machines.items()
            },
            "kept": {
                name: [
                    m.kept.job_id,
                    m.kept.since,
                    sorted(m.kept.holders),
                    [part.x, part.y, part.width, part.height],
                ]
                for name, m in queue._machines.items()
                if m.kept is not None and (part := m.allocator.kept) is not None
            },
            "times": [
                [job.id, job.owner, job.queued_at, job.started_at]
                for job in queue._jobs.values()
            ],
        }
    withheld = getattr(getattr(controller, "_state", None), "withheld", None)
    if withheld is not None:
        orders = withheld.__getstate__()
        described["withheld"] = {**orders, "drained": sorted(orders["drained"].items())}
    for machine in described["machines"]:
        machine["bmp_ips"] = {str(k): v for k, v in sorted(machine["bmp_ips"].items())}
    return plain(described)  # type: ignore[no-any-return]


def main() -> None:
    """Write both files."""
    import time

    time.time = lambda: NOW
    for module in ("controller", "jobs", "job_runner", "control.frames"):
        name = f"spalloc_server.{module}"
        if name in sys.modules and hasattr(sys.modules[name], "AsyncBMPController"):
            sys.modules[name].AsyncBMPController = Bmp  # type: ignore[attr-defined]
    assert vars(controller_module)["AsyncBMPController"] is Bmp
    controller = make()
    described = describe(controller)
    controller.stop()
    controller.join()
    folder = Path(__file__).parent
    pickled = pickle.dumps(controller, protocol=pickle.HIGHEST_PROTOCOL)
    (folder / f"{sys.argv[1]}.state").write_bytes(pickled)
    text = json.dumps(described, indent=1, sort_keys=True)
    (folder / f"{sys.argv[1]}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
