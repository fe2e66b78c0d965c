"""The thread that keeps what happens to jobs, and disks that do not take it."""

import threading
import time
from collections.abc import Sequence

import pytest

from spalloc_server.history import recorder as recorder_module
from spalloc_server.history.recorder import EventRecorder
from spalloc_server.model.job_events import JobEvent
from tests.support import wait_until


def event(job_id: int) -> JobEvent:
    return JobEvent(
        kind="created",
        time=0.0,
        job_id=job_id,
        owner="me",
        host=None,
        args=(1,),
        kwargs={},
        start_time=0.0,
        machine=None,
        boards=None,
        power=None,
        reason=None,
    )


class HungDisk:
    """A consumer that gets stuck, until it is let go."""

    def __init__(self) -> None:
        self.stuck = threading.Event()
        self.free = threading.Event()
        self.taken: list[int] = []
        self.closed = threading.Event()

    def open(self) -> None:
        pass

    def take(self, events: Sequence[JobEvent]) -> None:
        self.stuck.set()
        self.free.wait()
        self.taken += [event.job_id for event in events]

    def close(self) -> None:
        self.closed.set()


def test_all_that_happened_is_kept_before_the_end() -> None:
    disk = HungDisk()
    disk.free.set()
    recorder = EventRecorder([disk])
    recorder.open()
    assert recorder.on_job_event is not None
    for n in range(5000):
        recorder.on_job_event(event(n))
    recorder.close()
    assert disk.taken == list(range(5000))
    assert disk.closed.is_set()


def test_a_hung_disk_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "CLOSE_SECONDS", 0.2)
    disk = HungDisk()
    recorder = EventRecorder([disk])
    recorder.open()
    assert recorder.on_job_event is not None
    recorder.on_job_event(event(0))
    assert disk.stuck.wait(30)
    for n in range(1, 8):
        recorder.on_job_event(event(n))
    began = time.monotonic()
    recorder.close()
    assert time.monotonic() - began < 10
    assert "has not responded for 0.2 s; 8 events are lost" in caplog.text
    disk.free.set()
    assert disk.closed.wait(30)


def test_what_waits_for_a_hung_disk_is_bounded(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder_module, "MOST_WAITING", 10)
    disk = HungDisk()
    recorder = EventRecorder([disk])
    recorder.open()
    assert recorder.on_job_event is not None
    recorder.on_job_event(event(0))
    assert disk.stuck.wait(30)
    for n in range(1, 101):
        recorder.on_job_event(event(n))
    assert caplog.text.count("events are lost") == 1
    disk.free.set()
    wait_until(lambda: len(disk.taken) == 11)
    recorder.close()
    assert disk.taken == list(range(11))
    assert "90 events are lost" in caplog.text
