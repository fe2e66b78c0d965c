"""Memory of chips, read and written by single requests, and routers reset."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections import OrderedDict
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Coroutine,
)
from functools import partial
from typing import Final

from aiohttp import web

from spalloc_server_gateway.board_watch import BoardAddresses, BoardWatch, Chip
from spalloc_server_gateway.context import Asking, Parts
from spalloc_server_gateway.jobs import POWER, READY
from spalloc_server_gateway.link import AwayError
from spalloc_server_gateway.scp import (
    PIECE_BYTES,
    WINDOW,
    Board,
    NoChipError,
    SCPError,
    on_board,
)

MAX_READ: Final = 128 * 1024 * 1024
"""The most bytes of one request to read: a chip has no more."""

CLEAR_COUNTERS: Final = 0xF100_002C
CLEAR_ALL: Final = 0xFFFF_FFFF
"""What clears, and enables, all diagnostic counters of a router."""

ANY_CHIP: Final = (255, 255)
FIRST_CHIP: Final = (0, 0)
"""In packets, the former stands for the chip that has the Ethernet socket. Clients ask
for it where all chips have the same."""

FILTERS: Final = 0xE100_0200
MAX_FILTER: Final = 15
"""The diagnostic filters, a word each."""

CHIPS_OF_BOARD: Final = [(x, y) for x in range(8) for y in range(8) if on_board((x, y))]
"""The chips of a board, counted from its Ethernet chip."""

CHIPS_AT_ONCE: Final = 32
"""Of how many chips routers are reset at a time."""

SHARE_OF_DESCRIPTORS: Final = 8
"""One descriptor in so many may be a socket for memory."""


class JobChips:
    """The chips of one job."""

    def __init__(self) -> None:
        self._addresses: BoardAddresses = {}
        self._boards: dict[Chip, Board] = {}
        self._size = (1, 1)
        self.known = asyncio.Event()
        """Has it been told its boards?"""

    @property
    def sockets(self) -> int:
        """How many sockets are open."""
        return len(self._boards)

    def set_size(self, width: int, height: int) -> None:
        """Say how large the job is, in chips; it may wrap around."""
        self._size = width, height

    def set_boards(self, boards: BoardAddresses) -> None:
        """These are the boards; with any change all that is under way fails."""
        self.known.set()
        if boards != self._addresses:
            self._addresses = boards
            self.close()

    def close(self) -> None:
        """Close all sockets."""
        for board in self._boards.values():
            board.close()
        self._boards.clear()

    def board_of(self, chip: Chip) -> Board:
        """The board that a chip is on.

        :raises NoChipError: if it is on none of the job
        :raises SCPError: if it cannot be reached
        """
        width, height = self._size
        (x, y) = chip
        for i, j in CHIPS_OF_BOARD if x < width and y < height else ():
            ethernet = (x - i) % width, (y - j) % height
            if ethernet in self._addresses:
                return self.board_at(ethernet)
        raise NoChipError(f"chip {chip} is not one of the job's")

    def board_at(self, ethernet: Chip) -> Board:
        """The board whose Ethernet chip is there.

        :raises NoChipError: if the job has none there
        :raises SCPError: if it cannot be reached
        """
        if ethernet not in self._boards:
            address = self._addresses.get(ethernet)
            if address is None:
                raise NoChipError(f"the job has no board at {ethernet}")
            try:
                self._boards[ethernet] = Board(address)
            except OSError as e:
                raise SCPError(f"board {address}: {e.strerror}") from None
        return self._boards[ethernet]

    def all(self) -> list[tuple[Chip, Chip]]:
        """All chips that there are if none is dead, each after its Ethernet chip."""
        width, height = self._size
        return [
            ((x, y), ((x + i) % width, (y + j) % height))
            for i, j in CHIPS_OF_BOARD
            for x, y in self._addresses
        ]


class Memory:
    """The handlers, and the sockets that they share. For one event loop."""

    def __init__(self, watch: BoardWatch) -> None:
        """Begin without any.

        :param watch: tells which boards jobs have
        """
        self._watch = watch
        # The longest unused first.
        self._jobs: OrderedDict[int, JobChips] = OrderedDict()
        self._users: dict[int, int] = {}

    @contextlib.asynccontextmanager
    async def _chips(self, asking: Asking, job_id: int) -> AsyncIterator[JobChips]:
        """The chips of a job of the user, while they are being used."""
        job = await asking.gateway.jobs.describe(asking.user, job_id)
        if asking.gateway.link.away_seconds > asking.patience.suspend:
            raise AwayError("the spalloc server cannot be reached")
        if job["state"] not in (POWER, READY) or not job["boards"]:
            raise web.HTTPConflict(text="the job has no boards\n")
        chips = self._jobs.get(job_id)
        if chips is None:
            self._make_room()
            chips = self._jobs[job_id] = JobChips()
            chips.set_size(job["width"], job["height"])
            await self._watch.add(job_id, chips, job)
        else:
            chips.set_size(job["width"], job["height"])
        self._jobs.move_to_end(job_id)
        await chips.known.wait()
        self._users[job_id] = self._users.get(job_id, 0) + 1
        try:
            yield chips
        finally:
            self._users[job_id] -= 1
            if not self._users[job_id]:
                del self._users[job_id]

    def _make_room(self) -> None:
        """Close sockets that have not been used for long, if there are many."""
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // SHARE_OF_DESCRIPTORS
        for job_id in list(self._jobs):
            if sum(chips.sockets + 1 for chips in self._jobs.values()) <= limit:
                return
            if job_id not in self._users:
                chips = self._jobs.pop(job_id)
                self._watch.remove(job_id, chips)
                chips.close()

    async def read(self, asking: Asking, parts: Parts) -> web.StreamResponse:
        """Read memory of a chip, and send it as it comes."""
        address, size = asking.numbers("address", "size")
        chip = _chip(asking)
        if size > MAX_READ or address + size > 2**32:
            raise web.HTTPBadRequest(text="there is not so much memory\n")
        async with self._chips(asking, int(parts[0])) as chips:
            board = _board_of(chips, chip)
            response = web.StreamResponse()
            response.content_type = "application/octet-stream"
            response.content_length = size
            pieces = _read(board, chip, address, size)
            try:
                async for piece in pieces:
                    # Only now it is known that there is anything to send.
                    if not response.prepared:
                        await response.prepare(asking.request)
                    await response.write(piece)
            except SCPError:
                if not response.prepared:
                    raise
                _break_off(asking)
            finally:
                await pieces.aclose()
            if not response.prepared:
                await response.prepare(asking.request)
        return response

    async def write(self, asking: Asking, parts: Parts) -> web.StreamResponse:
        """Write memory of a chip as it comes in."""
        (address,) = asking.numbers("address")
        chip = _chip(asking)
        async with self._chips(asking, int(parts[0])) as chips:
            board = _board_of(chips, chip)
            content = asking.request.content
            async with _Crew() as crew:
                rest = b""
                while chunk := await _some(content.readany, asking.patience.body):
                    rest += chunk
                    while len(rest) >= PIECE_BYTES:
                        piece, rest = rest[:PIECE_BYTES], rest[PIECE_BYTES:]
                        _check_end(address, piece)
                        await crew.start(partial(board.write, chip, address, piece))
                        address += len(piece)
                if rest:
                    _check_end(address, rest)
                    await crew.start(partial(board.write, chip, address, rest))
        return web.Response(status=202)

    async def reset_routing(self, asking: Asking, parts: Parts) -> web.StreamResponse:
        """Clear counters and routes of all routers of a job, and set filters."""
        filters = []
        for name, value in asking.request.query.items():
            if not (name.isdecimal() and value.isdecimal()):
                raise web.HTTPBadRequest(text="filters are NUMBER=WORD\n")
            if int(name) > MAX_FILTER or int(value) >= 2**32:
                raise web.HTTPBadRequest(text="there is no such filter\n")
            filters.append((FILTERS + 4 * int(name), int(value)))
        words = [(CLEAR_COUNTERS, CLEAR_ALL), *filters]
        async with self._chips(asking, int(parts[0])) as chips:
            return await _answer_meanwhile(asking, _reset(chips, words))


class _Crew:
    """Several things done at the same time; the first failure is that of all."""

    def __init__(self, size: int = WINDOW) -> None:
        """Begin without any.

        :param size: how many there may be at a time
        """
        self._size = size
        self._work: set[asyncio.Task[None]] = set()

    async def start(self, begin: Callable[[], Coroutine[None, None, None]]) -> None:
        """Begin with something, when there is room for it."""
        while len(self._work) >= self._size:
            await self._wait(asyncio.FIRST_COMPLETED)
        self._work.add(asyncio.ensure_future(begin()))

    async def _wait(self, until: str) -> None:
        done, self._work = await asyncio.wait(self._work, return_when=until)
        # Of several failures all are looked at, and one is told.
        failures = [error for task in done if (error := task.exception()) is not None]
        if failures:
            raise failures[0]

    async def __aenter__(self) -> _Crew:
        return self

    async def __aexit__(self, kind: object, *_details: object) -> None:
        try:
            while kind is None and self._work:
                await self._wait(asyncio.FIRST_EXCEPTION)
        finally:
            for task in self._work:
                task.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)


async def _read(
    board: Board, chip: Chip, address: int, size: int
) -> AsyncGenerator[bytes, None]:
    """Read memory, piece by piece, with several under way."""
    under_way: list[asyncio.Task[bytes]] = []
    end = address + size
    try:
        while address < end or under_way:
            while address < end and len(under_way) < WINDOW:
                length = min(PIECE_BYTES, end - address)
                reading = board.read(chip, address, length)
                under_way.append(asyncio.ensure_future(reading))
                address += length
            yield await under_way[0]
            del under_way[0]
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _reset(chips: JobChips, words: list[tuple[int, int]]) -> None:
    """Write words to all chips of a job, and clear their routes.

    :param words: with their addresses
    :raises SCPError: if that fails
    """
    found = 0

    async def reset(ethernet: Chip, chip: Chip) -> None:
        nonlocal found
        # Dead chips are not known here; they show themselves.
        with contextlib.suppress(NoChipError):
            board = chips.board_at(ethernet)
            for address, word in words:
                await board.write(chip, address, word.to_bytes(4, "little"))
            await board.clear_routes(chip)
            found += 1

    async with _Crew(CHIPS_AT_ONCE) as crew:
        for ethernet, chip in chips.all():
            await crew.start(partial(reset, ethernet, chip))
    if not found:
        raise SCPError("no chip of the job answers as it should")


async def _answer_meanwhile(
    asking: Asking, work: Coroutine[None, None, None]
) -> web.StreamResponse:
    """Answer 202 when something is done, or before, if that takes long.

    Large jobs have tens of thousands of chips, and clients wait for some seconds only:
    for the answer, and then for each next byte.
    """
    seconds, task = asking.patience.answer, asyncio.ensure_future(work)
    try:
        await asyncio.wait([task], timeout=seconds)
        if task.done():
            task.result()
            return web.Response(status=202)
        response = web.StreamResponse(status=202)
        await response.prepare(asking.request)
        while not task.done():
            await response.write(b" ")
            await asyncio.wait([task], timeout=seconds)
        try:
            task.result()
        except SCPError:
            _break_off(asking)
        return response
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _break_off(asking: Asking) -> None:
    """Say that something has failed when it is too late to say so in any other way."""
    if asking.request.transport is not None:
        asking.request.transport.close()


def _chip(asking: Asking) -> Chip:
    """The chip that is asked for."""
    x, y = asking.numbers("x", "y")
    return FIRST_CHIP if (x, y) == ANY_CHIP else (x, y)


def _board_of(chips: JobChips, chip: Chip) -> Board:
    try:
        return chips.board_of(chip)
    except NoChipError as e:
        raise web.HTTPBadRequest(text=f"{e}\n") from None


def _check_end(address: int, piece: bytes) -> None:
    if address + len(piece) > 2**32:
        raise web.HTTPBadRequest(text="there is not so much memory\n")


async def _some(read: Callable[[], Awaitable[bytes]], seconds: float) -> bytes:
    """The next part of a body, which must not keep us waiting."""
    try:
        return await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        raise web.HTTPRequestTimeout(text="the body took too long\n") from None
