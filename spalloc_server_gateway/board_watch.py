"""Whoever holds something open to the boards of a job is told when these are others."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from spalloc_server_gateway.jobs import POWER, READY, Jobs
from spalloc_server_gateway.link import AwayError, Link

Chip: TypeAlias = tuple[int, int]
BoardAddresses: TypeAlias = dict[Chip, str]
"""The IP address of each board of a job, by its Ethernet chip in the job."""


class Holder(Protocol):
    """What has sockets to the boards of a job."""

    def set_boards(self, boards: BoardAddresses) -> None:
        """These are the boards of the job from now on; without any it has none."""


class BoardWatch:
    """Knows who holds boards, and looks at jobs that change. For one event loop."""

    def __init__(self, link: Link, jobs: Jobs) -> None:
        """Begin without anybody.

        :param link: the connection to the server
        :param jobs: tells when jobs have changed
        """
        self._link = link
        self.patience = jobs.patience
        """How long is waited."""
        self._holders: defaultdict[int, set[Holder]] = defaultdict(set)
        self._reviews: dict[int, asyncio.Task[None]] = {}
        self._again: set[int] = set()
        jobs.watchers.append(self._note_changes)
        jobs.on_ending = self._take_away

    async def add(self, job_id: int, holder: Holder, job: Mapping[str, Any]) -> None:
        """Tell somebody the boards of a job, now and whenever they are others.

        :param job: what is known of the job
        """
        # Noted before its boards are looked up, so that no change is missed.
        self._holders[job_id].add(holder)
        holder.set_boards(await _addresses(job))
        self._review(job_id)

    def remove(self, job_id: int, holder: Holder) -> None:
        """Tell somebody nothing any more."""
        self._holders[job_id].discard(holder)
        if not self._holders[job_id]:
            del self._holders[job_id]

    def _take_away(self, job_id: int) -> None:
        """A job has no boards, until it is looked at again."""
        for holder in list(self._holders.get(job_id, ())):
            holder.set_boards({})

    def _note_changes(self, job_ids: list[int] | None) -> None:
        for job_id in list(self._holders) if job_ids is None else job_ids:
            if job_id in self._holders:
                self._review(job_id)

    def _review(self, job_id: int) -> None:
        """See which boards a job has now."""
        if job_id in self._reviews:
            self._again.add(job_id)
            return
        task = asyncio.ensure_future(self._look_at(job_id))
        self._reviews[job_id] = task
        task.add_done_callback(lambda _: self._reviewed(job_id))

    def _reviewed(self, job_id: int) -> None:
        del self._reviews[job_id]
        if job_id in self._again:
            self._again.discard(job_id)
            self._review(job_id)

    async def _look_at(self, job_id: int) -> None:
        try:
            job = await self._link.call(
                "describe_job", job_id, patience=self.patience.call
            )
        except AwayError:
            return  # it is looked at again when there is a connection
        boards = await _addresses(job)
        for holder in list(self._holders.get(job_id, ())):
            holder.set_boards(boards)


async def _addresses(job: Mapping[str, Any]) -> BoardAddresses:
    """Where the boards of a job are; one whose name leads nowhere is left out."""
    if job["state"] not in (POWER, READY) or not job["connections"]:
        return {}
    addresses = {}
    for (x, y), host in job["connections"]:
        try:
            addresses[x, y] = str(ipaddress.ip_address(host))
        except ValueError:
            loop = asyncio.get_running_loop()
            try:
                found = await loop.getaddrinfo(
                    host, None, family=socket.AF_INET, type=socket.SOCK_DGRAM
                )
            except OSError:
                continue
            addresses[x, y] = str(found[0][4][0])
    return addresses
