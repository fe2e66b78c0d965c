"""The queue between those who log and standard error, and what gets lost in it."""

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator

import pytest

from spalloc_server.command_line import log_limits, log_output
from spalloc_server.command_line.log_formats import TextFormatter
from spalloc_server.command_line.log_limits import LogLimits
from spalloc_server.command_line.log_output import LogHandler, LogWriter
from spalloc_server.wire.log_source import SOURCE
from tests.support import TIMEOUT, wait_until


class FakeClient:
    """Whoever a line is about."""

    def __init__(self, host: str) -> None:
        self.host = host

    def getpeername(self) -> tuple[str, int]:
        return self.host, 1


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    yield reader, writer
    os.close(reader)


@pytest.fixture
def handler() -> LogHandler:
    return LogHandler(TextFormatter("%(message)s"), LogLimits())


def log(handler: LogHandler, message: str, *args: object) -> None:
    handler.handle(
        logging.LogRecord("a", logging.INFO, __file__, 7, message, args, None)
    )


def write_to(handler: LogHandler, fd: int) -> LogWriter:
    limits = handler.filters[0]
    assert isinstance(limits, LogLimits)
    assert handler.formatter is not None
    writer = LogWriter(handler.lines, handler.formatter, limits, fd, "ascii")
    writer.start()
    return writer


def read(fd: int, end: str) -> list[str]:
    """Read lines up to one that ends like this."""
    data = bytearray()

    def is_there() -> bool:
        with contextlib.suppress(BlockingIOError):
            data.extend(os.read(fd, 1 << 16))
        return data.endswith(f"{end}\n".encode())

    wait_until(is_there, 20)
    return data.decode("ascii").splitlines()


def test_lines_come_in_order_and_in_the_encoding(
    handler: LogHandler, pipe: tuple[int, int]
) -> None:
    writer = write_to(handler, pipe[1])
    for n in range(500):
        log(handler, "line %d", n)
    log(handler, "%s\n\x1b", "mäsch\udc80")
    log(handler, "end")
    lines = read(pipe[0], "end")
    assert lines[:500] == [f"line {n}" for n in range(500)]
    assert lines[500] == r"m\xe4sch\udc80\n\x1b"
    writer.stop()
    os.close(pipe[1])


def test_what_finds_no_room_is_counted_and_said(
    handler: LogHandler, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    handler.lines.maxsize = 1000
    began = time.monotonic()
    for n in range(300):  # nobody takes any of them
        log(handler, "%099d", n)
    assert time.monotonic() - began < 10
    writer = write_to(handler, pipe[1])
    wait_until(handler.lines.empty)
    log(handler, "end")
    lines = read(pipe[0], "end")
    assert lines[:10] == [f"{n:099d}" for n in range(10)]
    assert lines[10:] == ["290 log lines were lost: nobody took them", "end"]
    writer.stop()
    os.close(pipe[1])


def test_the_end_waits_for_a_log_that_is_stuck_but_not_for_ever(
    handler: LogHandler, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_output, "FLUSH_SECONDS", 0.2)
    write_to(handler, pipe[1])
    for _ in range(20):
        log(handler, 10_000 * "x")
    began = time.monotonic()
    handler.flush()
    assert 0.1 < time.monotonic() - began < 10
    reading = threading.Thread(target=read, args=(pipe[0], "end"))
    reading.start()
    log(handler, "end")
    monkeypatch.setattr(log_output, "FLUSH_SECONDS", TIMEOUT)
    handler.flush()
    assert handler.lines.empty()
    reading.join(TIMEOUT)
    os.close(pipe[1])


def test_what_cannot_be_written_is_counted_and_said(
    handler: LogHandler, pipe: tuple[int, int]
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    writer = write_to(handler, full)
    for _ in range(3):
        log(handler, "lost")
    handler.flush()
    os.dup2(pipe[1], full)  # there is room again
    log(handler, "end")
    assert read(pipe[0], "end") == [
        "3 log lines could not be written: No space left on device",
        "end",
    ]
    writer.stop()
    os.close(full)
    os.close(pipe[1])


def test_records_that_are_too_long_or_make_no_sense(
    handler: LogHandler, pipe: tuple[int, int]
) -> None:
    writer = write_to(handler, pipe[1])
    log(handler, "%s", 20_000 * "x")
    log(handler, "%d", "no number")
    log(handler, "end")
    long, senseless, _ = read(pipe[0], "end")
    assert long == f"{16 * 1024 * 'x'}... (3616 more characters)"
    assert senseless.startswith("A log line of a (line 7) cannot be written: TypeError")
    writer.stop()
    os.close(pipe[1])


def test_a_client_gets_its_share_back_and_others_have_their_own(
    handler: LogHandler, pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_limits, "BURST_CHARACTERS", 200)
    monkeypatch.setattr(log_limits, "CHARACTERS_PER_SECOND", 0)
    monkeypatch.setattr(log_limits, "SUMMARY_SECONDS", 0.1)
    monkeypatch.setattr(log_output, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(log_limits, "Connection", FakeClient)
    writer = write_to(handler, pipe[1])
    noisy, other = FakeClient("10.0.0.1"), FakeClient("10.0.0.2")
    for n in range(10):
        log(handler, "%.0s%d", noisy, n)
    log(handler, "%.0sother", other)
    log(handler, "nobody")
    lines = read(pipe[0], "suppressed")
    assert lines == [
        *("0", "1", "2"),
        "Too many log lines from 10.0.0.1: from now on they are only counted",
        *("other", "nobody"),
        "6 more log lines from 10.0.0.1 suppressed",
    ]
    # Also what is logged on its behalf, in this thread.
    monkeypatch.setattr(SOURCE, "client", noisy)
    log(handler, "job")
    monkeypatch.setattr(SOURCE, "client", None)
    log(handler, "end")
    assert "job" not in read(pipe[0], "end")
    writer.stop()
    os.close(pipe[1])


def test_clients_of_one_ipv6_network_count_as_one() -> None:
    assert log_limits._client("2001:db8::1") == log_limits._client("2001:db8::2:3")
    assert log_limits._client("fe80::1%eth0") == "fe80::/64"
    assert log_limits._client("10.0.0.1") == "10.0.0.1"


def test_the_number_of_clients_that_are_told_apart_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(log_limits, "MOST_CLIENTS", 10)
    monkeypatch.setattr(log_limits, "CHARACTERS_PER_SECOND", 0)
    monkeypatch.setattr(log_limits, "Connection", FakeClient)
    limits = LogLimits()
    for n in range(100):
        args = (FakeClient(f"10.0.0.{n}"),)
        record = logging.LogRecord("a", logging.INFO, "", 0, "%s", args, None)
        assert limits.filter(record)
    assert len(limits._allowances) == 11
