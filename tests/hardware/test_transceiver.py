"""Commands to BMPs through SpiNNMan."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from spalloc_server.hardware import directory
from spalloc_server.hardware.directory import BMPAddress
from spalloc_server.hardware.transceiver import (
    STOP_REGISTERS,
    BMPError,
    BMPTransceiver,
)
from spalloc_server.links import Links
from spalloc_server.simulator import BMPSimulator, Command, SimulatedFrame
from tests.bmp_helpers import wait_for

HOST = "frame.test"


@pytest.fixture
def frame() -> Iterator[SimulatedFrame]:
    with BMPSimulator() as simulator:
        yield simulator.add_frame(HOST)


@pytest.fixture
def bmp() -> Iterator[BMPTransceiver]:
    with contextlib.closing(BMPTransceiver(HOST)) as transceiver:
        yield transceiver


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make silence be noticed soon, and still ride out lost packets."""
    monkeypatch.setattr(BMPTransceiver, "COMMAND_SECONDS", 0.03)
    monkeypatch.setattr(BMPTransceiver, "POWER_ON_SECONDS", 0.05)


Responder = Callable[[bytes], list[bytes]]


@contextlib.contextmanager
def strange_bmp(respond: Responder, at_port: int = 0) -> Iterator[int]:
    """Serve HOST with datagrams that the simulator would not send. Gives the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", at_port))

        def run() -> None:
            while True:
                datagram, sender = sock.recvfrom(512)
                if not datagram:
                    return
                for reply in respond(datagram):
                    sock.sendto(reply, sender)

        thread = threading.Thread(target=run)
        thread.start()
        port: int = sock.getsockname()[1]
        directory.register(HOST, BMPAddress("127.0.0.1", port, 0.0))
        try:
            yield port
        finally:
            directory.forget(HOST)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
                waker.sendto(b"", ("127.0.0.1", port))
            thread.join()


def reply_to(datagram: bytes, result: int, payload: bytes, skip: int = 0) -> bytes:
    (sequence,) = struct.unpack_from("<12xH", datagram)
    sequence = (sequence + skip) % 0x10000
    return (
        b"\0\0\x07\xff\0\xff"
        + bytes(4)
        + struct.pack("<2H", result, sequence)
        + payload
    )


def test_version(frame: SimulatedFrame, bmp: BMPTransceiver) -> None:
    frame.version = (2, 3, 4)
    assert bmp.version() == (2, 3, 4)
    frame.version = (1, 36, 0)
    assert bmp.version(7) == (1, 36, 0)
    assert [command.board for command in frame.received] == [0, 7]


def test_power_goes_to_board_0_with_a_mask(
    frame: SimulatedFrame, bmp: BMPTransceiver
) -> None:
    bmp.set_power(True, [23, 0, 5])
    assert frame.powered_boards == {0, 5, 23}
    bmp.set_power(False, {5})
    assert frame.powered_boards == {0, 23}
    assert [(command.board, command.arguments) for command in frame.received] == [
        (0, (1, 1 | 1 << 5 | 1 << 23, 0)),
        (0, (0, 1 << 5, 0)),
    ]


def test_registers(frame: SimulatedFrame, bmp: BMPTransceiver) -> None:
    bmp.set_power(True, [3])
    bmp.write_fpga_register(3, 2, 0x1234, 0xDEADBEEF)
    assert bmp.read_fpga_register(3, 2, 0x1234) == 0xDEADBEEF
    assert bmp.read_fpga_register(3, 1, 0x1234) == 0
    assert frame.register(3, 2, 0x1234) == 0xDEADBEEF


@pytest.mark.parametrize(
    ("link", "fpga", "address"),
    [
        (Links.east, 0, 0x5C),
        (Links.south, 0, 0x1005C),
        (Links.south_west, 1, 0x5C),
        (Links.west, 1, 0x1005C),
        (Links.north, 2, 0x5C),
        (Links.north_east, 2, 0x1005C),
    ],
)
def test_stopping_a_link_writes_its_own_register(
    frame: SimulatedFrame, bmp: BMPTransceiver, link: Links, fpga: int, address: int
) -> None:
    bmp.set_power(True, [1])
    bmp.set_link(1, link, False)
    values = {where: frame.register(1, *where) for where in STOP_REGISTERS.values()}
    assert values.pop((fpga, address)) == 1
    assert set(values.values()) == {0}
    bmp.set_link(1, link, True)
    assert frame.register(1, fpga, address) == 0


def test_wrong_fpgas_are_found_by_the_low_bits_alone(
    frame: SimulatedFrame, bmp: BMPTransceiver
) -> None:
    frame.faults.load_wrong_fpga(2, fpga=1)
    bmp.set_power(True, [1, 2])
    bmp.write_fpga_register(1, 2, 0x40004, 0xABCDEFFC | 2)
    assert bmp.wrong_fpgas(1) == {}
    assert bmp.wrong_fpgas(2) == {1: 2}


def test_error_code_names_host_boards_operation_and_code(
    frame: SimulatedFrame, bmp: BMPTransceiver
) -> None:
    frame.faults.fail_power([4])
    with pytest.raises(BMPError) as caught:
        bmp.set_power(True, [4, 0])
    assert str(caught.value) == (
        "BMP frame.test: power on of boards 0, 4 failed: the answer was RC_DEAD"
    )
    assert caught.value.boards == {0, 4}
    assert caught.value.hostname == HOST
    bmp.set_power(True, [0])


def test_reading_a_board_that_is_not_there(
    frame: SimulatedFrame, bmp: BMPTransceiver
) -> None:
    with pytest.raises(BMPError, match=r"BMP version of board 30 failed: .*RC_CPU"):
        bmp.version(30)


@pytest.mark.usefixtures("impatient")
def test_silence(frame: SimulatedFrame, bmp: BMPTransceiver) -> None:
    frame.faults.silent = True
    with pytest.raises(BMPError, match=r"board 0 failed: no answer \(10 tries of"):
        bmp.version()
    frame.faults.silent = False
    assert bmp.version() == (2, 1, 0)


@pytest.mark.usefixtures("impatient")
def test_power_that_never_answers(frame: SimulatedFrame, bmp: BMPTransceiver) -> None:
    frame.faults.fail_power([1], result=None)
    with pytest.raises(BMPError, match=r"power on of board 1 failed: no answer \(4 "):
        bmp.set_power(True, [1])
    assert frame.powered_boards == set()
    assert frame.command_counts()[Command.POWER] == 4


@pytest.mark.usefixtures("impatient")
def test_a_fifth_of_the_packets_lost(
    frame: SimulatedFrame, bmp: BMPTransceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BMPTransceiver, "POWER_ON_TRIES", 10)
    frame.faults.dropped_packets = 0.2
    for board in range(8):
        bmp.set_power(True, [board])
        assert bmp.wrong_fpgas(board) == {}
        bmp.set_link(board, Links.west, False)
    assert all(frame.register(board, 1, 0x1005C) == 1 for board in range(8))
    # Some were lost, or this shows nothing.
    assert len(frame.received) > 8 * 5


def test_power_on_is_waited_for(frame: SimulatedFrame, bmp: BMPTransceiver) -> None:
    frame.power_on_seconds = 0.7
    bmp.set_power(True, [0])
    assert frame.powered_boards == {0}
    assert frame.command_counts()[Command.POWER] == 1


def test_unresolvable_host_is_told_when_used() -> None:
    bmp = BMPTransceiver("no-such-host.invalid")
    with pytest.raises(BMPError, match=r"BMP no-such-host\.invalid: .*IP address"):
        bmp.version()


@pytest.mark.usefixtures("impatient")
def test_refused_packets_count_as_lost_and_are_named(bmp: BMPTransceiver) -> None:
    with strange_bmp(lambda datagram: []) as port:
        pass
    directory.register(HOST, BMPAddress("127.0.0.1", port, 0.0))
    started = time.monotonic()
    try:
        with pytest.raises(BMPError, match=r"no answer .* refused"):
            bmp.version()
    finally:
        directory.forget(HOST)
    assert time.monotonic() - started > 0.03 * 9


def test_a_bmp_that_restarts_is_ridden_out(bmp: BMPTransceiver) -> None:
    with strange_bmp(lambda datagram: []) as port:
        pass
    directory.register(HOST, BMPAddress("127.0.0.1", port, 0.0))
    answered: list[tuple[int, int, int]] = []
    thread = threading.Thread(target=lambda: answered.append(bmp.version()))
    try:
        thread.start()
        wait_for(lambda: bmp._connection and bmp._connection.network_error, "a refusal")
        with strange_bmp(lambda datagram: [reply_to(datagram, 0x80, VERSION)], port):
            thread.join()
    finally:
        directory.forget(HOST)
    assert answered == [(2, 1, 0)]


VERSION = struct.pack("<3I", 0, 0xFFFF0100, 0) + b"BC&MP/Spin5-BMP\x002.1.0\0"


def test_rubbish_is_ignored(bmp: BMPTransceiver) -> None:
    def respond(datagram: bytes) -> list[bytes]:
        return [
            b"",
            b"short",
            reply_to(datagram, 0x84, b"", skip=-1),
            reply_to(datagram, 0x80, VERSION),
            b"x" * 100,
        ]

    with strange_bmp(respond):
        assert bmp.version() == (2, 1, 0)
        assert bmp.version() == (2, 1, 0)


@pytest.mark.usefixtures("impatient")
def test_a_stream_of_rubbish_does_not_put_off_the_timeout(bmp: BMPTransceiver) -> None:
    with (
        strange_bmp(lambda datagram: [b"x"] * 50),
        pytest.raises(BMPError, match="no answer"),
    ):
        bmp.version()


def test_unknown_result_code(bmp: BMPTransceiver) -> None:
    with (
        strange_bmp(lambda datagram: [reply_to(datagram, 0x99, b"")]),
        pytest.raises(BMPError, match="unknown result code 0x99"),
    ):
        bmp.version()


@pytest.mark.parametrize(
    "payload",
    [b"", VERSION[:-7], VERSION.replace(b"2.1", b"x")],
    ids=["empty", "cut", "no number"],
)
def test_answer_that_makes_no_sense(bmp: BMPTransceiver, payload: bytes) -> None:
    with (
        strange_bmp(lambda datagram: [reply_to(datagram, 0x80, payload)]),
        pytest.raises(BMPError, match="BMP version of board 0 failed: "),
    ):
        bmp.version()
