"""Simulated chips: SpiNNMan's own processes, odd packets, power, and their process."""

import os
import signal
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from spinnman.config_setup import unittest_setup
from spinnman.connections.udp_packet_connections import SCAMPConnection
from spinnman.processes import FixedConnectionSelector
from spinnman.processes.get_version_process import GetVersionProcess
from spinnman.processes.read_memory_process import ReadMemoryProcess
from spinnman.processes.write_memory_process import WriteMemoryProcess

from spalloc_server.simulator import ChipProcess, Result
from spalloc_server.simulator.chip_simulator import ChipSimulator
from spalloc_server.simulator.chips import PAGE_BYTES, SimulatedChips
from tests.bmp_helpers import loopback_host
from tests.support import Client, running_server, wait_until

ADDRESS = 0x6000_0000
VERSION, READ, WRITE, ROUTER = 0, 2, 3, 29
RUN = 1


@pytest.fixture
def simulator() -> Iterator[ChipSimulator]:
    with ChipSimulator(max_memory=8 * PAGE_BYTES) as simulator:
        yield simulator


@pytest.fixture
def host() -> str:
    return loopback_host()


@pytest.fixture
def chips(simulator: ChipSimulator, host: str) -> SimulatedChips:
    return simulator.switch_on(host)


class Asking:
    """Sends packets to a board, byte by byte as they should be."""

    def __init__(self, host: str) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.connect((host, 17893))
        self.socket.settimeout(20)

    def ask(
        self,
        command: int,
        *arguments: int,
        data: bytes = b"",
        chip: tuple[int, int] = (0, 0),
        cpu: int = 0,
    ) -> tuple[int, bytes]:
        """The result and the data of the reply."""
        x, y = chip
        head = bytes([0, 0, 0x87, 0xFF, cpu, 0xFF, y, x, 0, 0])
        words = struct.pack(f"<2H{len(arguments)}I", command, 7, *arguments)
        self.socket.send(head + words + data)
        reply = self.socket.recv(1000)
        assert reply[:10] == bytes([0, 0, 0x07, 0xFF, 0xFF, cpu, 0, 0, y, x])
        result, sequence = struct.unpack_from("<2H", reply, 10)
        assert sequence == 7
        return result, reply[14:]

    def write(self, address: int, data: bytes, chip: tuple[int, int] = (0, 0)) -> int:
        return self.ask(WRITE, address, len(data), 0, data=data, chip=chip)[0]

    def read(self, address: int, size: int, chip: tuple[int, int] = (0, 0)) -> bytes:
        result, data = self.ask(READ, address, size, 0, chip=chip)
        assert result == Result.OK
        return data

    def is_answered(self) -> bool:
        """Does anybody answer, soon?"""
        self.socket.settimeout(0.2)
        try:
            return self.ask(VERSION, 0, 0, 0)[0] == Result.OK
        except OSError:
            return False
        finally:
            self.socket.settimeout(20)


@pytest.fixture
def asking(host: str, chips: SimulatedChips) -> Iterator[Asking]:
    asking = Asking(host)
    with asking.socket:
        yield asking


def test_spinnman_finds_what_it_expects(host: str, chips: SimulatedChips) -> None:
    unittest_setup()
    data = bytes(range(256)) * 8
    connection = SCAMPConnection(remote_host=host)
    selector = FixedConnectionSelector(connection)
    version = GetVersionProcess(selector).get_version(255, 255, 0)
    assert (version.name, version.hardware) == ("SC&MP", "SpiNNaker")
    assert version.version_number == (4, 0, 0)
    assert (version.x, version.y, version.p) == (0, 0, 0)
    version = GetVersionProcess(selector).get_version(9, 5, 0)
    assert (version.x, version.y) == (9, 5)
    WriteMemoryProcess(selector).write_memory_from_bytearray(
        (9, 5, 0), ADDRESS + 2, data, 0, len(data)
    )
    read = ReadMemoryProcess(selector).read_memory((9, 5, 0), ADDRESS, 4 + len(data))
    assert read == bytes(2) + data + bytes(2)
    assert chips.written == {(9, 5)}
    connection.close()


