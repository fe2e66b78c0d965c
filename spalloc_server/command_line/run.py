"""The process around a server that was started from the command line.

What hardly any server needs is imported where it is begun with, not at every start.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

from spalloc_server.command_line.log_formats import set_up_logging
from spalloc_server.command_line.options import Options, parse_arguments
from spalloc_server.command_line.simulation import Prepare, simulation
from spalloc_server.config.reading import WAITING
from spalloc_server.observe.observer import Observer, Observers
from spalloc_server.observe.systemd import SystemdObserver
from spalloc_server.storage import names

if TYPE_CHECKING:
    from spalloc_server.history.recorder import Consumer

__all__ = [
    "Options",
    "Prepare",
    "RunningServer",
    "StartServer",
    "make_observer",
    "parse_arguments",
    "run",
]

logger = logging.getLogger(__name__)

OBJECTS_BEFORE_COLLECTION: Final = 20_000
"""How many new objects the garbage collector waits for before it looks at them."""


class RunningServer(Protocol):
    """What the process needs of the server that it runs."""

    @property
    def failed(self) -> bool:
        """Did the server end by an error?"""

    def request_stop(self) -> None:
        """Stop soon; for signal handlers."""

    def join(self) -> None:
        """Wait until the server has ended."""


StartServer: TypeAlias = Callable[[Options, Prepare], RunningServer]


def run(start_server: StartServer, options: Options, early: Sequence[int] = ()) -> int:
    """Start a server and wait for its end; to be called in the main thread.

    Returns the exit status. What ``start_server`` raises is passed on.

    :param early: signals that have come before, and are handled now
    """
    if options.check:
        from spalloc_server.command_line.check import check_only

        return check_only(options)
    set_up_logging("error" if options.quiet else options.log_level, options.log_format)
    _raise_descriptor_limit()
    with contextlib.ExitStack() as stack:
        stop = stack.enter_context(_StopSignals())
        for number in early:
            signal.raise_signal(number)
        prepare = Prepare()
        if options.simulate:
            prepare = stack.enter_context(simulation(options.simulate_chips))
        try:
            server = start_server(options, prepare)
        except Exception:
            if not stop.received:
                raise
            logger.info("Stopped before the server was started")
            return 0
        stop.calls(server.request_stop)
        _spare_collector()
        stop.wait_for(server)
        return 1 if server.failed else 0


def _spare_collector() -> None:
    """Have the garbage collector run rarely, and pass over what is there by now.

    The loop stands still while it collects, for as long as there are objects, and
    hardly anything here ends as a cycle, which is all that is left to it. So it is not
    even asked to look through what is there once: the loop answers clients already.
    """
    gc.freeze()
    gc.enable()
    gc.set_threshold(OBJECTS_BEFORE_COLLECTION, *gc.get_threshold()[1:])


def make_observer(options: Options) -> Observer:
    """Whoever is to be told what the server does, as asked for by the options.

    Takes what systemd has put into the environment out of it. Raises
    `ImportError` where an option needs what is not installed.
    """
    observers: list[Observer] = []
    consumers: list[Consumer] = []
    if options.job_log is not None:
        from spalloc_server.history.job_log import JobLog

        consumers.append(JobLog(options.job_log))
    if options.http is not None:
        # What it needs is installed on demand only.
        from spalloc_server.history.database import EventDatabase
        from spalloc_server.history.load import LoadHistory
        from spalloc_server.history.waiting_times import WaitingTimes
        from spalloc_server.web.thread import WebObserver

        history = names.history_file(_state_stem(options))
        times, histories = WaitingTimes(), EventDatabase(history)
        load = LoadHistory(histories.file)
        consumers += [times, histories, load]
        observers.append(
            WebObserver(
                options.http_address,
                options.http,
                times,
                histories,
                load,
                options.http_host or (),
            )
        )
    if consumers:
        from spalloc_server.history.recorder import EventRecorder

        observers.append(EventRecorder(consumers))
    systemd = SystemdObserver.from_environment(os.environ)
    if systemd is not None:
        observers.append(systemd)
    return Observers(observers)


def _state_stem(options: Options) -> str:
    """What the names of files of state are made of."""
    return names.stem_in(options.config, options.state_dir)


class _StopSignals:
    """Has INT and TERM stop the server in good order, while it is entered.

    HUP is ignored until the server takes it: by default it would end the process.

    Python runs the handlers of signals in the main thread, whichever thread the system
    gave them to; but that does not wake the main thread. So it waits for something that
    each signal writes to.
    """

    def __init__(self) -> None:
        self.received = False
        """Has the process been told to stop?"""
        self._wake_send, self._wake_recv = socket.socketpair()
        self._wake_send.setblocking(False)
        self._stop: Callable[[], None] = _do_nothing
        self._old = {
            number: signal.getsignal(number)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        }

    def __enter__(self) -> _StopSignals:
        self._old_wake_fd = signal.set_wakeup_fd(
            self._wake_send.fileno(), warn_on_full_buffer=False
        )
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        return self

    def __exit__(self, *_exception: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        WAITING.allow()
        signal.set_wakeup_fd(self._old_wake_fd)
        self._wake_send.close()
        self._wake_recv.close()

    def wait_for(self, server: RunningServer) -> None:
        """Wait until a server has ended, and have signals handled until then."""
        ended = threading.Event()

        def note_end() -> None:
            try:
                server.join()
            finally:
                ended.set()
                with contextlib.suppress(BlockingIOError):  # full, so it wakes anyway
                    self._wake_send.send(b"\0")

        waiting = threading.Thread(target=note_end, name="End", daemon=True)
        waiting.start()
        while not ended.is_set():
            self._wake_recv.recv(4096)
        waiting.join()
        # What a server has to do in the main thread at its end.
        server.join()

    def calls(self, stop: Callable[[], None]) -> None:
        """Say what stops the server; one signal may have come before that."""
        self._stop = stop
        if self.received:
            stop()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.received = True
        # A config file that is being run for the start is not waited for.
        WAITING.give_up()
        self._stop()


def _do_nothing() -> None:
    pass


def _raise_descriptor_limit() -> None:
    """Allow as many open files, and so clients, as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (ValueError, OSError) as e:
        logger.warning("The limit of open files stays at %d: %s", soft, e)
