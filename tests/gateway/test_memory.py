"""Memory and routers of chips, of which a stand-in remembers what was written."""

import contextlib
import os
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
import requests
from spinn_utilities.config_holder import set_config
from spinnman.config_setup import unittest_setup
from spinnman.model import DiagnosticFilter
from spinnman.processes.get_version_process import GetVersionProcess
from spinnman.spalloc import SpallocClient

from spalloc_server.simulator.chip_simulator import ChipSimulator
from spalloc_server.simulator.chips import SimulatedChips
from spalloc_server_gateway.memory import CLEAR_ALL, CLEAR_COUNTERS, FILTERS
from spalloc_server_gateway.scp import on_board
from tests.gateway.support import BOARDS, Place, SharedPlace, User, memory
from tests.support import wait_until

ADDRESS = 0x6000_0000


@pytest.fixture(scope="module")
def net() -> str:
    """Addresses of loopback that no other test has: the port is always the same."""
    return f"127.{random.SystemRandom().randrange(2, 250)}.{os.getpid() % 250}"


@pytest.fixture(scope="module")
def shared_place(
    tmp_path_factory: pytest.TempPathFactory, net: str
) -> Iterator[SharedPlace]:
    config = BOARDS.replace("127.0.1", net)
    with SharedPlace(lambda: tmp_path_factory.mktemp("m"), config=config) as shared:
        yield shared


@pytest.fixture
def boards(net: str) -> Iterator[list[SimulatedChips]]:
    """Chips that are at hand here, so that things may go wrong with them."""
    with ChipSimulator() as simulator:
        yield [simulator.switch_on(f"{net}.{n}") for n in (1, 2, 3)]


@pytest.fixture
def user(place: Place) -> User:
    return place.log_in("me")


@pytest.fixture
def job(user: User, boards: list[SimulatedChips]) -> int:
    job = user.create(**{"num-boards": 3})
    user.wait_until_ready(job)
    return job


def at(
    x: int, y: int, address: int = ADDRESS, size: int | None = None
) -> dict[str, int]:
    place = {"x": x, "y": y, "address": address}
    return place if size is None else {**place, "size": size}


def write(user: User, job: int, data: bytes, **place: int) -> requests.Response:
    return user.ask("POST", f"jobs/{job}/memory", params=place, data=data)


def word(board: SimulatedChips, chip: tuple[int, int], address: int) -> int:
    """A word of a chip's memory."""
    return int.from_bytes(board.read(chip, address, 4), "little")


def read(user: User, job: int, **place: int) -> requests.Response:
    return user.ask("GET", f"jobs/{job}/memory", params=place)


@pytest.mark.parametrize("lose", [0.0, 0.1])
def test_what_was_written_is_read(
    user: User, job: int, boards: list[SimulatedChips], lose: float
) -> None:
    for board in boards:
        board.faults.dropped_packets = lose
    # A lost packet is sent again after half a second.
    data = random.Random(1).randbytes(4_000 if lose else 40_000)
    for chip, address, size in (
        ((0, 0), ADDRESS, 4),
        ((1, 1), ADDRESS + 1, 1),
        ((7, 3), ADDRESS + 2, 1001),
        ((9, 5), ADDRESS, 256),
        ((5, 9), ADDRESS + 3, 257),
        ((0, 0), ADDRESS + 4096, len(data)),
        ((0, 0), 2**32 - 8, 8),
        ((0, 0), ADDRESS, 0),
    ):
        written = write(user, job, data[:size], **at(*chip, address))
        assert (written.status_code, written.content) == (202, b"")
        answer = read(user, job, **at(*chip, address, size))
        assert answer.status_code == 200
        assert answer.content == data[:size]
    # Each chip is reached by its own board.
    assert (1, 1) in boards[0].written
    assert (9, 5) in boards[1].written
    assert (5, 9) in boards[2].written
    assert (9, 5) not in boards[0].written


def test_every_chip_of_a_job_has_a_board(user: User, job: int) -> None:
    board = [(x, y) for x in range(8) for y in range(8) if on_board((x, y))]
    assert len(board) == 48
    chips = {(ex + x, ey + y) for ex, ey in [(0, 0), (8, 4), (4, 8)] for x, y in board}
    # Boards do not overlap.
    assert len(chips) == 3 * 48