def test_each_chip_remembers_for_itself(asking: Asking) -> None:
    for number in range(4):
        chip = (number, 0)
        assert asking.write(ADDRESS, bytes([number]) * 3, chip) == Result.OK
    for number in range(4):
        chip = (number, 0)
        assert asking.read(ADDRESS, 5, chip) == bytes([number]) * 3 + bytes(2)
    # The one with the socket, whatever it is called.
    assert asking.write(ADDRESS, b"new", (255, 255)) == Result.OK
    assert asking.read(ADDRESS, 3) == b"new"


def test_memory_at_the_edges(asking: Asking) -> None:
    for address in (0, PAGE_BYTES - 2, 2**32 - 4):
        assert asking.write(address, b"abcd") == Result.OK
        assert asking.read(address, 4) == b"abcd"
    assert asking.read(0, 8) == b"abcd" + bytes(4)


@pytest.mark.parametrize(
    ("arguments", "data", "result"),
    [
        ((READ, ADDRESS, 0, 0), b"", Result.BAD_ARGUMENT),
        ((READ, ADDRESS, 257, 0), b"", Result.BAD_ARGUMENT),
        ((READ, ADDRESS + 1, 4, 2), b"", Result.BAD_ARGUMENT),
        ((READ, ADDRESS, 2, 2), b"", Result.BAD_ARGUMENT),
        ((READ, ADDRESS + 1, 2, 1), b"", Result.BAD_ARGUMENT),
        ((READ, ADDRESS, 4, 3), b"", Result.BAD_ARGUMENT),
        ((READ, 2**32 - 4, 8, 0), b"", Result.BAD_ARGUMENT),
        ((WRITE, ADDRESS, 4, 0), b"abc", Result.BAD_LENGTH),
        ((READ, ADDRESS), b"", Result.BAD_LENGTH),
        ((RUN, 0, 0, 0), b"", Result.BAD_COMMAND),
        ((ROUTER, 1, 0, 0), b"", Result.BAD_ARGUMENT),
    ],
)
def test_what_cannot_be_done_is_told(
    asking: Asking, arguments: tuple[int, ...], data: bytes, result: int
) -> None:
    assert asking.ask(*arguments, data=data) == (result, b"")


def test_only_the_monitor_is_there(asking: Asking) -> None:
    assert asking.ask(VERSION, 0, 0, 0, cpu=3) == (Result.BAD_CPU, b"")


def test_packets_that_are_none_are_not_answered(
    asking: Asking, chips: SimulatedChips
) -> None:
    for packet in (b"", b"x", bytes(13)):
        asking.socket.send(packet)
    # Nobody wants an answer to this one.
    asking.socket.send(bytes([0, 0, 0x07]) + bytes(23))
    assert asking.ask(VERSION, 0, 0, 0)[0] == Result.OK
    assert chips.commands == 2


def test_routes_are_counted_and_cleared(asking: Asking, chips: SimulatedChips) -> None:
    assert asking.ask(ROUTER, 5 << 16 | 2, ADDRESS, 0, chip=(1, 2))[0] == Result.OK
    assert chips.routes == {(1, 2): 5}
    assert asking.ask(ROUTER, 0, 0, 0, chip=(1, 2))[0] == Result.OK
    assert not chips.routes
    assert chips.cleared == {(1, 2): 1}


