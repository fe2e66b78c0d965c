"""Samples of the load are taken whatever goes wrong in between."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

import pytest

from spalloc_server.model.load import Load
from spalloc_server.web.complaints import Complaints
from spalloc_server.web.sampler import Sampler
from tests.support import wait_until

SAMPLES = [Load({}, number, 0) for number in range(10)]


def run(
    request: Callable[[Sampler, int], object],
    keep: Callable[[Load], object],
    until: Callable[[], bool],
) -> None:
    """Sample until something is true, as fast as possible."""
    asked = 0

    def ask() -> None:
        nonlocal asked
        asked += 1
        request(sampler, asked)

    async def go() -> None:
        task = asyncio.create_task(sampler.run())
        while not until():
            await asyncio.sleep(0.001)
        task.cancel()

    sampler = Sampler(ask, keep, Complaints(), interval=0.0)
    asyncio.run(asyncio.wait_for(go(), 30))


def test_an_error_is_told_and_the_next_one_is_taken(
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept: list[Load] = []

    def request(sampler: Sampler, number: int) -> None:
        if number < 3:
            raise OSError("the server is gone")
        sampler.deliver(SAMPLES[min(number, 9)])
        # One that comes twice is of no use.
        sampler.deliver(SAMPLES[0])

    run(request, kept.append, lambda: len(kept) >= 2)
    assert kept[0] == SAMPLES[3]
    assert SAMPLES[0] not in kept
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert len(errors) == 1
    assert "the load cannot be measured" in errors[0].getMessage()


def test_a_thread_that_cannot_be_started_costs_one_sample(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    start = threading.Thread.start
    refused: list[str] = []
    kept: list[Load] = []

    def start_later(thread: threading.Thread) -> None:
        if thread.name == "Load" and len(refused) < 3:
            refused.append(thread.name)
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_later)

    def request(sampler: Sampler, number: int) -> None:
        sampler.deliver(SAMPLES[number % 10])

    run(request, kept.append, lambda: bool(kept))
    assert len(refused) == 3
    assert "the load cannot be measured" in caplog.text


def test_a_disk_that_hangs_holds_nothing_up() -> None:
    goes_on = threading.Event()
    kept: list[Load] = []
    asked: list[int] = []

    def request(sampler: Sampler, number: int) -> None:
        asked.append(number)
        sampler.deliver(SAMPLES[number % 10])

    def keep(load: Load) -> None:
        kept.append(load)
        goes_on.wait(30)

    # Others are taken meanwhile, and none of them waits for it.
    run(request, keep, lambda: len(asked) > 20)
    assert len(kept) == 1
    goes_on.set()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name == "Load"])
