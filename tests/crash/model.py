"""What clients have been told, and what therefore has to be true after a crash."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.support import Client

Listing = dict[str, Any]

NO_MACHINE = "Cancelled: No suitable machines available."

KNOWN_ENDS_CHECKED = 200
"""Of how many jobs whose end was checked before it is checked again each time."""

STATE_QUEUED, STATE_READY, STATE_DESTROYED = 1, 3, 4


@dataclass
class Job:
    """A job that a client has asked for."""

    owner: str
    """Unlike that of any other job."""
    args: list[int]
    kwargs: dict[str, Any]
    keepalive: float | None = None
    impossible: bool = False
    """Is it too large for all machines?"""
    job_id: int | None = None
    """None as long as the creation has not been acknowledged."""
    reason: str | None = None
    """Why its destruction was asked for."""
    destroyed: bool = False
    """Has the destruction been acknowledged?"""
    end: str | None = None
    """The reason that the server has told once."""
    power_sent: int = 0
    power_acknowledged: int = 0
    power: bool | None = None
    """What was asked for last."""
    off_at: float = 0.0
    seen: Listing | None = None
    """How it was listed last."""
    seen_ready: int | None = None
    """After how many power commands it was listed as ready, if none was under way."""

    @property
    def mortal(self) -> bool:
        """May it time out?"""
        return self.keepalive is not None


@dataclass
class Model:
    """All jobs that were ever asked for; for several threads."""

    jobs: dict[str, Job] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, job: Job) -> None:
        with self.lock:
            self.jobs[job.owner] = job

    def note_listing(self, listing: list[Listing], power_sent: dict[str, int]) -> None:
        """Note what was listed.

        :param power_sent: number of power commands by owner, of those jobs that had
            none under way before the listing was asked for
        """
        with self.lock:
            for listed in listing:
                job = self.jobs[listed["owner"]]
                job.seen = listed
                ready = listed["state"] == STATE_READY
                job.seen_ready = power_sent.get(job.owner) if ready else None

    def quiet_jobs(self) -> dict[str, int]:
        with self.lock:
            return {
                job.owner: job.power_sent
                for job in self.jobs.values()
                if job.power_sent == job.power_acknowledged
            }

    def untouched(self) -> list[Job]:
        """The jobs that were ready, and that nothing was to happen to since."""
        return [
            job
            for job in self.jobs.values()
            if job.seen_ready == job.power_sent and job.reason is None
            if not job.mortal
        ]

    # After a crash

    def check(self, client: Client) -> None:
        """Compare what the server says with what it has said before the crash."""
        listing = client.call("list_jobs")
        by_owner = {listed["owner"]: listed for listed in listing}
        assert len(by_owner) == len(listing), "a job is there twice"
        ids = [listed["job_id"] for listed in listing]
        assert ids == sorted(set(ids)), f"IDs are not in order: {ids}"
        strangers = by_owner.keys() - self.jobs.keys()
        assert not strangers, f"nobody has asked for {strangers}"
        self._check_boards(listing)
        for job in list(self.jobs.values()):
            listed = by_owner.get(job.owner)
            if job.job_id is None:
                # Not acknowledged: it may be there or not.
                if listed is None:
                    del self.jobs[job.owner]
                    continue
                job.job_id = listed["job_id"]
            if listed is not None:
                self._check_alive(job, listed)
        ended = [job for job in self.jobs.values() if job.owner not in by_owner]
        known = [job for job in ended if job.end is not None]
        for job in random.sample(known, min(len(known), KNOWN_ENDS_CHECKED)):
            self._check_ended(job, client)
        for job in ended:
            if job.end is None:
                self._check_ended(job, client)
        numbers = [job.job_id for job in self.jobs.values()]
        assert len(set(numbers)) == len(numbers), "an ID was given twice"

    @staticmethod
    def _check_boards(listing: list[Listing]) -> None:
        holders: dict[tuple[Any, ...], int] = {}
        for listed in listing:
            for board in listed["boards"] or ():
                key = (listed["allocated_machine_name"], *board)
                assert key not in holders, (
                    f"board {key} in jobs {holders[key]} and {listed['job_id']}"
                )
                holders[key] = listed["job_id"]

    @staticmethod
    def _check_ended(job: Job, client: Client) -> None:
        state = client.call("get_job_state", job.job_id)
        assert state["state"] == STATE_DESTROYED, f"{job} is lost: {state}"
        if job.end is not None:
            assert state["reason"] == job.end, f"{job}: {state}"
            return
        may_be = (
            {"Job timed out.", "Cancelled: Job timed out."} if job.mortal else set()
        )
        if job.impossible:
            may_be.add(NO_MACHINE)
        if job.reason is not None:
            may_be |= {job.reason, f"Cancelled: {job.reason}"}
        assert state["reason"] in may_be, f"{job}: {state}"
        job.end = state["reason"]

    def _check_alive(self, job: Job, listed: Listing) -> None:
        assert not job.destroyed, f"{job} is back: {listed}"
        assert job.end is None, f"{job} is back: {listed}"
        assert not job.impossible, f"{job}: {listed}"
        assert listed["job_id"] == job.job_id, f"{job}: {listed}"
        for name in ("args", "kwargs", "keepalive"):
            assert listed[name] == getattr(job, name), f"{job}: {name}: {listed}"
        if job.seen is not None:
            assert listed["start_time"] == job.seen["start_time"], f"{job}: {listed}"
            if job.seen["boards"] is not None:
                for name in ("allocated_machine_name", "boards"):
                    assert listed[name] == job.seen[name], f"{job}: {name}: {listed}"
        if listed["boards"] is not None and job.power_sent == job.power_acknowledged:
            expected = True if job.power is None else job.power
            assert listed["power"] == expected, f"{job}: {listed}"
        # What was not acknowledged may have been done all the same, or not.
        job.power = listed["power"]
        job.power_acknowledged = job.power_sent
        job.seen = listed
        if not listed["power"]:
            job.off_at = time.monotonic()

    def forget_intentions(self) -> None:
        """A destruction that was asked for but not done may be asked for again."""
        for job in self.jobs.values():
            if job.end is None:
                job.reason = None
