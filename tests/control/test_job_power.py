"""What frames are asked for on behalf of a job, and which boards are at fault."""

from __future__ import annotations

from typing import Any

import pytest

from spalloc_server.configuration import Machine
from spalloc_server.control.frames import FrameControllers
from spalloc_server.control.job_power import FrameResult, JobPower, boards_still_there
from spalloc_server.coordinates import Board, WrapAround
from spalloc_server.hardware.requests import Failure
from spalloc_server.links import Links
from spalloc_server.model.job import _Job
from tests.recorded_bmps import BMPs, machine

LEFT: Board = (0, 0, 1)
RIGHT: Board = (1, 0, 2)


class Site:
    """A job with one board in each of two frames."""

    def __init__(self) -> None:
        self.recorded = BMPs()
        place = machine(width=2)
        self.job = _Job(1, "me")
        edge = (*LEFT, Links.north)
        self.job.give_boards(place, {LEFT, RIGHT}, {edge}, WrapAround.none)
        bmps = FrameControllers()
        make: Any = self.recorded.make
        bmps.make(place, make)
        self.results: list[tuple[int, FrameResult]] = []
        self.power = JobPower(bmps, lambda *result: self.results.append(result))


@pytest.fixture
def site() -> Site:
    return Site()


def test_each_frame_is_asked_once(site: Site) -> None:
    site.power.request(site.job, True, False)
    assert site.job.bmp_requests_until_ready == 2
    pending = dict(site.recorded.pending())
    assert pending["bmp-m-0"].power_on_boards == [1]
    assert [tuple(link) for link in pending["bmp-m-0"].link_requests] == [
        (1, Links.north, False)
    ]
    assert pending["bmp-m-1"].power_on_boards == [2]
    assert pending["bmp-m-1"].link_requests == []
    outstanding = sorted(site.job.outstanding)
    site.recorded.answer()
    assert site.results == [(number, FrameResult(site.job)) for number in outstanding]


def test_links_are_left_alone_unless_told_otherwise(site: Site) -> None:
    site.power.request(site.job, False, None)
    for _, requests in site.recorded.pending():
        assert requests.power_off_boards
        assert requests.link_requests == []


@pytest.mark.parametrize("reason", ["no answer", Failure("no answer", frozenset([2]))])
def test_the_boards_at_fault_are_those_named_or_all_of_the_frame(
    site: Site, reason: str | Failure
) -> None:
    site.power.request(site.job, True, False)
    site.recorded["bmp-m-1"].requests[0].on_done(False, reason)
    ((number, result),) = site.results
    assert number in site.job.outstanding
    assert (result.job, result.problem) == (site.job, "no answer")
    assert result.at_fault() == {RIGHT}
    assert not result.success


def test_no_two_requests_have_the_same_number(site: Site) -> None:
    site.power.request(site.job, True, False)
    first = set(site.job.outstanding)
    site.job.outstanding = frozenset()
    site.power.request(site.job, False, None)
    assert len(first) == len(site.job.outstanding) == 2
    assert first.isdisjoint(site.job.outstanding)


@pytest.mark.parametrize(
    ("machines", "expected"),
    [
        ({"m": machine(width=2)}, [LEFT, RIGHT]),
        ({"m": machine(width=1)}, [LEFT]),
        ({"m": machine(width=2)._replace(bmp_ips={(0, 0): "b", (0, 1): "c"})}, []),
        ({}, []),
    ],
)
def test_boards_of_a_removed_machine_are_looked_for_in_its_successor(
    site: Site, machines: dict[str, Machine], expected: list[Board]
) -> None:
    site.job.faulty_boards = {LEFT, RIGHT}
    assert boards_still_there(site.job, machines) == [LEFT, RIGHT]
    site.job.machine_removed = True
    assert boards_still_there(site.job, machines) == expected
