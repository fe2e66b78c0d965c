"""Jobs as their owners see them, also while the server is away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias

from spalloc_server.model.job_tuples import JobState
from spalloc_server_gateway.creation import Creator
from spalloc_server_gateway.link import AwayError, Link, RefusedError
from spalloc_server_gateway.owners import Owners
from spalloc_server_gateway.patience import Patience
from spalloc_server_gateway.wishes import Wish

logger = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 10_000
"""Of how many jobs, told states and owed keepalives something is remembered."""

LIST_SECONDS: Final = 0.5
"""How old a list of all jobs may be."""

RETRY_SECONDS: Final = 0.2
"""Pause between tries to make up for a keepalive."""

MAX_REASON: Final = 1000

Description: TypeAlias = dict[str, Any]
"""What the server's ``describe_job`` returns."""

QUEUED, POWER, READY, ENDED = (
    JobState.queued,
    JobState.power,
    JobState.ready,
    JobState.destroyed,
)


class NoSuchJobError(Exception):
    """There is no such job, or it is somebody else's, which is not told apart."""


class Jobs:
    """All jobs, by what the server says of them. For one event loop."""

    def __init__(
        self,
        link: Link,
        patience: Patience | None = None,
        owners: Owners | None = None,
    ) -> None:
        """Ask the server for all of it.

        :param link: its connection; tells this object what changes
        :param patience: how long is waited
        :param owners: whose jobs were
        """
        self._link = link
        self.patience = patience or Patience()
        self._owners = owners or Owners()
        self._creator = Creator(link, self.patience)
        # The latest news of jobs that were asked about, the longest unasked first. The
        # owner stays when the job has ended and the server has forgotten it.
        self._known: OrderedDict[int, Description] = OrderedDict()
        self._told: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._waiting: defaultdict[int, set[asyncio.Future[None]]] = defaultdict(set)
        # By job and user: somebody else's does not stand for the owner's.
        self._owed: dict[tuple[int, str], str] = {}
        self._paying: asyncio.Task[None] | None = None
        self._listed: tuple[float, list[Description]] = (-1e9, [])
        self._listing: asyncio.Task[list[Description]] | None = None
        self.watchers: list[Callable[[list[int] | None], object]] = []
        """Told of changed jobs; None for all of them."""
        self.on_ending: Callable[[int], object] = _nothing
        """Told of a job that is about to be ended."""
        self.stopping = asyncio.Event()
        """Nobody is to wait any longer."""
        self.late_keepalives = 0
        """How many keepalives were made up for."""
        link.on_jobs_changed = self._note_changes
        link.on_connected = self._catch_up

    # News

    def _forget_list(self) -> None:
        """What was listed, or is just being listed, is not what there is any more."""
        self._listed = (-1e9, [])
        self._listing = None

    def _note_changes(self, job_ids: list[int] | None) -> None:
        self._forget_list()
        for job_id in list(self._waiting) if job_ids is None else job_ids:
            for future in self._waiting.pop(job_id, ()):
                if not future.done():
                    future.set_result(None)
        for watcher in self.watchers:
            watcher(job_ids)

    async def _catch_up(self) -> None:
        """There is a server again: make up for what it has missed."""
        self._note_changes(None)
        self._pay_soon()

    def _pay_soon(self) -> None:
        """Have keepalives that are owed sent, as soon as the server takes them."""
        if self._paying is None or self._paying.done():
            self._paying = asyncio.create_task(self._pay())

    async def _pay(self) -> None:
        while self._owed:
            # It is owed until it has been sent: the server may go once more, or may not
            # answer for a while although it is there.
            (job_id, user), host = next(iter(self._owed.items()))
            try:
                await self._keep_alive(user, host, job_id)
                self.late_keepalives += 1
            except AwayError:
                if not self._link.is_up:
                    return  # until there is one
                await asyncio.sleep(RETRY_SECONDS)
                continue
            except (NoSuchJobError, RefusedError):
                pass
            self._owed.pop((job_id, user), None)

    @contextlib.contextmanager
    def _change_of(self, job_id: int) -> Iterator[asyncio.Future[None]]:
        """Within, gives a future that is done when a job has changed."""
        future = asyncio.get_running_loop().create_future()
        self._waiting[job_id].add(future)
        try:
            yield future
        finally:
            waiting = self._waiting.get(job_id)
            if waiting is not None:
                waiting.discard(future)
                if not waiting:
                    del self._waiting[job_id]

    # Reading

    async def describe(
        self, user: str, job_id: int, patience: float | None = None
    ) -> Description:
        """What is known of a job of a user; what was last known, if the server is away.

        :raises NoSuchJobError: if it has no such job
        :raises AwayError: if nothing is known
        """
        known = self._known.get(job_id)
        try:
            job: Description = await self._link.call(
                "describe_job", job_id, patience=patience or self.patience.call
            )
        except AwayError:
            if known is None:
                raise
            job = known
        else:
            if job["state"] in (JobState.unknown, ENDED):
                if known is None:
                    # Asked about before the gateway was restarted, or never.
                    known = {**job, "owner": self._owners.find(job_id)}
                    if known["owner"] is None:
                        raise NoSuchJobError
                job = {**known, **_end_of(job)}
            self._remember(job_id, job)
        if job["owner"] != user:
            raise NoSuchJobError
        return job

    def _remember(self, job_id: int, job: Description) -> None:
        if job["state"] != ENDED and self._owners.note(
            job_id, job["owner"], job["start_time"]
        ):
            self._known.clear()
        self._known[job_id] = job
        self._known.move_to_end(job_id)
        if len(self._known) > MAX_REMEMBERED:
            self._known.popitem(last=False)

    async def wait_for_change(
        self, session: str, user: str, job_id: int
    ) -> Description:
        """Wait until a job is in another state than a session was last told of.

        If it is not after some time, the job is described nevertheless.

        :raises NoSuchJobError: if there is no such job
        """
        end = time.monotonic() + self.patience.change
        while True:
            with self._change_of(job_id) as changed:
                job = await self._describe_at_last(user, job_id)
                left = end - time.monotonic()
                if (
                    job["state"] != self._told.get((session, job_id))
                    or left <= 0
                    or self.stopping.is_set()
                ):
                    return job
                await self._first_of(changed, left)

    async def _describe_at_last(self, user: str, job_id: int) -> Description:
        """Describe a job, for those who wait without a limit."""
        while True:
            try:
                return await self.describe(user, job_id)
            except AwayError:
                if self.stopping.is_set():
                    raise

    async def _first_of(self, changed: asyncio.Future[None], seconds: float) -> None:
        stop = asyncio.ensure_future(self.stopping.wait())
        try:
            await asyncio.wait(
                (changed, stop),
                timeout=seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            stop.cancel()

    def note_told(self, session: str, job_id: int, job: Description) -> None:
        """A session was told of the state of a job."""
        self._told[session, job_id] = job["state"]
        self._told.move_to_end((session, job_id))
        if len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)

    async def list_all(self) -> list[Description]:
        """All jobs that have not ended, oldest first, of everybody.

        :raises AwayError: if they cannot be told
        """
        if time.monotonic() - self._listed[0] < LIST_SECONDS:
            return self._listed[1]
        if self._listing is None or self._listing.done():
            self._listing = asyncio.ensure_future(self._list())
        # Whoever leaves, others may wait for it.
        return await asyncio.shield(self._listing)

    async def _list(self) -> list[Description]:
        this = asyncio.current_task()
        jobs: list[Description] = await self._link.call(
            "list_jobs", patience=self.patience.call
        )
        if self._listing is this:
            self._listed = time.monotonic(), jobs
        return jobs

    def ended(self) -> list[int]:
        """The IDs of jobs that are known to have ended."""
        return [i for i, job in self._known.items() if job["state"] == ENDED]

    # Changing

    async def keep_alive(self, user: str, host: str, job_id: int) -> None:
        """Keep a job of a user alive, later if the server is away. Others are not.

        :param host: the address that it comes from
        """
        try:
            with contextlib.suppress(NoSuchJobError, RefusedError):
                await self._keep_alive(user, host, job_id, self.patience.keepalive)
        except AwayError:
            if self._owners.find(job_id) not in (None, user):
                return
            if (job_id, user) in self._owed or len(self._owed) < MAX_REMEMBERED:
                self._owed[job_id, user] = host
                self._pay_soon()

    async def _keep_alive(
        self, user: str, host: str, job_id: int, patience: float | None = None
    ) -> None:
        if not self._link.is_up:
            raise AwayError
        await self.describe(user, job_id, patience)
        await self._link.call(
            "job_keepalive",
            job_id,
            patience=patience or self.patience.call,
            on_behalf_of=host,
        )

    async def create(self, user: str, host: str, wish: Wish) -> Description:
        """Create a job: see `Creator.create`."""
        job = await self._creator.create(user, host, wish)
        # Whoever lists jobs now finds this one, notified or not.
        self._forget_list()
        self._remember(job["job_id"], job)
        return job

    async def destroy(self, user: str, host: str, job_id: int, reason: str) -> None:
        """End a job of a user; nothing happens if it has ended.

        :raises NoSuchJobError: if it has no such job
        :raises AwayError: if the server is away
        """
        job = await self.describe(user, job_id)
        if job["state"] != ENDED:
            # Before its boards can be those of others.
            self.on_ending(job_id)
            try:
                await self._link.call(
                    "destroy_job",
                    job_id,
                    reason[:MAX_REASON],
                    patience=self.patience.call,
                    on_behalf_of=host,
                )
            finally:
                # Whether it has ended or not.
                self._note_changes([job_id])

    async def switch(self, user: str, host: str, job_id: int, on: bool) -> None:
        """Switch the boards of a job of a user, or reset those that are on.

        :raises NoSuchJobError: if it has no such job
        :raises AwayError: if the server is away
        """
        await self.describe(user, job_id)
        name = "power_on_job_boards" if on else "power_off_job_boards"
        await self._link.call(
            name, job_id, patience=self.patience.call, on_behalf_of=host
        )


def _nothing(_job_id: int) -> None:
    pass


def _end_of(job: Description) -> Description:
    """What is different of a job that has ended."""
    return {
        "state": int(ENDED),
        "reason": job["reason"],
        "power": None,
        "boards": None,
        "connections": None,
        "width": None,
        "height": None,
        "allocated_machine_name": None,
    }
