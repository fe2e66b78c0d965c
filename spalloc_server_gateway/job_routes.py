"""What can be asked about jobs, and done with them."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from spalloc_server_gateway.context import (
    Asking,
    Parts,
    json_response,
    read_json,
    whole_number,
)
from spalloc_server_gateway.documents import (
    job_document,
    job_machine_document,
    power_name,
    where_is_document,
)
from spalloc_server_gateway.link import RefusedError
from spalloc_server_gateway.wishes import Wish, WishError, read_wish

DEFAULT_PAGE: Final = 100
LONGEST_PAGE: Final = 200
"""How many jobs are in one answer."""

MAX_REPORTED_BOARDS: Final = 100


async def list_jobs(asking: Asking, _parts: Parts) -> web.Response:
    """The URLs of the jobs of everybody, a page at a time."""
    query = asking.request.query
    jobs = asking.gateway.jobs
    ids = {job["job_id"] for job in await jobs.list_all()}
    if asking.flag("deleted"):
        ids |= set(jobs.ended())
    start = whole_number(query.get("start", "0"))
    limit = whole_number(query.get("limit", str(DEFAULT_PAGE)))
    if start is None or not limit:
        raise web.HTTPBadRequest(
            text="start and limit must be whole numbers, limit at least 1\n"
        )
    limit = min(limit, LONGEST_PAGE)
    # By their numbers, so that nobody is left out when an earlier one ends meanwhile.
    later = sorted(job_id for job_id in ids if job_id >= start)
    page = later[:limit]
    document: dict[str, Any] = {"jobs": [asking.job_url(job_id) for job_id in page]}
    if len(later) > limit:
        deleted = "true" if asking.flag("deleted") else "false"
        document["next"] = (
            f"{asking.service}/jobs?deleted={deleted}&limit={limit}"
            f"&start={page[-1] + 1}"
        )
    return json_response(document)


async def create_job(asking: Asking, _parts: Parts) -> web.Response:
    """Ask for boards."""
    try:
        wish = read_wish(await read_json(asking))
        if wish.owner not in (None, asking.user):
            raise web.HTTPForbidden(text="a job is owned by who asks for it\n")
        await _find_board(asking, wish)
        job = await asking.gateway.jobs.create(asking.user, asking.host, wish)
    except WishError as e:
        raise web.HTTPBadRequest(text=f"{e}\n") from None
    url = asking.job_url(job["job_id"])
    document = {"job-id": job["job_id"], "job-ref": url}
    return json_response(document, 201, {"Location": url})


async def _find_board(asking: Asking, wish: Wish) -> None:
    """Give a board that was named by its place or address its coordinates.

    :raises WishError: if there is none
    """
    if wish.place is None and wish.address is None:
        return
    link, patience = asking.gateway.link, asking.patience.call
    listed = await link.call("list_machines", patience=patience)
    name, tags = wish.demands.get("machine"), wish.demands.pop("tags", None)
    machines = [
        machine["name"]
        for machine in listed
        if (
            machine["name"] == name
            if name is not None
            else set(tags or ["default"]) <= set(machine["tags"])
        )
    ]
    board = machine_of = None
    if wish.address is not None:
        found = await link.call("where_is", ip_address=wish.address, patience=patience)
        if found is not None and found["machine"] in machines:
            board, machine_of = found["logical"], found["machine"]
    else:
        for machine in machines:
            board = await link.call(
                "get_board_at_position", machine, *wish.place or (), patience=patience
            )
            if board is not None:
                machine_of = machine
                break
    if board is None:
        raise WishError("there is no such board on a machine that was asked for")
    wish.size, wish.demands["machine"] = list(board), machine_of


async def job_state(asking: Asking, parts: Parts) -> web.Response:
    """A job; with ``wait=true`` when it has changed, or after half a minute."""
    job_id = int(parts[0])
    jobs = asking.gateway.jobs
    if asking.flag("wait"):
        job = await jobs.wait_for_change(asking.cookie, asking.user, job_id)
    else:
        job = await jobs.describe(asking.user, job_id)
    jobs.note_told(asking.cookie, job_id, job)
    url, proxy_url = asking.job_url(job_id), asking.proxy_url(job_id)
    return json_response(job_document({**job, "job_id": job_id}, url, proxy_url))


async def delete_job(asking: Asking, parts: Parts) -> web.Response:
    """End a job; one that has ended already, too."""
    reason = asking.request.query.get("reason", "")
    if reason == "None":
        reason = ""  # so clients call a good end
    reason = reason.encode("utf-8", "replace").decode()
    await asking.gateway.jobs.destroy(
        asking.user, asking.host, int(parts[0]), reason or "destroyed by its owner"
    )
    return web.Response(status=204)


async def keepalive(asking: Asking, parts: Parts) -> web.Response:
    """Keep a job alive. That of somebody else is not, which does no harm."""
    await asking.gateway.jobs.keep_alive(asking.user, asking.host, int(parts[0]))
    return web.Response(text="ok\n")


async def job_machine(asking: Asking, parts: Parts) -> web.Response:
    """The boards of a job; nothing (204) while it has none."""
    job_id = int(parts[0])
    job = await asking.gateway.jobs.describe(asking.user, job_id)
    if not job["boards"]:
        return web.Response(status=204)
    machine_url = asking.machine_url(job["allocated_machine_name"])
    document = job_machine_document(job, asking.job_url(job_id), machine_url)
    return json_response(document)


async def power(asking: Asking, parts: Parts) -> web.Response:
    """Whether the boards of a job are on."""
    job = await asking.gateway.jobs.describe(asking.user, int(parts[0]))
    if job["power"] is None:
        return web.Response(status=204)
    return json_response({"power": power_name(job)})


async def set_power(asking: Asking, parts: Parts) -> web.Response:
    """Switch the boards of a job on (or reset them) or off."""
    body = await read_json(asking)
    wanted = body.get("power") if isinstance(body, dict) else None
    if wanted not in ("ON", "OFF"):
        raise web.HTTPBadRequest(text="power must be ON or OFF\n")
    job_id = int(parts[0])
    await asking.gateway.jobs.switch(asking.user, asking.host, job_id, wanted == "ON")
    return await power(asking, parts)


async def job_chip(asking: Asking, parts: Parts) -> web.Response:
    """Where a chip of a job is; nothing (204) for one that it has not got."""
    x, y = asking.numbers("x", "y")
    job_id = int(parts[0])
    job = await asking.gateway.jobs.describe(asking.user, job_id)
    # The server would go on counting from the other side.
    if not job["boards"] or x >= job["width"] or y >= job["height"]:
        return web.Response(status=204)
    found = await asking.gateway.link.call(
        "where_is", job_id=job_id, chip_x=x, chip_y=y, patience=asking.patience.call
    )
    if found is None:
        return web.Response(status=204)
    return json_response(where_is_document(found, asking.service))


async def report_issue(asking: Asking, parts: Parts) -> web.Response:
    """Report that something is wrong with boards of a job."""
    body = await read_json(asking)
    boards = body.get("boards") if isinstance(body, dict) else None
    if not isinstance(boards, list) or not 0 < len(boards) <= MAX_REPORTED_BOARDS:
        raise web.HTTPBadRequest(
            text=f"boards must be a list of from 1 to {MAX_REPORTED_BOARDS} boards\n"
        )
    job = await asking.gateway.jobs.describe(asking.user, int(parts[0]))
    if not job["boards"]:
        raise web.HTTPBadRequest(text="the job has no boards\n")
    job = {**job, "job_id": int(parts[0])}
    addresses = [await _address_of(asking, job, board) for board in boards]
    for address, chip in addresses:
        try:
            await asking.gateway.link.call(
                "report_problem",
                address,
                *chip,
                description=str(body.get("issue", ""))[:1000],
                patience=asking.patience.call,
                on_behalf_of=asking.host,
            )
        except RefusedError as e:
            raise web.HTTPBadRequest(text=f"{e}\n") from None
    return json_response({"action": f"noted for {len(addresses)} boards"})


async def _address_of(
    asking: Asking, job: Mapping[str, Any], board: Any
) -> tuple[str, list[int]]:
    """The IP address of a board of a job, and the chip on it if one was named.

    :raises HTTPBadRequest: if the job has no such board
    """
    chip: list[int] = []
    address: str | None
    address = board.get("address") if isinstance(board, dict) else None
    if address is None:
        found = await _find(asking, job, board)
        if found is not None and found["job_id"] == job["job_id"]:
            (x, y), (board_x, board_y) = found["job_chip"], found["board_chip"]
            chip = [board_x, board_y] if "chip" in board else []
            # The chips of the job may wrap around.
            ethernet = [(x - board_x) % job["width"], (y - board_y) % job["height"]]
            address = next(
                (ip for at, ip in job["connections"] if at == ethernet), None
            )
    if address is None or not any(ip == address for _, ip in job["connections"]):
        raise web.HTTPBadRequest(text="this is no board of the job\n")
    return address, chip


async def _find(asking: Asking, job: Mapping[str, Any], board: Any) -> Any:
    """Find a board that was named in one of several ways; None for none."""
    names: dict[str, Any]
    try:
        if "chip" in board:
            chip = board["chip"]
            x, y = (chip["x"], chip["y"]) if isinstance(chip, dict) else chip
            names = {"job_id": job["job_id"], "chip_x": x, "chip_y": y}
        else:
            form = ("x", "y", "z") if "x" in board else ("cabinet", "frame", "board")
            names = {name: board[name] for name in form}
            names["machine"] = board.get("machine", job["allocated_machine_name"])
        return await asking.gateway.link.call(
            "where_is", patience=asking.patience.call, **names
        )
    except (TypeError, KeyError, ValueError, AttributeError, RefusedError):
        return None


def host_of(request: web.Request, is_behind_proxy: bool) -> str:
    """The address that a request comes from.

    :param is_behind_proxy: did it come through a front end, which says so?
    """
    host = request.remote or ""
    if is_behind_proxy:
        # The last one is what the front end has added; others anybody may write.
        host = request.headers.get("X-Forwarded-For", host).split(",")[-1].strip()
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return "127.0.0.1"
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
