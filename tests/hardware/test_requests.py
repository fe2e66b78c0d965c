"""Groups of requests and reasons of failure."""

from __future__ import annotations

import dataclasses

import pytest

from spalloc_server.async_bmp_controller import AtomicRequests, LinkRequest
from spalloc_server.hardware.requests import Failure
from spalloc_server.links import Links


def test_requests_are_collected_by_kind() -> None:
    def on_done(success: bool, reason: str | None = None) -> None:
        raise AssertionError("nothing was carried out")

    requests = AtomicRequests(on_done)
    requests.power(3, True)
    requests.power(4, False)
    requests.power(1, True)
    requests.power(3, True)
    requests.link(3, Links.north, False)
    requests.link(board=1, link=Links.east, enable=True)
    assert requests.on_done is on_done
    assert requests.power_on_boards == [3, 1]
    assert requests.power_off_boards == [4]
    assert requests.link_requests == [
        LinkRequest(board=3, link=Links.north, enable=False),
        LinkRequest(board=1, link=Links.east, enable=True),
    ]


def test_changing_what_is_given_changes_no_requests() -> None:
    requests = AtomicRequests(lambda success, reason=None: None)
    requests.power_on_boards.append(1)
    requests.link_requests.append(LinkRequest(1, Links.east, True))
    assert requests.power_on_boards == []
    assert requests.link_requests == []


def test_a_failure_is_its_text_and_the_boards_at_fault() -> None:
    failure = Failure("it broke", frozenset([3, 1]))
    assert str(failure) == failure.text == "it broke"
    assert failure.boards == {1, 3}
    assert failure == Failure("it broke", frozenset([1, 3]))
    assert Failure("it broke").boards == frozenset()
    with pytest.raises(dataclasses.FrozenInstanceError):
        failure.text = "mended"  # type: ignore[misc]
