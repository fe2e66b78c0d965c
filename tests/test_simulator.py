"""The simulator, seen by clients that others wrote, and its faults."""

from __future__ import annotations

import inspect
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from spinnman.connections.udp_packet_connections import BMPConnection
from spinnman.messages.scp.abstract_messages import AbstractSCPRequest
from spinnman.messages.scp.enums import PowerCommand
from spinnman.messages.scp.impl import (
    BMPGetVersion,
    CheckOKResponse,
    ReadFPGARegister,
    SetPower,
    WriteFPGARegister,
)
from spinnman.model import BMPConnectionData
from spinnman.processes import FixedConnectionSelector, SendSingleCommandProcess

from spalloc_server.hardware import directory
from spalloc_server.simulator import BMPSimulator, Command, Result, SimulatedFrame
from tests.bmp_helpers import loopback_host, wait_for

HOST = "frame.test"


@pytest.fixture
def simulator() -> Iterator[BMPSimulator]:
    with BMPSimulator() as simulator:
        yield simulator


@pytest.fixture
def frame(simulator: BMPSimulator) -> SimulatedFrame:
    return simulator.add_frame(HOST, cabinet=3, frame=2)


# rig's own client.


@pytest.fixture(scope="module")
def rig_class() -> Any:
    """Import rig's client, which wants a function that Python 3.11 has removed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            inspect,
            "getargspec",
            lambda function: inspect.getfullargspec(function)[:4],
            raising=False,
        )
        from rig.machine_control.bmp_controller import BMPController
    return BMPController


@pytest.fixture
def rig(
    rig_class: Any, simulator: BMPSimulator, frame: SimulatedFrame
) -> Iterator[Any]:
    host, port = simulator.address(HOST)
    client = rig_class(host, scp_port=port)
    yield client
    for connection in client.connections.values():
        connection.close()


def test_rig_reads_the_version_of_each_board(rig: Any, frame: SimulatedFrame) -> None:
    for board in range(24):
        info = rig.get_software_version(0, 0, board)
        assert (info.code_block, info.frame_id, info.board_id) == (3, 2, board)
        assert info.version == (2, 1, 0)
        assert info.version_string == "BC&MP/Spin5-BMP"
        assert info.version_labels == ""
        assert info.buffer_size == 256
    assert rig.scp_data_length == 256


def test_rig_reads_an_old_version(rig: Any, frame: SimulatedFrame) -> None:
    frame.version = (1, 36, 0)
    info = rig.get_software_version(0, 0, 0)
    assert info.version == (1, 36, 0)
    assert info.version_string == "BC&MP/Spin5-BMP"


def test_rig_powers_boards(rig: Any, frame: SimulatedFrame) -> None:
    rig.set_power(True, board=[1, 2, 23], delay=0.01, post_power_on_delay=0)
    assert frame.powered_boards == {1, 2, 23}
    rig.set_power(False, board=2)
    assert frame.powered_boards == {1, 23}


def test_rig_sets_leds(rig: Any, frame: SimulatedFrame) -> None:
    rig.set_led([0, 7], True, board=[3, 4])
    assert [frame.leds(board) for board in (2, 3, 4)] == [0, 0x81, 0x81]
    rig.set_led(7, False, board=3)
    rig.set_led([1, 7], None, board=4)
    assert [frame.leds(board) for board in (3, 4)] == [0x01, 0x03]
    rig.set_power(True, board=3, post_power_on_delay=0)
    assert frame.leds(3) == 0x01


def test_rig_uses_registers_which_power_on_resets(
    rig: Any, frame: SimulatedFrame
) -> None:
    rig.set_power(True, board=[4, 5], post_power_on_delay=0)
    assert [rig.read_fpga_reg(fpga, 0x40004, board=4) for fpga in range(3)] == [0, 1, 2]
    rig.write_fpga_reg(1, 0x1005C, 0xFEDCBA98, board=4)
    assert rig.read_fpga_reg(1, 0x1005C, board=4) == 0xFEDCBA98
    assert rig.read_fpga_reg(0, 0x1005C, board=4) == 0
    assert rig.read_fpga_reg(1, 0x1005C, board=5) == 0
    rig.set_power(True, board=4, post_power_on_delay=0)
    assert rig.read_fpga_reg(1, 0x1005C, board=4) == 0
    rig.set_power(False, board=4)
    rig.write_fpga_reg(1, 0x1005C, 1, board=4)
    assert rig.read_fpga_reg(1, 0x40004, board=4) == 0
    rig.set_power(True, board=4, post_power_on_delay=0)
    assert rig.read_fpga_reg(1, 0x1005C, board=4) == 0


def test_rig_reads_voltages(rig: Any, frame: SimulatedFrame) -> None:
    assert rig.read_adc(board=1).voltage_1_8 == 0
    rig.set_power(True, board=1, post_power_on_delay=0)
    adc = rig.read_adc(board=1)
    assert adc.voltage_1_2a == pytest.approx(1.2, abs=0.01)
    assert adc.voltage_1_8 == pytest.approx(1.8, abs=0.01)
    assert adc.voltage_3_3 == pytest.approx(3.3, abs=0.01)
    assert adc.voltage_supply == pytest.approx(12.0, abs=0.01)
    assert adc.temp_top == 35
    assert adc.temp_ext_0 is None
    assert adc.fan_1 is None


def test_rig_is_told_of_errors(rig: Any, frame: SimulatedFrame) -> None:
    with pytest.raises(OSError, match="RC_CMD"):
        rig.send_scp(99, board=0)
    with pytest.raises(OSError, match="RC_CPU"):
        rig.get_software_version(0, 0, 24)
    with pytest.raises(OSError, match="RC_ARG"):
        rig.read_fpga_reg(3, 0, board=0)
    with pytest.raises(OSError, match="RC_ARG"):
        rig.write_fpga_reg(3, 0, 0, board=0)
    with pytest.raises(OSError, match="RC_ARG"):
        rig.set_power(False, board=24)
    with pytest.raises(OSError, match="RC_ARG"):
        rig.set_led(0, True, board=[0, 24])
    with pytest.raises(OSError, match="RC_ARG"):
        rig.send_scp(Command.BMP_INFO, arg1=0, board=0)
    with pytest.raises(OSError, match="RC_LEN"):
        rig.send_scp(Command.FPGA_WRITE, arg2=4, board=0)
    frame.version = (1, 36, 0)
    with pytest.raises(OSError, match="RC_CMD"):
        rig.read_fpga_reg(0, 0, board=0)
    with pytest.raises(OSError, match="RC_CMD"):
        rig.write_fpga_reg(0, 0, 0, board=0)


# SpiNNMan's own client.


class CheckedSetPower(SetPower):
    def get_scp_response(self) -> CheckOKResponse:  # type: ignore[override]
        return CheckOKResponse("power", "CMD_BMP_POWER")


class CheckedWriteFPGARegister(WriteFPGARegister):
    def get_scp_response(self) -> CheckOKResponse:  # type: ignore[override]
        return CheckOKResponse("write", "CMD_LINK_WRITE")


@pytest.fixture
def spinnman(simulator: BMPSimulator, frame: SimulatedFrame) -> Iterator[Any]:
    host, port = simulator.address(HOST)
    connection = BMPConnection(BMPConnectionData(host, [0], port))

    def call(request: AbstractSCPRequest[Any]) -> Any:
        selector = FixedConnectionSelector(connection)
        return SendSingleCommandProcess[Any](selector).execute(request)

    yield call
    connection.close()


def test_spinnman_reads_versions(
    spinnman: Callable[..., Any], frame: SimulatedFrame
) -> None:
    info = spinnman(BMPGetVersion(board=7)).version_info
    assert info.version_number == (2, 1, 0)
    assert (info.name, info.hardware) == ("BC&MP", "Spin5-BMP")
    assert (info.x, info.y, info.p) == (3, 2, 7)
    frame.version = (1, 36, 0)
    info = spinnman(BMPGetVersion(board=7)).version_info
    assert info.version_number == (1, 36, 0)
    assert (info.name, info.hardware) == ("BC&MP", "Spin5-BMP")


def test_spinnman_powers_boards_and_uses_registers(
    spinnman: Callable[..., Any], frame: SimulatedFrame
) -> None:
    spinnman(CheckedSetPower(PowerCommand.POWER_ON, [3, 5]))
    assert frame.powered_boards == {3, 5}
    assert spinnman(ReadFPGARegister(2, 0x40004, 5)).fpga_register == 2
    spinnman(CheckedWriteFPGARegister(2, 0x5C, 1, 5))
    assert spinnman(ReadFPGARegister(2, 0x5C, 5)).fpga_register == 1
    assert frame.register(5, 2, 0x5C) == 1
    spinnman(CheckedSetPower(PowerCommand.POWER_OFF, [3]))
    assert frame.powered_boards == {5}


# Datagrams.


@pytest.fixture
def raw(simulator: BMPSimulator, frame: SimulatedFrame) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect(simulator.address(HOST))
        sock.settimeout(10)
        yield sock


HEADER = bytes([0, 0, 0x87, 0xFF, 5, 0xE7, 1, 2, 3, 4])
VERSION_REQUEST = HEADER + struct.pack("<2H3I", 0, 0xABCD, 0, 0, 0)


def test_reply_as_it_is_on_the_wire(raw: socket.socket) -> None:
    raw.send(VERSION_REQUEST)
    assert raw.recv(512) == (
        bytes([0, 0, 0x07, 0xFF, 0xE7, 5, 3, 4, 1, 2])
        + struct.pack("<2H", 0x80, 0xABCD)
        + bytes([5, 5, 2, 3])
        + struct.pack("<2HI", 256, 0xFFFF, 0)
        + b"BC&MP/Spin5-BMP\x002.1.0\0"
    )


def test_datagrams_that_are_too_short(raw: socket.socket) -> None:
    for length in range(len(VERSION_REQUEST)):
        raw.send(VERSION_REQUEST[:length])
    raw.send(HEADER + struct.pack("<2H3I", 0, 0x1234, 0, 0, 0))
    codes = []
    while True:
        code, sequence = struct.unpack_from("<10x2H", raw.recv(512))
        if sequence == 0x1234:
            break
        codes.append(code)
    # Below 14 bytes there is nothing to reply to.
    assert codes == [Result.BAD_LENGTH] * (len(VERSION_REQUEST) - 14)


def test_no_reply_is_sent_where_none_is_wanted(
    raw: socket.socket, frame: SimulatedFrame
) -> None:
    silent = bytes([0, 0, 0x07, *HEADER[3:]])
    raw.send(silent + struct.pack("<2H3I", Command.POWER, 1, 1, 0b10, 0))
    raw.send(VERSION_REQUEST)
    assert struct.unpack_from("<12xH", raw.recv(512)) == (0xABCD,)
    assert frame.powered_boards == {1}
    assert [command.command for command in frame.received] == [57, 0]
    frame.forget_received()
    assert frame.received == []


def test_power_on_answers_when_it_is_done_and_others_meanwhile(
    raw: socket.socket, frame: SimulatedFrame, simulator: BMPSimulator
) -> None:
    frame.power_on_seconds = 0.5
    started = time.monotonic()
    raw.send(HEADER + struct.pack("<2H3I", Command.POWER, 1, 1, 0b10, 0))
    raw.send(VERSION_REQUEST)
    assert struct.unpack_from("<12xH", raw.recv(512)) == (0xABCD,)
    assert time.monotonic() - started < 0.5
    assert frame.powered_boards == set()
    assert struct.unpack_from("<10x2H", raw.recv(512)) == (0x80, 1)
    assert frame.powered_boards == {1}
    assert time.monotonic() - started >= 0.5


def test_late_answers(raw: socket.socket, frame: SimulatedFrame) -> None:
    frame.faults.delay = 0.2
    started = time.monotonic()
    raw.send(VERSION_REQUEST)
    raw.recv(512)
    assert time.monotonic() - started >= 0.2


def test_packets_are_dropped_both_ways(
    raw: socket.socket, frame: SimulatedFrame
) -> None:
    frame.faults.dropped_packets = 0.2
    sent = answers = 0
    while sent < 500:
        # As many as a socket holds, so that none are dropped but by the simulator.
        for _ in range(50):
            raw.send(VERSION_REQUEST)
        sent += 50
        while select.select([raw], [], [], 0.1)[0]:
            raw.recv(512)
            answers += 1
    received = len(frame.received)
    assert 0.7 * sent < received < 0.9 * sent
    assert 0.7 * received < answers < 0.9 * received


def test_silence_and_its_end(raw: socket.socket, frame: SimulatedFrame) -> None:
    frame.faults.silent = True
    raw.send(VERSION_REQUEST)
    assert not select.select([raw], [], [], 0.1)[0]
    frame.faults.clear()
    raw.send(VERSION_REQUEST)
    assert raw.recv(512)


def test_power_faults_strike_as_told(frame: SimulatedFrame, rig: Any) -> None:
    frame.faults.fail_power([1], on=True, times=1)
    frame.faults.fail_power(on=False, result=Result.BAD_ARGUMENT)
    with pytest.raises(OSError, match="RC_DEAD"):
        rig.set_power(True, board=[0, 1], post_power_on_delay=0)
    assert frame.powered_boards == set()
    rig.set_power(True, board=[0, 1], post_power_on_delay=0)
    with pytest.raises(OSError, match="RC_ARG"):
        rig.set_power(False, board=5)
    frame.faults.clear()
    rig.set_power(False, board=0)
    assert frame.powered_boards == {1}


def test_wrong_fpgas_load_as_told(frame: SimulatedFrame, rig: Any) -> None:
    frame.faults.load_wrong_fpga(1, fpga=2, times=2)
    seen = []
    for _ in range(3):
        rig.set_power(True, board=[0, 1], post_power_on_delay=0)
        assert rig.read_fpga_reg(2, 0x40004, board=0) == 2
        seen.append(rig.read_fpga_reg(2, 0x40004, board=1))
    assert seen == [0, 0, 2]


# Addresses.


def configuration(*hostnames: str) -> Any:
    """Make what the simulator needs of a configuration: a machine for each BMP."""
    return SimpleNamespace(
        machines=[
            SimpleNamespace(bmp_ips={(1, number): hostname})
            for number, hostname in enumerate(hostnames)
        ]
    )


def test_hosts_are_served_on_this_computer_only(
    simulator: BMPSimulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_lookup(*args: object) -> None:
        raise AssertionError("a hostname was looked up")

    monkeypatch.setattr(socket, "gethostbyname", no_lookup)
    monkeypatch.setattr(socket, "getaddrinfo", no_lookup)
    own = loopback_host()
    names = ["bmp.example.com", "10.11.12.13", "::1", own]
    simulator.serve(configuration(*names))
    for name in names:
        address = directory.lookup(name)
        assert address.settle_seconds == 0
        assert (address.host, address.port) == simulator.address(name)
    assert simulator.address(own) == (own, 17893)
    elsewhere = [simulator.address(name) for name in names[:3]]
    assert {host for host, _ in elsewhere} == {"127.0.0.1"}
    assert len({port for _, port in elsewhere}) == 3
    assert simulator.frames["10.11.12.13"].cabinet == 1
    assert simulator.frames["10.11.12.13"].frame == 1


def test_machines_that_name_one_bmp_share_its_frame(simulator: BMPSimulator) -> None:
    simulator.serve(configuration("shared.test", "shared.test"))
    assert list(simulator.frames) == ["shared.test"]
    first = simulator.frames["shared.test"]
    simulator.serve(configuration("shared.test", "new.test"))
    assert simulator.frames["shared.test"] is first
    assert set(simulator.frames) == {"shared.test", "new.test"}
    with pytest.raises(ValueError, match=r"BMP new\.test is there already"):
        simulator.add_frame("new.test")


def test_addresses_are_forgotten_and_freed_at_the_end() -> None:
    host = loopback_host()
    for _ in range(2):
        with BMPSimulator() as simulator:
            simulator.serve(configuration(host, "away.test"))
            assert directory.lookup("away.test").host == "127.0.0.1"
        assert directory.lookup("away.test").host == "away.test"
    simulator.stop()


def test_an_address_in_use_is_named() -> None:
    host = loopback_host()
    with BMPSimulator() as first, BMPSimulator() as second:
        first.serve(configuration(host))
        with pytest.raises(
            OSError, match=f"cannot simulate BMP {host} at {host} port 17893: Address"
        ):
            second.serve(configuration(host))
        assert second.frames == {}


def test_a_simulator_that_never_started_can_be_stopped() -> None:
    simulator = BMPSimulator()
    simulator.add_frame("never.test")
    simulator.stop()
    assert directory.lookup("never.test").host == "never.test"


def test_many_frames_share_one_thread() -> None:
    before = threading.active_count()
    with BMPSimulator() as simulator:
        simulator.serve(configuration(*(f"frame-{n}.test" for n in range(50))))
        assert threading.active_count() == before + 1
        assert len({simulator.address(name) for name in simulator.frames}) == 50


def test_it_uses_no_processor_time_when_idle(
    simulator: BMPSimulator, raw: socket.socket
) -> None:
    raw.send(VERSION_REQUEST)
    raw.recv(512)
    (thread,) = (t for t in threading.enumerate() if t.name == "BMP simulator")
    schedstat = Path(f"/proc/self/task/{thread.native_id}/schedstat")

    def asleep() -> bool:
        status = Path(f"/proc/self/task/{thread.native_id}/stat").read_text()
        return status.rsplit(")", 1)[1].split()[0] == "S"

    wait_for(asleep, "the thread to sleep")
    before = schedstat.read_text().split()[2]
    assert not select.select([raw], [], [], 0.3)[0]
    # Not once has it been given the processor.
    assert schedstat.read_text().split()[2] == before
