"""Deadlines of jobs."""

from __future__ import annotations

from spalloc_server.model.job import _Job
from spalloc_server.model.keepalives import Keepalives


def test_a_job_that_is_watched_twice_comes_up_once() -> None:
    job = _Job(1, "me", keepalive=10.0)
    deadline = job.keepalive_until or 0.0
    keepalives = Keepalives()
    keepalives.watch(job)
    keepalives.watch(job)
    assert list(keepalives.timed_out(deadline, {1: job}.get)) == [job]


def test_only_jobs_past_their_deadline_come_up_and_only_once() -> None:
    jobs = {i: _Job(i, "me", keepalive=10.0 * i) for i in (1, 2, 3)}
    jobs[4] = _Job(4, "me", keepalive=None)
    start = jobs[1].keepalive_until or 0.0
    keepalives = Keepalives()
    for job in jobs.values():
        keepalives.watch(job)
    assert list(keepalives.timed_out(start - 1, jobs.get)) == []
    assert list(keepalives.timed_out(start + 1, jobs.get)) == [jobs[1]]
    # Heard of, so its deadline has moved; another has ended meanwhile.
    jobs[2].keepalive_until = start + 100
    del jobs[3]
    assert list(keepalives.timed_out(start + 50, jobs.get)) == []
    assert list(keepalives.timed_out(start + 100, jobs.get)) == [jobs[2]]
    assert list(keepalives.timed_out(start + 1e9, jobs.get)) == []


def test_jobs_that_ended_long_before_their_deadline_are_forgotten() -> None:
    keepalives = Keepalives()
    lasting = _Job(1, "me", keepalive=1e9)
    keepalives.watch(lasting)
    for number in range(2, 5000):
        keepalives.watch(_Job(number, "me", keepalive=1e9))
        assert not list(keepalives.timed_out(0.0, {1: lasting}.get))
        assert len(keepalives._deadlines) <= 1001
    assert list(keepalives.timed_out(1e300, {1: lasting}.get)) == [lasting]


def test_nothing_is_kept_of_jobs_that_have_ended() -> None:
    keepalives = Keepalives()
    lasting = _Job(1, "me", keepalive=1e9)
    keepalives.watch(lasting)
    for number in range(2, 20_000):
        keepalives.watch(_Job(number, "me", keepalive=1e9))
        assert not list(keepalives.timed_out(0.0, {1: lasting}.get))
    assert len(keepalives._watched) == len(keepalives._deadlines) <= 1001
    keepalives.watch(lasting)
    assert list(keepalives.timed_out(1e300, {1: lasting}.get)) == [lasting]
