"""What can be asked about the service and its machines."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from spalloc_server import __version__
from spalloc_server_gateway.context import CSRF_HEADER, Asking, Parts, json_response
from spalloc_server_gateway.documents import (
    Place,
    machine_details,
    machine_document,
    root_document,
    where_is_document,
)


class Machines:
    """Where boards are, remembered until machines change."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int, int, int], Place | None] = {}

    def forget(self, _changed: object = None) -> None:
        """Machines have changed, or may have."""
        self._places.clear()

    async def places(
        self, asking: Asking, machine: Mapping[str, Any]
    ) -> dict[tuple[int, ...], Place | None]:
        """By (x, y, z), the (cabinet, frame, board) of the dead boards of a machine."""
        name = machine["name"]
        boards = [tuple(board) for board in machine["dead_boards"]]
        missing = [board for board in boards if (name, *board) not in self._places]
        found = await asyncio.gather(
            *(
                asking.gateway.link.call(
                    "get_board_position", name, *board, patience=asking.patience.call
                )
                for board in missing
            )
        )
        news = dict(zip(missing, found, strict=True))
        for board, place in news.items():
            self._places[name, board[0], board[1], board[2]] = place
        return {
            (x, y, z): self._places.get((name, x, y, z), news.get((x, y, z)))
            for x, y, z in boards
        }

    async def list(self, asking: Asking, _parts: Parts) -> web.Response:
        """All machines."""
        machines = await asking.gateway.link.call(
            "list_machines", patience=asking.patience.call
        )
        documents = [
            machine_document(
                machine,
                asking.machine_url(machine["name"]),
                await self.places(asking, machine),
            )
            for machine in machines
        ]
        return json_response({"machines": documents})

    async def details(self, asking: Asking, parts: Parts) -> web.Response:
        """One machine."""
        machines = await asking.gateway.link.call(
            "list_machines", patience=asking.patience.call
        )
        for machine in machines:
            if machine["name"] == parts[0]:
                places = await self.places(asking, machine)
                url = asking.machine_url(machine["name"])
                return json_response(machine_details(machine, url, places))
        raise web.HTTPNotFound(text="there is no such machine\n")


async def root(asking: Asking, _parts: Parts) -> web.Response:
    """The service: where everything is, and what requests have to bring."""
    # Also while the server is away: scripts begin with this.
    assert asking.session is not None
    token = asking.session.csrf_token
    return json_response(root_document(__version__, asking.service, CSRF_HEADER, token))


async def find_board(asking: Asking, parts: Parts) -> web.Response:
    """Find a board or chip of a machine by one of its names."""
    machine, way = parts
    names: dict[str, Any] = {"machine": machine}
    if way == "logical-board":
        names |= zip("xyz", asking.numbers("x", "y", "z"), strict=True)
    elif way == "physical-board":
        form = ("cabinet", "frame", "board")
        names |= zip(form, asking.numbers(*form), strict=True)
    elif way == "chip":
        names |= zip(("chip_x", "chip_y"), asking.numbers("x", "y"), strict=True)
    else:
        names = {"ip_address": asking.request.query.get("address", "")}
    found = await asking.gateway.link.call(
        "where_is", patience=asking.patience.call, **names
    )
    if found is None or found["machine"] != machine:
        raise web.HTTPNotFound(text="there is no such board\n")
    return json_response(where_is_document(found, asking.service))
