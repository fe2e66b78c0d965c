"""What jobs that wait take, of which there may be very many."""

import copy
import pickle
import tracemalloc
from typing import Any

import pytest

from spalloc_server.controller import Controller
from tests.recorded_bmps import BMPs, machine

JOBS = 1000
BYTES = 1200
"""What one takes; with empty sets, lists and dictionaries of its own, 1,900."""


@pytest.fixture
def controller(bmps: BMPs) -> Controller:
    controller = Controller()
    controller.machines = {"m": machine()}
    controller.create_job(None, 1, 1, owner="me", keepalive=None)
    return controller


@pytest.mark.parametrize(
    "words",
    [{}, {"machine": "m"}, {"tags": ["default"], "max_dead_boards": 3}],
    ids=["none", "machine", "tags"],
)
def test_a_job_that_waits_takes_little_memory(
    controller: Controller, words: dict[str, Any]
) -> None:
    options = {"owner": "me", "keepalive": None, **words}
    controller.create_job(None, **options)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(JOBS):
            # As with commands from clients, each has its own.
            controller.create_job(None, **copy.deepcopy(options))
        controller.changed_jobs  # noqa: B018 (those who watch have been told)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < JOBS * BYTES


def test_after_a_restart_jobs_have_in_common_what_they_have_before(
    controller: Controller,
) -> None:
    asked: list[dict[str, Any]] = [{}, {"machine": "m"}, {"tags": ["default"]}]
    for words in asked * 3:
        controller.create_job(None, owner="me", **words)
    again = pickle.loads(pickle.dumps(controller))
    for each in (controller, again):
        jobs = each.list_jobs()[1:]
        for first, *others in (jobs[i::3] for i in range(3)):
            for other in others:
                assert other.kwargs is first.kwargs
                assert other.args is first.args
    assert again.list_jobs() == controller.list_jobs()
