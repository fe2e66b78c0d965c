"""The one place where SpiNNMan is used: commands to the BMPs of one frame.

SpiNNMan's ``Transceiver`` needs the process-wide configuration of the SpiNNaker tools;
its connection, pipeline and message classes do not, so they are used directly. Its
process classes bring NumPy with them, which is a third of a whole server's memory.
"""

from __future__ import annotations

import logging
import math
import struct
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from spinnman.connections import SCPRequestPipeLine
from spinnman.connections.udp_packet_connections import BMPConnection
from spinnman.constants import BMP_POWER_ON_TIMEOUT, BMP_TIMEOUT
from spinnman.exceptions import (
    SpinnmanInvalidPacketException,
    SpinnmanIOException,
    SpinnmanTimeoutException,
    SpinnmanUnexpectedResponseCodeException,
)
from spinnman.messages.scp.abstract_messages import (
    AbstractSCPRequest,
    AbstractSCPResponse,
)
from spinnman.messages.scp.enums import PowerCommand, SCPCommand, SCPResult
from spinnman.messages.scp.impl import (
    BMPGetVersion,
    CheckOKResponse,
    ReadFPGARegister,
    SetPower,
    WriteFPGARegister,
)
from spinnman.model import BMPConnectionData

from spalloc_server.hardware import directory
from spalloc_server.links import Links

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=AbstractSCPResponse)

FPGAS_PER_BOARD = 3

FPGA_IDENTITY_REGISTER = 0x00040004
"""A register of each FPGA whose low bits hold the FPGA's own number."""

FPGA_IDENTITY_MASK = 0b11

STOP_REGISTERS: dict[Links, tuple[int, int]] = {
    Links.east: (0, 0x0000005C),
    Links.south: (0, 0x0001005C),
    Links.south_west: (1, 0x0000005C),
    Links.west: (1, 0x0001005C),
    Links.north: (2, 0x0000005C),
    Links.north_east: (2, 0x0001005C),
}
"""The FPGA and the register that stops (1) or passes (0) a link's traffic."""

_RESULT_AND_SEQUENCE = struct.Struct("<10x2H")

_LOOK_UP_SECONDS = 0.5
"""How often, while an answer is waited for, it is looked whether to go on with that."""


class BMPError(Exception):
    """A command to a BMP failed.

    :param hostname: the BMP, as the configuration names it
    :param operation: what was being done, for example ``"power on of boards 0, 3"``
    :param problem: what went wrong
    :param boards: numbers of the boards that the command was about
    """

    def __init__(
        self, hostname: str, operation: str, problem: str, boards: Iterable[int]
    ) -> None:
        super().__init__(f"BMP {hostname}: {operation} failed: {problem}")
        self.hostname = hostname
        self.operation = operation
        self.problem = problem
        self.boards = frozenset(boards)


class _GivenUp(Exception):
    """The answer is not waited for any longer."""

    def __str__(self) -> str:
        return "given up, because the server is being stopped"


