"""The BMP controllers of machines that come and go, with the BMPs recorded."""

from __future__ import annotations

from typing import Any

import pytest

from spalloc_server.control.frames import FrameControllers
from spalloc_server.hardware.requests import AtomicRequests
from tests.recorded_bmps import BMPs, RecordedBMP, machine


class Site:
    """The controllers, and what they have told."""

    def __init__(self) -> None:
        self.recorded = BMPs()
        self.bmps = FrameControllers()
        self.answers: list[tuple[Any, ...]] = []

    def start(self, *args: Any, **kwargs: Any) -> list[RecordedBMP]:
        """Start those of a machine; tells which were made."""
        before = len(self.recorded.made)
        make: Any = self.recorded.make
        described = machine(*args, **kwargs)
        self.bmps.make(described, make)
        assert not any(bmp.on_answer for bmp in self.recorded.made[before:])
        self.bmps.watch(described.name, self._on_answer)
        return self.recorded.made[before:]

    def _on_answer(self, *args: Any) -> None:
        self.answers.append(args)


@pytest.fixture
def site() -> Site:
    return Site()


def test_each_frame_has_one_and_tells_of_its_bmp(site: Site) -> None:
    made = site.start(width=2)
    assert [bmp.hostname for bmp in made] == ["bmp-m-0", "bmp-m-1"]
    frames = site.bmps.of_machine("m")
    assert frames == {(0, 0): made[0], (0, 1): made[1]}
    assert made[1].on_answer is not None
    made[1].on_answer("silent")
    ((name, frame, told_frames, problem),) = site.answers
    assert (name, frame, problem) == ("m", (0, 1), "silent")
    assert told_frames is frames
    assert site.bmps.of_machine("n") is None


def test_a_successor_of_the_same_bmp_waits_for_its_predecessor(site: Site) -> None:
    (old,) = site.start()
    site.bmps.retire("m")
    assert old.stopped
    assert site.bmps.of_machine("m") is None
    assert site.bmps.all() == [old]
    same, other = site.start(width=2)
    assert other.on_thread_start is None
    assert not old.joined
    assert same.on_thread_start is not None
    same.on_thread_start()
    assert old.joined
    assert site.bmps.all() == [old, same, other]


def test_predecessors_are_forgotten_when_they_have_ended(site: Site) -> None:
    (old,) = site.start()
    site.bmps.retire("m")
    old.has_ended = True  # type: ignore[attr-defined]
    (new,) = site.start()
    assert new.on_thread_start is None
    assert site.bmps.all() == [new]


def test_requests_to_one_that_has_ended_are_lost(site: Site) -> None:
    (bmp,) = site.start()
    requests = AtomicRequests(lambda success, reason=None: None)
    site.bmps.add_requests("m", (0, 0), requests)
    assert bmp.requests == [requests]
    bmp.join()
    site.bmps.add_requests("m", (0, 0), requests)
    assert bmp.requests == [requests]
    with pytest.raises(KeyError):
        site.bmps.add_requests("m", (0, 1), requests)
