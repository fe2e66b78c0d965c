"""Clients that keep a server busy until it is gone, and note what they are told."""

from __future__ import annotations

import random
import threading
import time
from typing import Any

from tests.crash.model import Job, Model
from tests.support import Client, CommandError

MOST_JOBS = 6
"""How many living jobs each worker has."""

SHAPES: tuple[tuple[int, ...], ...] = (
    *((), (1,), (2,), (4,), (7,), (1, 1), (2, 1), (1, 2)),
    *((0, 0, 0), (1, 1, 2), (3, 0, 1)),
    *((9, 9), (4, 2)),
)
"""What workers ask for; the last two are never, and seldom, there."""

IMPOSSIBLE = (9, 9)

NOT_STORED = "it cannot be stored"
"""What the server says when the disk fails."""

GONE = (OSError, ValueError)
"""What a client sees when its server dies, possibly in the middle of a line."""


class Worker(threading.Thread):
    """A client that creates, powers and destroys jobs of its own."""

    def __init__(
        self, name: str, port: int, model: Model, rng: random.Random, cooling: float
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._port = port
        self._model = model
        self._rng = rng
        self._cooling = cooling
        self._created = 0
        self.stopping = False

    def run(self) -> None:
        try:
            with Client(self._port) as client:
                while not self.stopping:
                    try:
                        self._act(client)
                    except CommandError as e:
                        # Done or not: as if there had been no answer.
                        if NOT_STORED not in str(e):
                            raise
        except GONE:
            pass

    def _mine(self) -> list[Job]:
        return [
            job
            for job in list(self._model.jobs.values())
            if job.owner.startswith(f"{self.name} ")
            if job.job_id is not None and job.reason is None and not job.impossible
        ]

    def _act(self, client: Client) -> None:
        mine = self._mine()
        choice = self._rng.random()
        if len(mine) < MOST_JOBS and choice < 0.5:
            self._create(client, self._rng.choice((1, 1, 1, 4)))
        elif mine and choice < 0.75:
            self._destroy(client, self._rng.choice(mine))
        elif mine and choice < 0.95:
            self._power(client, self._rng.choice(mine))
        elif mine:
            client.call("get_job_machine_info", self._rng.choice(mine).job_id)
        else:
            client.call("version")

    def _create(self, client: Client, number: int) -> None:
        """Create jobs, all commands in one packet."""
        jobs = [self._new_job() for _ in range(number)]
        for job in jobs:
            client.send_command(
                "create_job",
                *job.args,
                owner=job.owner,
                keepalive=job.keepalive,
                **job.kwargs,
            )
        for job in jobs:
            reply = client.reply()
            if NOT_STORED not in reply.get("exception", ""):
                job.job_id = reply["return"]

    def _new_job(self) -> Job:
        self._created += 1
        shape = self._rng.choice(SHAPES)
        kwargs: dict[str, Any] = {}
        if self._rng.random() < 0.3:
            kwargs["tags"] = ["default"]
        elif len(shape) == 3:
            kwargs["machine"] = "m"
        elif shape == () and self._rng.random() < 0.5:
            kwargs["machine"] = "n"
        job = Job(
            owner=f"{self.name} {time.time_ns()} {self._created}",
            args=list(shape),
            kwargs=kwargs,
            keepalive=0.05 if self._rng.random() < 0.1 else None,
            impossible=shape == IMPOSSIBLE,
        )
        self._model.add(job)
        return job

    def _destroy(self, client: Client, job: Job) -> None:
        job.reason = f"done with it {self._rng.random()}"
        client.call("destroy_job", job.job_id, job.reason)
        job.destroyed = not job.mortal

    def _power(self, client: Client, job: Job) -> None:
        if job.seen is None or job.seen["boards"] is None:
            return  # of a queued job it would have no effect
        # Clients may power boards on as soon as they like, but then it is not seen
        # whether the server does so too early.
        rested = time.monotonic() - job.off_at > self._cooling + 0.5
        on = self._rng.random() < 0.5
        if on and not rested:
            return
        if not on:
            job.off_at = time.monotonic()
        job.power = on
        job.power_sent += 1
        client.call(f"power_{'on' if on else 'off'}_job_boards", job.job_id)
        job.power_acknowledged += 1


class Watcher(threading.Thread):
    """A client that notes how jobs are listed."""

    def __init__(self, port: int, model: Model) -> None:
        super().__init__(name="watcher", daemon=True)
        self._port = port
        self._model = model
        self.stopping = False

    def run(self) -> None:
        try:
            with Client(self._port) as client:
                client.call("notify_job")
                while not self.stopping:
                    quiet = self._model.quiet_jobs()
                    self._model.note_listing(client.call("list_jobs"), quiet)
                    client.notifications.clear()
        except (*GONE, CommandError):
            pass
