"""What operators have taken away from the jobs for a while: boards, and machines."""

from __future__ import annotations

from typing import Any, NamedTuple

from spalloc_server.coordinates import Board
from spalloc_server.model.report_limits import BoardKey
from spalloc_server.plain.shapes import (
    NUMBER,
    OPTIONAL_STR,
    STR,
    dict_of,
    fields,
    ints,
    optional,
    tuple_of,
)


class Order(NamedTuple):
    """What an operator has ordered."""

    reason: str | None
    """For people."""
    since: float
    """Seconds since 1970 (UTC)."""
    user: str
    """The name of the operator on the server's computer."""

    def describe(self) -> str:
        """Why it is so, in a few words."""
        return self.reason or f"by {self.user}"


_ORDER = tuple_of(OPTIONAL_STR, NUMBER, STR)
_STATE = fields(
    "what operators withhold",
    {
        "drained": dict_of(tuple_of(STR, ints(3)), _ORDER),
        "closed": dict_of(STR, _ORDER),
        "all_closed": optional(_ORDER),
    },
)


class Withheld:
    """Boards that are drained, and machines that are closed. Not thread safe."""

    def __init__(self) -> None:
        self.drained: dict[BoardKey, Order] = {}
        """Boards that no job is to be given any more."""
        self.closed: dict[str, Order] = {}
        """Machines on which no job is to start."""
        self.all_closed: Order | None = None
        """Is no job to start on any machine, also one that comes later?"""

    def __getstate__(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "drained": {key: tuple(order) for key, order in self.drained.items()},
            "closed": {name: tuple(order) for name, order in self.closed.items()},
            "all_closed": None if self.all_closed is None else tuple(self.all_closed),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take the state up again.

        :raises PlainDataError: if it is no such state
        """
        _STATE(state, "what operators withhold")
        self.drained = {key: Order(*order) for key, order in state["drained"].items()}
        self.closed = {name: Order(*order) for name, order in state["closed"].items()}
        everything = state["all_closed"]
        self.all_closed = None if everything is None else Order(*everything)

    def drained_boards(self, machine: str) -> frozenset[Board]:
        """The boards of a machine that are drained."""
        return frozenset(board for name, board in self.drained if name == machine)

    def closing_of(self, machine: str) -> Order | None:
        """What closes a machine; None if it is open."""
        return self.closed.get(machine) or self.all_closed

    def forget_machine(self, machine: str) -> None:
        """Forget what was ordered of a machine that is no longer there."""
        self.closed.pop(machine, None)
        for key in [key for key in self.drained if key[0] == machine]:
            del self.drained[key]
