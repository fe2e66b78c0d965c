"""What can be asked of the boards of one frame, and how a failure is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from spalloc_server.links import Links


@dataclass(frozen=True)
class Failure:
    """Why a request failed; ``str()`` gives the text."""

    text: str
    """The reason, in a line for people."""

    boards: frozenset[int] = frozenset()
    """The numbers, in their frame, of the boards that failed."""

    silent: bool = False
    """Is it only that the BMP does not answer at all? That says nothing of boards."""

    def __str__(self) -> str:
        return self.text


class OnDone(Protocol):
    """Called with the result of a group of requests; see `AtomicRequests`."""

    def __call__(self, success: bool, /, reason: Any = None) -> object:
        """Take the result; what is returned is not used.

        :param reason: a `Failure` where it has failed. What stands in for the hardware
            may give any other object whose ``str()`` says why.
        """


class LinkRequest(NamedTuple):
    """A link of a board that is to be opened to traffic or closed."""

    board: int
    """Number of the board in its frame."""

    link: Links
    """The link to change."""

    enable: bool
    """Whether traffic may pass."""


class AtomicRequests:
    """A group of requests to the boards of one frame that succeeds or fails as one.

    Whatever the order in which they were added, they are carried out in the order
    power on, links, power off.

    :param on_done: ``on_done(success, reason=None)`` is called once when the whole
        group has been carried out, has failed for good, or has been overtaken by later
        ones (which counts as a success); the reason is a `Failure`. It runs in the
        thread of the frame's `AsyncBMPController`, which waits for it, and may itself
        add requests.
    """

    def __init__(self, on_done: OnDone) -> None:
        self._on_done = on_done
        self._power: dict[bool, list[int]] = {True: [], False: []}
        self._link_requests: list[LinkRequest] = []

    def power(self, board: int, power: bool) -> None:
        """Ask for a board to be powered on (True) or off (False)."""
        boards = self._power[bool(power)]
        if board not in boards:
            boards.append(board)

    def link(self, board: int, link: Links, enable: bool) -> None:
        """Ask for a link of a board to be opened (True) or closed (False)."""
        self._link_requests.append(LinkRequest(board, link, enable))

    @property
    def on_done(self) -> OnDone:
        """The function to call with the result."""
        return self._on_done

    @property
    def power_on_boards(self) -> list[int]:
        """Numbers of the boards to power on."""
        return list(self._power[True])

    @property
    def power_off_boards(self) -> list[int]:
        """Numbers of the boards to power off."""
        return list(self._power[False])

    @property
    def link_requests(self) -> list[LinkRequest]:
        """The links to change, in the order in which they were asked for."""
        return list(self._link_requests)