class BMPTransceiver:
    """Sends commands to the BMPs of one frame and waits for their answers.

    The BMP is found through `bmp_directory` when the first command is sent, and again
    after a failure, so an instance can be made for a BMP that is not there. Commands
    wait for each other; any thread may give them. All of them raise `BMPError`.

    :param hostname: the BMP of board 0, through which those of the other boards are
        reached
    """

    COMMAND_SECONDS: float = BMP_TIMEOUT
    """Seconds to wait for the answer to anything but a power-on."""

    COMMAND_TRIES: int = 10
    """Times to send such a command. With one packet in five lost each way, a single try
    fails 36 times in a hundred and ten of them 4 times in 100,000."""

    POWER_ON_SECONDS: float = BMP_POWER_ON_TIMEOUT
    """Seconds to wait for the answer to a power-on. It is sent again only after that: a
    second power-on while the first is going on would load the FPGAs twice."""

    POWER_ON_TRIES: int = 4
    """Times to send a power-on."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self.give_up_at = math.inf
        """When to wait for answers no longer, whatever it is that was asked
        (`time.monotonic`). May be set at any time, from any thread."""
        self._lock = threading.RLock()
        self._connection: _PatientConnection | None = None

    def version(self, board: int = 0) -> tuple[int, int, int]:
        """Ask the BMP of a board for its version, as (major, minor, patch)."""
        reply = self._command(
            f"reading the BMP version of board {board}", [board], BMPGetVersion(board)
        )
        number: tuple[int, int, int] = reply.version_info.version_number
        return number

    def set_power(self, on: bool, boards: Iterable[int]) -> None:
        """Power a set of boards on or off and wait until the BMP says that it is done.

        Boards that were powered on need some time before they can be used; see
        `directory.BMPAddress.settle_seconds`.
        """
        numbers = sorted(set(boards))
        self._command(
            f"power {'on' if on else 'off'} of {boards_text(numbers)}",
            numbers,
            _SetPower(PowerCommand.POWER_ON if on else PowerCommand.POWER_OFF, numbers),
            self.POWER_ON_SECONDS if on else self.COMMAND_SECONDS,
            self.POWER_ON_TRIES if on else self.COMMAND_TRIES,
        )

    def read_fpga_register(self, board: int, fpga: int, address: int) -> int:
        """Read a 32-bit register of one of a board's FPGAs (0, 1 or 2)."""
        reply = self._command(
            f"reading register {address:#x} of FPGA {fpga} of board {board}",
            [board],
            ReadFPGARegister(fpga, address, board),
        )
        return reply.fpga_register

    def write_fpga_register(
        self, board: int, fpga: int, address: int, value: int
    ) -> None:
        """Write a 32-bit register of one of a board's FPGAs (0, 1 or 2)."""
        self._command(
            f"writing register {address:#x} of FPGA {fpga} of board {board}",
            [board],
            _WriteFPGARegister(fpga, address, value, board),
        )

    def wrong_fpgas(self, board: int) -> dict[int, int]:
        """Find FPGAs of a powered board that do not know their own number.

        Such an FPGA was loaded with a wrong bitfile. The result maps the number that it
        should have to the one that it gives; it is empty for a sound board.
        """
        wrong = {}
        for fpga in range(FPGAS_PER_BOARD):
            register = self.read_fpga_register(board, fpga, FPGA_IDENTITY_REGISTER)
            if register & FPGA_IDENTITY_MASK != fpga:
                wrong[fpga] = register & FPGA_IDENTITY_MASK
        return wrong

    def set_link(self, board: int, link: Links, enable: bool) -> None:
        """Let the traffic of a board's link pass (True) or stop it (False)."""
        fpga, address = STOP_REGISTERS[link]
        self.write_fpga_register(board, fpga, address, 0 if enable else 1)

    def close(self) -> None:
        """Close the socket; the next command opens another."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _command(
        self,
        operation: str,
        boards: list[int],
        request: AbstractSCPRequest[R],
        seconds: float | None = None,
        tries: int | None = None,
    ) -> R:
        """Send one request as often as needed and give its answer."""
        if seconds is None:
            seconds = self.COMMAND_SECONDS
        if tries is None:
            tries = self.COMMAND_TRIES
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _PatientConnection(
                        self.hostname, lambda: self.give_up_at
                    )
                return self._connection.ask(request, seconds, tries)
            # Everything that SpiNNMan may raise, including its own defects, becomes one
            # type here: none of it may end the thread of a frame.
            except Exception as error:
                problem = _problem(error, seconds, tries, self._connection)
                self.close()
                raise BMPError(self.hostname, operation, problem, boards) from error


# In SpiNNMan 1!7.2.1 to 1!7.4.1 the class that SetPower and WriteFPGARegister make for
# their replies is abstract, so a good reply ends in a TypeError. CheckOKResponse does
# the same job and can be instantiated.


class _SetPower(SetPower):
    def get_scp_response(self) -> CheckOKResponse:  # type: ignore[override]
        return CheckOKResponse("power", SCPCommand.CMD_BMP_POWER)


class _WriteFPGARegister(WriteFPGARegister):
    def get_scp_response(self) -> CheckOKResponse:  # type: ignore[override]
        return CheckOKResponse("write FPGA register", SCPCommand.CMD_LINK_WRITE)


class _PatientConnection(BMPConnection):
    """A connection on which anything but a proper answer counts as a lost packet.

    SpiNNMan repeats a request only on silence. Datagrams that are too short, late
    answers to earlier requests and errors of the network (a BMP that restarts refuses
    packets for a while) would otherwise make the request fail, or wait for longer.
    """

    def __init__(self, hostname: str, give_up_at: Callable[[], float]) -> None:
        """Connect to a BMP; ``give_up_at`` says until when to wait for answers."""
        address = directory.lookup(hostname)
        self._give_up_at = give_up_at
        self._expected_sequence: int | None = None
        self.network_error: Exception | None = None
        try:
            super().__init__(BMPConnectionData(address.host, [0], address.port))
        except SpinnmanIOException:
            # SpiNNMan leaves its socket open where the name cannot be resolved or there
            # is no route.
            if (opened := getattr(self, "_socket", None)) is not None:
                opened.close()
            raise

    def ask(self, request: AbstractSCPRequest[R], seconds: float, tries: int) -> R:
        """Send one request, as often as needed, and give its answer."""
        answers: list[R] = []
        errors: list[Exception] = []

        def failed(_request: Any, error: Exception, *_where: Any) -> None:
            errors.append(error)

        # It is declared for connections to SCAMP only; SpiNNMan itself gives it others.
        connection: Any = self
        pipeline = SCPRequestPipeLine[R](
            connection, n_channels=1, n_retries=tries - 1, packet_timeout=seconds
        )
        pipeline.send_request(request, answers.append, failed)
        pipeline.finish()
        if errors:
            raise errors[0]
        return answers[0]

    def get_scp_data(self, scp_request: AbstractSCPRequest[R]) -> bytes:
        self._expected_sequence = scp_request.scp_request_header.sequence
        self.network_error = None
        return super().get_scp_data(scp_request)

    def send(self, data: bytes) -> None:
        # A refusal of the packet before is reported, instead of sending, by the next
        # call; so it is tried twice.
        for _ in range(2):
            try:
                return super().send(data)
            except SpinnmanIOException as error:
                self.network_error = error
        return None

    def receive_scp_response(
        self, timeout: float | None = 1.0
    ) -> tuple[SCPResult, int, bytes, int]:
        seconds = 1.0 if timeout is None else timeout
        deadline = time.monotonic() + seconds
        while (remaining := deadline - (now := time.monotonic())) > 0:
            if now >= self._give_up_at():
                raise _GivenUp
            try:
                data = self.receive(min(remaining, _LOOK_UP_SECONDS))
            except SpinnmanTimeoutException:
                continue
            except SpinnmanIOException as error:
                self.network_error = error
                # Most network errors are told once, but one that stays must not make
                # this a busy loop.
                time.sleep(min(0.01, remaining))
                continue
            if len(data) < _RESULT_AND_SEQUENCE.size:
                logger.warning(
                    "Ignored a datagram of %d bytes from BMP %s",
                    len(data),
                    self.remote_ip_address,
                )
                continue
            code, sequence = _RESULT_AND_SEQUENCE.unpack_from(data)
            if sequence != self._expected_sequence:
                continue
            return _result(code), sequence, data, 2
        raise SpinnmanTimeoutException("receive", seconds)


def _result(code: int) -> SCPResult:
    try:
        return SCPResult(code)
    except ValueError:
        raise SpinnmanInvalidPacketException(
            "SCP", f"unknown result code {code:#x}"
        ) from None


def boards_text(boards: Iterable[int]) -> str:
    """Name some boards of a frame for a log or an error: ``boards 0, 3``."""
    numbers = sorted(boards)
    return f"board{'' if len(numbers) == 1 else 's'} {', '.join(map(str, numbers))}"


def _problem(
    error: Exception, seconds: float, tries: int, connection: _PatientConnection | None
) -> str:
    """Say what went wrong, in one line."""
    if isinstance(error, SpinnmanUnexpectedResponseCodeException):
        return f"the answer was {error.response}"
    if isinstance(error, SpinnmanTimeoutException):
        problem = f"no answer ({tries} tries of {seconds:g} s)"
        if connection is not None and connection.network_error is not None:
            problem += f"; {connection.network_error}"
        return problem
    if isinstance(error, SpinnmanIOException):
        return error.problem
    if isinstance(error, _GivenUp):
        return str(error)
    return f"{type(error).__name__}: {error}"
