"""The creation of jobs: each once, or not at all, whatever the connection does."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from spalloc_server.model.job_tuples import JobState
from spalloc_server_gateway.link import AwayError, BrokenError, Link, RefusedError
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.wishes import Wish, WishError

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 0.2
"""Pause between tries to end a job that nobody was told of."""

MAX_UNDOING: Final = 1000
"""Of how many such jobs one knows. Others end without a keepalive."""


class Creator:
    """Creates jobs. For one event loop."""

    def __init__(self, link: Link, patience: Patience) -> None:
        """Create them by a connection to the server.

        :param patience: how long is waited
        """
        self._link = link
        self._patience = patience
        self._undoing: set[asyncio.Task[None]] = set()

    async def create(self, user: str, host: str, wish: Wish) -> dict[str, Any]:
        """Create a job.

        :param host: the address that it comes from
        :return: its description
        :raises WishError: if no machine can ever have it; there is no job then
        :raises AwayError: if the server is away for too long; there is no job either,
            or it ends as soon as the server is back
        """
        end = time.monotonic() + self._patience.create
        demands = {**wish.demands, "owner": user}
        # Nobody notices less than a millisecond; and by it the job is found again, if
        # the connection breaks before its number has come.
        demands["keepalive"] += random.SystemRandom().randrange(1, 2**20) / 2**30
        try:
            job_id = await self._create(end, host, wish.size, demands)
            patience = max(1.0, end - time.monotonic())
            job: dict[str, Any] = await self._link.call(
                "describe_job", job_id, patience=patience
            )
        except RefusedError as e:
            raise WishError(str(e)) from None
        except (AwayError, asyncio.CancelledError):
            # Nobody is told its number, if it has one.
            self._undo_later(demands)
            raise
        if job["state"] == JobState.destroyed:
            raise WishError(job["reason"] or "the job has ended at once")
        job["job_id"] = job_id
        return job

    async def _create(
        self, end: float, host: str, size: Sequence[int], demands: Mapping[str, Any]
    ) -> int:
        while True:
            try:
                job_id: int = await self._link.call(
                    "create_job",
                    *size,
                    patience=end - time.monotonic(),
                    repeat=False,
                    on_behalf_of=host,
                    **demands,
                )
                return job_id
            except BrokenError:
                # It may have been created nevertheless.
                found = await self._find(demands, end - time.monotonic())
                if found is not None:
                    return found

    async def _find(self, demands: Mapping[str, Any], patience: float) -> int | None:
        """The number of a job that may have been created; None if there is none."""
        for job in await self._link.call("list_jobs", patience=patience):
            if all(job[name] == demands[name] for name in ("owner", "keepalive")):
                found: int = job["job_id"]
                return found
        return None

    def _undo_later(self, demands: Mapping[str, Any]) -> None:
        """End a job as soon as the server answers, if there is one."""
        if len(self._undoing) < MAX_UNDOING:
            task = asyncio.create_task(self._undo(demands))
            self._undoing.add(task)
            task.add_done_callback(self._undoing.discard)

    async def _undo(self, demands: Mapping[str, Any]) -> None:
        patience = self._patience.call
        while True:
            try:
                job_id = await self._find(demands, patience)
                if job_id is not None:
                    reason = "nobody waited for it any more when it was created"
                    with contextlib.suppress(RefusedError):
                        await self._link.call(
                            "destroy_job", job_id, reason, patience=patience
                        )
                    logger.info("Job %d has ended: %s", job_id, reason)
                return
            except AwayError:
                await asyncio.sleep(RETRY_SECONDS)
