"""A simulated frame: what its BMPs know and how they answer commands."""

from __future__ import annotations

import struct
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from spalloc_server.simulator.injected_faults import Faults
from spalloc_server.simulator.scp import (
    Answer,
    Command,
    LEDAction,
    Request,
    Result,
    answer_now,
    version_payload,
)

BOARDS_PER_FRAME = 24
FPGAS_PER_BOARD = 3
LEDS_PER_BOARD = 8

MAX_REMEMBERED = 10_000
"""How many of the latest commands a frame remembers."""

FPGA_IDENTITY_REGISTER = 0x00040004
"""A register whose low bits hold the number of the FPGA."""

_WORD = struct.Struct("<I")
_ADC = struct.Struct("<8H4h4h4h2I")
_ADC_INFORMATION = 3
_NO_SENSOR = -0x8000
_NO_FAN = -1


class ReceivedCommand(NamedTuple):
    """A command that a frame has received, for tests to look at."""

    command: int
    board: int
    arguments: tuple[int, int, int] | None
    data: bytes


@dataclass
class _Board:
    """One board of the frame."""

    powered: bool = False
    leds: int = 0
    registers: tuple[dict[int, int], ...] = field(
        default_factory=lambda: tuple({} for _ in range(FPGAS_PER_BOARD))
    )