def test_memory_is_bounded_over_all_boards(
    simulator: ChipSimulator, asking: Asking
) -> None:
    for number in range(8):
        assert asking.write(number * PAGE_BYTES, b"x") == Result.OK
    assert asking.write(8 * PAGE_BYTES, b"x") == Result.NO_BUFFER
    assert asking.write(0, b"y") == Result.OK
    assert asking.read(8 * PAGE_BYTES, 1) == b"\0"
    other = loopback_host()
    simulator.switch_on(other)
    another = Asking(other)
    with another.socket:
        assert another.write(0, b"x") == Result.NO_BUFFER
        # It becomes free with power.
        simulator.switch_off(asking.socket.getpeername()[0])
        assert another.write(0, b"x") == Result.OK
    assert not asking.is_answered()


def test_boards_are_at_loopback_addresses_only(simulator: ChipSimulator) -> None:
    for address in ("10.0.0.1", "0.0.0.0", "localhost", "::1", ""):
        with pytest.raises(ValueError, match="no loopback address"):
            simulator.switch_on(address)


# With the server


def config(net: str) -> str:
    """A machine of two boards at loopback addresses and one elsewhere."""
    return f"""
configuration = Configuration(
    machines=[
        Machine(
            "m",
            width=1,
            height=1,
            board_locations={{(0, 0, z): (0, 0, z) for z in range(3)}},
            bmp_ips={{(0, 0): "10.11.12.0"}},
            spinnaker_ips={{
                (0, 0, 0): "{net}.1", (0, 0, 1): "{net}.2", (0, 0, 2): "10.0.0.3"
            }},
        )
    ],
    seconds_before_free=0,
)
"""


def children(pid: int) -> set[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return {int(child) for child in text.split()}


def test_chips_are_there_while_their_boards_are_on(tmp_path: Path, host: str) -> None:
    net = host.rpartition(".")[0]
    with (
        running_server(config(net), "--simulate-chips", folder=tmp_path) as server,
        Client(server.port) as client,
    ):
        first, second = (Asking(f"{net}.{n}") for n in (1, 2))
        assert not first.is_answered()
        job = client.call("create_job", 0, 0, 0, owner="me")
        wait_until(first.is_answered)
        assert not second.is_answered()
        first.write(ADDRESS, b"mine")
        assert first.read(ADDRESS, 4) == b"mine"
        # What is not switched keeps its memory; what is, does not.
        client.call("create_job", 0, 0, 1, owner="me")
        wait_until(second.is_answered)
        assert first.read(ADDRESS, 4) == b"mine"
        client.call("power_on_job_boards", job)
        wait_until(lambda: first.is_answered() and first.read(ADDRESS, 4) == bytes(4))
        client.call("power_off_job_boards", job)
        wait_until(lambda: not first.is_answered())
        assert second.is_answered()
        # They go with the server, however it goes.
        (pid,) = children(server.process.pid)
        os.kill(server.process.pid, signal.SIGKILL)
        wait_until(lambda: not second.is_answered())
        wait_until(lambda: not Path(f"/proc/{pid}").exists())


def test_chips_that_cannot_be_there_are_told_of(
    tmp_path: Path, simulator: ChipSimulator, host: str
) -> None:
    net = host.rpartition(".")[0]
    simulator.switch_on(f"{net}.1")
    with (
        running_server(config(net), "--simulate-chips", folder=tmp_path) as server,
        Client(server.port) as client,
    ):

        def run_job_on(z: int) -> None:
            job = client.call("create_job", 0, 0, z, owner="me")
            wait_until(lambda: client.call("get_job_state", job)["state"] == 3)

        server.wait_for_log("No chips are simulated for 1 of 3 boards: they have no lo")
        run_job_on(2)
        run_job_on(0)
        server.wait_for_log(
            f"No chips are simulated at {net}.1: Address already in use"
        )
        (pid,) = children(server.process.pid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: ") Z " in Path(f"/proc/{pid}/stat").read_text())
        run_job_on(1)
        server.wait_for_log("The simulator of chips has ended: no chips answer")
        assert server.stop() == 0
        assert "Traceback" not in server.log


def test_a_process_that_was_not_needed_is_not_there() -> None:
    process = ChipProcess()
    process.switch("b", [0, 1], True)
    process.close()