def test_bodies_of_any_length_are_not_held(
    user: User, job: int, boards: list[SimulatedChips]
) -> None:
    def body() -> Iterator[bytes]:
        for number in range(300):
            yield bytes([number % 256]) * 1000

    written = user.ask("POST", f"jobs/{job}/memory", params=at(0, 0), data=body())
    assert written.status_code == 202
    whole = b"".join(bytes([number % 256]) * 1000 for number in range(300))
    assert boards[0].read((0, 0), ADDRESS, 300_000) == whole


@pytest.mark.parametrize(
    ("where", "status"),
    [
        (at(16, 0), 400),
        (at(300, 0), 400),
        ({"x": 0, "y": 0}, 400),
        (at(0, 0, 2**32), 400),
        ({"x": "a", "y": 0, "address": 0}, 400),
        (at(-1, 0), 400),
    ],
)
def test_places_that_there_are_not(
    user: User, job: int, where: dict[str, int], status: int
) -> None:
    assert write(user, job, b"1234", **where).status_code == status
    assert read(user, job, **where, size=4).status_code == status


def test_more_than_there_is(user: User, job: int) -> None:
    assert read(user, job, **at(0, 0, 2**32 - 4, 8)).status_code == 400
    assert read(user, job, **at(0, 0, 0, 2**31)).status_code == 400
    assert write(user, job, bytes(8), **at(0, 0, 2**32 - 4)).status_code == 400


def test_chips_that_refuse_or_are_silent(
    place: Place, user: User, job: int, boards: list[SimulatedChips]
) -> None:
    boards[0].dead_chips.add((1, 0))
    for answer in (
        write(user, job, bytes(1000), **at(1, 0)),
        read(user, job, **at(1, 0, ADDRESS, 1000)),
    ):
        assert answer.status_code == 502
        assert "chip (1, 0) answers" in answer.text
        assert "NO_ROUTE" in answer.text
    boards[0].faults.silent = True
    before = memory(place)
    sizes: list[int] = []

    def endless() -> Iterator[bytes]:
        for _ in range(60):
            yield bytes(1_000_000)
            sizes.append(memory(place))

    with ThreadPoolExecutor(2) as pool:
        answers = [
            pool.submit(read, user, job, **at(0, 0, ADDRESS, 4)),
            pool.submit(
                user.ask,
                *("POST", f"jobs/{job}/memory"),
                params=at(0, 0),
                data=endless(),
            ),
        ]
        for waiting in answers:
            answer = waiting.result()
            # In less time than clients wait.
            assert answer.elapsed.total_seconds() < 9
            assert answer.status_code == 502
            assert answer.text == "chip (0, 0) does not answer\n"
    # What is sent meanwhile is not held.
    assert len(sizes) == 60
    assert max(sizes) - before < 20e6
    boards[0].faults.silent = False
    assert read(user, job, **at(0, 0, ADDRESS, 4)).content == bytes(4)


def test_routers_are_reset_on_all_chips_that_there_are(
    user: User, job: int, boards: list[SimulatedChips]
) -> None:
    boards[1].dead_chips.add((10, 6))
    boards[2].faults.dropped_packets = 0.02
    reply = user.ask("DELETE", f"jobs/{job}/router?12=4096&15=4294967295")
    assert reply.status_code == 202
    cleared = boards[0].cleared + boards[1].cleared + boards[2].cleared
    assert len(cleared) == 3 * 48 - 1
    for board in boards:
        for chip in board.cleared:
            assert word(board, chip, CLEAR_COUNTERS) == CLEAR_ALL
            assert word(board, chip, FILTERS + 4 * 12) == 4096
            assert word(board, chip, FILTERS + 4 * 15) == 2**32 - 1
    assert user.ask("DELETE", f"jobs/{job}/router").status_code == 202
    for wrong in ("16=1", "a=1", "1=a", "1=-1", "1=4294967296"):
        assert user.ask("DELETE", f"jobs/{job}/router?{wrong}").status_code == 400


@pytest.fixture
def slow_user(place: Place, impatient_gateway: Place) -> User:
    """A user of a gateway whose answers begin sooner."""
    return impatient_gateway.log_in("me")


