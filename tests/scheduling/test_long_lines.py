"""Long lines that many leave, against lists that are sorted anew each time."""

from __future__ import annotations

from random import Random

import pytest

from spalloc_server.scheduling.line import Line

STEPS = 3000


@pytest.mark.parametrize("fair", [False, True])
def test_a_long_line_that_many_leave(fair: bool) -> None:
    chance = Random(1)
    line = Line(fair)
    jobs: dict[int, tuple[str, int]] = {}
    for job_id in range(STEPS):
        owner, request = chance.choice(["ann", "bob"]), chance.randrange(3)
        line.append(job_id, owner, job_id, request, 1, 3)
        jobs[job_id] = owner, request
        while len(jobs) > 300:
            # Most leave from the middle, some as the first.
            head = line.head()
            assert head is not None
            left = head if chance.random() < 0.05 else chance.choice(list(jobs))
            line.discard(left)
            del jobs[left]
        if chance.random() < 0.1:
            order = sorted(jobs, key=line.key_of)
            some = chance.randrange(len(order))
            assert line.jobs_before(order[some]) == some
            assert line.first() == line.head() == order[0]
            aside = jobs[order[0]]
            line.set_aside(order[0], aside[0])
            passed = next((job for job in order if jobs[job] != aside), None)
            assert line.head() == passed
            line.restore(aside[0])
            assert {jobs[job][1] for job in line.one_of_each()} == {
                request for _, request in jobs.values()
            }
    order = sorted(jobs, key=line.key_of)
    assert list(line) == order
    for job_id in order:
        assert line.head() == job_id
        line.discard(job_id)
    assert line.head() is None
    assert len(line) == 0