class SimulatedFrame:
    """The boards of a frame with their BMPs.

    Boards start powered off. Power-on loads the FPGAs, so that each register reads 0
    except the identity. Powering on a board that is on does so again. While a board is
    off, the registers of its FPGAs read 0 and writing them is accepted and has no
    effect: the bus between BMP and FPGA has no acknowledgement. LEDs belong to the BMP
    and are not touched by power.

    Commands come from the thread of a `BMPSimulator`. All other methods and attributes
    may be used from any thread.

    :param cabinet: the position that BMPs give in answer to the version command
    :param frame: see ``cabinet``
    :param boards: how many boards the frame has
    """

    def __init__(
        self, cabinet: int = 0, frame: int = 0, boards: int = BOARDS_PER_FRAME
    ) -> None:
        self.cabinet = cabinet
        self.frame = frame
        self.version = (2, 1, 0)
        """Version of the BMPs' firmware; before 2.0.0 there are no FPGA commands."""
        self.power_on_seconds = 0.0
        """How long a power-on takes; the change and the answer come at its end."""
        self.power_off_seconds = 0.0
        """The same for a power-off."""
        self.faults = Faults()
        """What goes wrong; see `Faults`."""
        self.on_power: list[Callable[[frozenset[int], bool], object]] = []
        """Told which boards were switched on (or once more) or off. In the thread of
        the simulator."""
        self._lock = threading.RLock()
        self._boards = [_Board() for _ in range(boards)]
        self._received: deque[ReceivedCommand] = deque(maxlen=MAX_REMEMBERED)

    @property
    def powered_boards(self) -> frozenset[int]:
        """Numbers of the boards that are on."""
        with self._lock:
            return frozenset(
                number for number, board in enumerate(self._boards) if board.powered
            )

    def register(self, board: int, fpga: int, address: int) -> int:
        """Give the value of an FPGA's register, as a read command would."""
        with self._lock:
            found = self._boards[board]
            if not found.powered:
                return 0
            return found.registers[fpga].get(address & ~3, 0)

    def leds(self, board: int) -> int:
        """Give the LEDs of a board that are on, as bits."""
        with self._lock:
            return self._boards[board].leds

    @property
    def received(self) -> list[ReceivedCommand]:
        """The latest `MAX_REMEMBERED` commands received, with retransmissions."""
        with self._lock:
            return list(self._received)

    def power_commands(self) -> list[tuple[bool, frozenset[int]]]:
        """Give the power commands that are remembered, as (on, boards)."""
        return [
            (bool(command.arguments[0] & 0xFFFF), _bits(command.arguments[1]))
            for command in self.received
            if command.command == Command.POWER and command.arguments is not None
        ]

    def command_counts(self) -> Counter[int]:
        """Count the remembered commands by their code."""
        return Counter(command.command for command in self.received)

    def forget_received(self) -> None:
        """Start the list of received commands afresh."""
        with self._lock:
            self._received.clear()

    def handle(self, request: Request) -> Answer:
        """Take a command and say when and how it is answered."""
        with self._lock:
            self._received.append(
                ReceivedCommand(
                    request.command, request.board, request.arguments, request.data
                )
            )
            if request.arguments is None:
                return answer_now(request, Result.BAD_LENGTH)
            if request.board >= len(self._boards):
                return answer_now(request, Result.BAD_CPU)
            handlers: dict[int, Callable[..., Answer]] = {
                Command.VERSION: self._version,
                Command.FPGA_READ: self._read_register,
                Command.FPGA_WRITE: self._write_register,
                Command.LED: self._set_leds,
                Command.BMP_INFO: self._information,
                Command.POWER: self._set_power,
            }
            handler = handlers.get(request.command)
            if handler is None:
                return answer_now(request, Result.BAD_COMMAND)
            return handler(request, *request.arguments)

    def _version(self, request: Request, *_: int) -> Answer:
        location = (self.cabinet, self.frame, request.board)
        return answer_now(request, Result.OK, version_payload(location, self.version))

    def _read_register(
        self, request: Request, address: int, length: int, fpga: int
    ) -> Answer:
        if self.version < (2, 0, 0):
            return answer_now(request, Result.BAD_COMMAND)
        if length != _WORD.size or fpga >= FPGAS_PER_BOARD:
            return answer_now(request, Result.BAD_ARGUMENT)
        value = self.register(request.board, fpga, address)
        return answer_now(request, Result.OK, _WORD.pack(value))

    def _write_register(
        self, request: Request, address: int, length: int, fpga: int
    ) -> Answer:
        if self.version < (2, 0, 0):
            return answer_now(request, Result.BAD_COMMAND)
        if length != _WORD.size or fpga >= FPGAS_PER_BOARD:
            return answer_now(request, Result.BAD_ARGUMENT)
        if len(request.data) < _WORD.size:
            return answer_now(request, Result.BAD_LENGTH)
        board = self._boards[request.board]
        if board.powered:
            (value,) = _WORD.unpack_from(request.data)
            board.registers[fpga][address & ~3] = value
        return answer_now(request, Result.OK)

    def _set_leds(self, request: Request, actions: int, mask: int, _: int) -> Answer:
        if mask >> len(self._boards):
            return answer_now(request, Result.BAD_ARGUMENT)
        for number in _bits(mask):
            board = self._boards[number]
            for led in range(LEDS_PER_BOARD):
                action = LEDAction(actions >> 2 * led & 0b11)
                if action is LEDAction.ON:
                    board.leds |= 1 << led
                elif action is LEDAction.OFF:
                    board.leds &= ~(1 << led)
                elif action is LEDAction.TOGGLE:
                    board.leds ^= 1 << led
        return answer_now(request, Result.OK)

    def _information(self, request: Request, kind: int, *_: int) -> Answer:
        if kind != _ADC_INFORMATION:
            return answer_now(request, Result.BAD_ARGUMENT)
        powered = self._boards[request.board].powered
        core, memory, logic = (1966, 2949, 3604) if powered else (0, 0, 0)
        supply = 3277
        voltages = (0, core, core, core, memory, 0, logic, supply)
        temperatures = (35 * 256, 30 * 256, 0, 0)
        sensors = (_NO_SENSOR, _NO_SENSOR, 0, 0)
        fans = (_NO_FAN, _NO_FAN, 0, 0)
        payload = _ADC.pack(*voltages, *temperatures, *sensors, *fans, 0, 0)
        return answer_now(request, Result.OK, payload)

    def _set_power(self, request: Request, state: int, mask: int, _: int) -> Answer:
        on, delay = state & 0xFFFF, (state >> 16) / 1000
        if on > 1 or mask >> len(self._boards):
            return answer_now(request, Result.BAD_ARGUMENT)
        numbers = _bits(mask)
        fault = self.faults.take_power_fault(bool(on), numbers)

        def finish() -> bytes | None:
            with self._lock:
                if fault is None:
                    self._change_power(numbers, bool(on))
                    for tell in self.on_power:
                        tell(numbers, bool(on))
                    return request.answer(Result.OK)
            return None if fault.result is None else request.answer(fault.result)

        seconds = self.power_on_seconds if on else self.power_off_seconds
        return Answer(seconds + delay * max(0, len(numbers) - 1), finish)

    def _change_power(self, numbers: Iterable[int], on: bool) -> None:
        for number in numbers:
            board = self._boards[number]
            board.powered = on
            for fpga, registers in enumerate(board.registers):
                registers.clear()
                if on:
                    registers[FPGA_IDENTITY_REGISTER] = fpga
            if on:
                for fpga in self.faults.take_wrong_fpgas(number):
                    wrong = (fpga + 1) % FPGAS_PER_BOARD
                    board.registers[fpga][FPGA_IDENTITY_REGISTER] = wrong


def _bits(mask: int) -> frozenset[int]:
    return frozenset(bit for bit in range(mask.bit_length()) if mask >> bit & 1)