@pytest.fixture
def impatient_gateway(place: Place, tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as undo:
        yield place.beside(tmp_path, undo, "tests.gateway.impatient")


def test_answers_of_large_jobs_begin_before_all_is_done(
    slow_user: User, job: int, boards: list[SimulatedChips]
) -> None:
    for board in boards:
        board.faults.delay = 0.05
    reply = slow_user.ask("DELETE", f"jobs/{job}/router?12=4096")
    assert reply.status_code == 202
    # Until the headers have come.
    assert reply.elapsed.total_seconds() < 1
    assert reply.text.strip() == ""
    assert len(reply.text) > 2
    assert {len(board.cleared) for board in boards} == {48}
    # Where it fails later, there is no end.
    for board in boards:
        board.faults.delay = 0.3
    commands = boards[0].commands
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(slow_user.ask, "DELETE", f"jobs/{job}/router")
        wait_until(lambda: boards[0].commands > commands + 20)
        for board in boards:
            board.faults.silent = True
        error = waiting.exception()
    assert isinstance(error, requests.RequestException)


def test_only_owners_while_there_are_boards(
    place: Place, user: User, job: int, boards: list[SimulatedChips]
) -> None:
    other = place.log_in("you")
    assert write(other, job, b"1234", **at(0, 0)).status_code == 404
    assert read(other, job, **at(0, 0, ADDRESS, 4)).status_code == 404
    assert other.ask("DELETE", f"jobs/{job}/router").status_code == 404
    write(user, job, b"1234", **at(0, 0))
    asked = boards[0].commands
    user.ask("DELETE", f"jobs/{job}")
    assert read(user, job, **at(0, 0, ADDRESS, 4)).status_code == 409
    assert boards[0].commands == asked


def test_a_transfer_ends_with_its_job(
    place: Place, user: User, job: int, boards: list[SimulatedChips]
) -> None:
    old = place.old_client()

    def body() -> Iterator[bytes]:
        yield bytes(10_000)
        wait_until(lambda: boards[0].commands)
        old.call("destroy_job", job)
        for _ in range(200):
            yield bytes(10_000)

    # It may be cut off while it is still being sent.
    with contextlib.suppress(requests.ConnectionError):
        answer = user.ask("POST", f"jobs/{job}/memory", params=at(0, 0), data=body())
        assert answer.status_code == 502
        assert "the job has other boards now" in answer.text
    assert user.state(job) == "DESTROYED"


def test_spinnman_reads_and_writes(
    place: Place,
    user: User,
    job: int,
    boards: list[SimulatedChips],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unittest_setup()
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(place.ca))
    set_config("Machine", "version", "5")
    monkeypatch.setenv("WEBSOCKET_CLIENT_CA_BUNDLE", str(place.ca))
    data = random.Random(2).randbytes(100_001)
    filters = {
        12: DiagnosticFilter(
            enable_interrupt_on_counter_event=False,
            match_emergency_routing_status_to_incoming_packet=False,
            destinations=[],
            sources=[],
            payload_statuses=[],
            default_routing_statuses=[],
            emergency_routing_statuses=[],
            packet_types=[],
        )
    }
    with SpallocClient(place.url, "me") as client:
        mine = client.get_job(str(job))
        mine.write_data(9, 5, ADDRESS, data)
        assert mine.read_data(9, 5, ADDRESS, len(data)) == data
        mine.reset_routing(filters)
        # As the tool chain does it by default.
        transceiver = mine.create_transceiver(ensure_board_is_ready=False)
        transceiver.write_memory(4, 8, ADDRESS, 0x01020304)
        assert transceiver.read_memory(4, 8, ADDRESS, 4) == bytes([4, 3, 2, 1])
        # This is the chip that has the job's first Ethernet socket.
        transceiver.write_memory(0, 0, ADDRESS, 0x05060708)
        assert transceiver.read_memory(255, 255, ADDRESS, 4) == bytes([8, 7, 6, 5])
        transceiver.reset_routing()
        # Packets of its own go through the proxy.
        selector = transceiver.get_scamp_connection_selector()
        version = GetVersionProcess(selector).get_version(255, 255, 0)
        assert version.version_number == (4, 0, 0)
        transceiver.close()
    assert set(boards[0].cleared.values()) == {2}
    assert len(boards[0].cleared) == 48
    assert word(boards[0], (3, 3), FILTERS + 48) == filters[12].filter_word


def test_fast_data_is_not_there(user: User, job: int) -> None:
    assert user.ask("GET", f"jobs/{job}/fast-data-read").status_code == 501
    assert user.ask("POST", f"jobs/{job}/fast-data-write").status_code == 501
