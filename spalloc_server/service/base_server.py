"""A TCP server around a controller: its life cycle, and no commands."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

from spalloc_server import __version__
from spalloc_server.config.script import (
    ConfigFileError,
    ParsedConfig,
    parse_config,
    validate_config,
)
from spalloc_server.configuration import Configuration
from spalloc_server.controller import Controller
from spalloc_server.model.changes import Change
from spalloc_server.observe.observer import Observer
from spalloc_server.observe.stats import ServerStats
from spalloc_server.polling_server_core import PollingServerCore
from spalloc_server.service.config_source import ConfigSource
from spalloc_server.service.dispatcher import Dispatcher
from spalloc_server.service.gateways import Gateways
from spalloc_server.service.intake import Intake
from spalloc_server.service.loop import Loop
from spalloc_server.service.new_configuration import facts, put_in_force
from spalloc_server.service.notifier import Notifier, Watches
from spalloc_server.service.operator_door import OperatorDoor
from spalloc_server.service.reception import Reception
from spalloc_server.service.sighup import Sighup
from spalloc_server.service.timers import Timers
from spalloc_server.storage import names
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.reference_state import reference_states
from spalloc_server.storage.store import StateStore
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import ChangeId, Connection

if TYPE_CHECKING:
    from spalloc_server.simulator import BMPSimulator

logger = logging.getLogger(__name__)

DEFAULT_PORT: Final = 22244
"""The TCP port where clients expect a server."""

FAILED_TURNS: Final = 10
"""After so many turns in a row that failed as a whole the server stops."""


class _CriticalStop(Exception):
    """The server cannot start; the message says why, in one line, for operators."""


class Server:
    """A TCP server around a `.Controller`, with no commands of its own.

    The constructor takes the port and the saved state and starts the server's thread,
    which from then on owns everything in here. Other threads may call
    `is_alive`, `join`, `stop_and_join`,
    `request_stop`, `request_reload` and `wake`, and read
    `address` and `failed`. Made in the main thread, the server
    reads its config file again on ``SIGHUP``.

    :param config_filename: the config file; the state is kept in its folder
    :param cold_start: begin without the saved state, which is removed
    :param port: the TCP port; 0 takes a free one, 22244 leaves it to the config file
    :raises _CriticalStop: where it cannot start
    """

    watch_config = False
    """Is the config file to be read again whenever it has been written?"""

    state_dir: str | None = None
    """The folder for the state; None for that of the config file."""

    gateways = Gateways()
    """The clients that may speak for others."""

    observer = Observer()
    """Is told what the server does."""

    def __init__(
        self, config_filename: str, cold_start: bool = False, port: int = DEFAULT_PORT
    ) -> None:
        self._core = PollingServerCore()
        self.stats = ServerStats()
        self._clients = Clients(self._core, self._clear_watches)
        self._clients.disconnects = self.stats.disconnects
        self._dispatcher = Dispatcher(self, self._clients, self.stats)
        self._notifier = Notifier(self._clients)
        self._reception: Reception
        self.started_at = time.monotonic()
        self.intake: Intake
        self._config_filename = config_filename
        self._config_source = ConfigSource(config_filename, self._core, self)
        self._configuration = Configuration()
        self._port = port
        # State is named after this, whether there is such a file or not.
        self._state_stem = names.stem_in(config_filename, self.state_dir)
        self._state_filename = self._get_state_filename(self._state_stem)
        self._store = StateStore(self._state_filename)
        self._operator_door = OperatorDoor(
            self._core, self._clients, names.operator_socket(self._state_stem)
        )
        self._controller: Controller
        # Set by any thread or signal handler, which then wakes the loop.
        self._stop_requested = False
        self._timers = Timers()
        self._loop: Loop
        self._failed = False
        self._server_thread = threading.Thread(target=self._run, name="Server")
        with contextlib.ExitStack() as undo:
            undo.callback(self._core._close_core)
            self._sighup = Sighup(self.request_reload)
            undo.callback(self._sighup.give_up)
            try:
                self._set_up(cold_start, undo)
            except (ConfigFileError, StateFileError, OSError) as e:
                raise _CriticalStop(_message(e)) from e
            undo.pop_all()
        self._server_thread.start()

    # Starting, reloading and stopping

    def _set_up(self, cold_start: bool, undo: contextlib.ExitStack) -> None:
        """Take all that is needed; what can fail comes before what has effects."""
        configuration = self._config_source.read()
        self._state_lock = StateLock(names.lock_file(self._state_stem))
        undo.callback(self._state_lock.release)
        self._store.lock = self._state_lock
        undo.callback(self._store.close)
        self.observer.open()
        undo.callback(self.observer.close)
        address = self._choose_ip(configuration), self._choose_port(configuration)
        self._reception = Reception(self._core, self._clients, self.stats, address)
        undo.callback(self._close)
        if self.watch_config:
            self._config_source.watch()
            undo.callback(self._config_source.close)
        self._prepare_hardware(configuration)
        self._controller = self._restore_controller(cold_start)
        undo.callback(self._controller.join)
        undo.callback(self._controller.stop)
        self._loop = Loop(
            self,
            self._core,
            self._clients,
            self._reception,
            self._operator_door,
            self._config_source,
            self._dispatcher,
            self._controller,
            self._store,
            self._state_lock,
            self._timers,
            self.stats,
        )
        self._controller.on_background_state_change = self._on_background_change
        self._load_valid_config(configuration)
        self._store.open(self._controller)
        self._operator_door.open()
        undo.callback(self._operator_door.close)
        self.intake = Intake(self._controller, self._store)

    def _restore_controller(self, cold_start: bool) -> Controller:
        for line in reference_states(self._config_filename, self._state_stem):
            logger.warning("State %s", line)
        if cold_start:
            self._store.discard()
        controller = self._store.restore()
        if controller is None:
            logger.info("Cold start")
            controller = Controller()
            controller.on_job_event = self.observer.on_job_event
        else:
            logger.info("Warm start with %d jobs", controller.job_count)
            # Before anything can happen.
            controller.on_job_event = self.observer.on_job_event
            controller.start()
        return controller

    def _prepare_hardware(self, configuration: Configuration) -> None:
        """Called with each new configuration before the controller is. Does nothing.

        A place for a simulator. May raise `OSError` to refuse.
        """

    def _get_state_filename(self, cfg: str) -> str:
        """The file for the state of this version, beside the config file ``cfg``."""
        return names.state_file(cfg, __version__)

    def _parse_config(self, config_file_contents: str) -> ParsedConfig:
        """Run the text of a config file.

        The server itself has that done in another process, see
        `~spalloc_server.config.reading`.

        :raises ConfigFileError: if that fails
        """
        return parse_config(config_file_contents, self._config_filename)

    def _validate_config(self, parsed_config: ParsedConfig) -> Configuration | None:
        """The configuration that a config file made, None if it is not valid."""
        try:
            return validate_config(parsed_config)
        except ConfigFileError:
            return None

    def _load_valid_config(self, validated_config: Configuration) -> None:
        """Put a configuration in force: the address, the settings, the machines."""
        # First, since all stays as it was if there is an error in it.
        changed = put_in_force(self._controller, validated_config)
        self._reception.move(
            validated_config._replace(ip=self._choose_ip(validated_config)),
            self._choose_port(validated_config),
        )
        self._operator_door.set_group(validated_config.admin_group)
        self._configuration = validated_config
        self._timers.check_soon()
        self._config_source.done(changed)
        self.note_address()

    def note_address(self) -> None:
        """Say where this server is and what it serves, for ``--check``."""
        try:
            self._state_lock.tell(facts(self._configuration, self.address))
        except OSError as e:
            logger.warning("Cannot write to the lock file: %s", _message(e))

    def reload(self, configuration: Configuration) -> None:
        """Put a configuration in force that has been read again; one that cannot be
        changes nothing.
        """
        try:
            self._reload(configuration)
        finally:
            self.observer.reloaded()

    def _reload(self, configuration: Configuration) -> None:
        try:
            self._prepare_hardware(configuration)
        except OSError as e:
            self._config_source.refuse(_message(e))
            return
        logger.info("Config file %s read again", self._config_filename)
        try:
            self._load_valid_config(configuration)
        except Exception as e:
            self.stats.errors.note("configuration", e)
            self._config_source.refuse("there was an internal error")

    def request_reload(self) -> None:
        """Have the config file read again soon. From any thread or signal handler."""
        self._config_source.request()
        self.wake()

    def request_stop(self) -> None:
        """Have the server stop. Returns at once. From any thread or signal handler."""
        self._stop_requested = True
        self.wake()

    def is_alive(self) -> bool:
        """Is the server running? Not yet stopped also counts."""
        return self._server_thread.is_alive()

    @property
    def failed(self) -> bool:
        """Did the server end by an error, or without having saved its state?"""
        return self._failed

    def join(self) -> None:
        """Wait until the server has stopped, however that comes about."""
        self._server_thread.join()
        self._sighup.give_up()

    def stop_and_join(self) -> None:
        """Stop the server and wait until its state has been saved."""
        self.request_stop()
        self.join()

    def _shut_down(self) -> None:
        """Let everybody go, finish what was begun with the hardware, save the state.

        Boards are left as they are: on, where they are in use.
        """
        self._close()
        self._operator_door.close()
        self._config_source.close()
        logger.info("Stopping: waiting for commands to BMPs that are under way")
        self.observer.stopping()
        self._controller.on_background_state_change = None
        self._controller.stop()
        self._controller.join()
        try:
            if self._store.finish(self._controller):
                logger.info("Stopped; state saved to %s", self._state_filename)
            else:
                self._failed = True
        finally:
            self.observer.close()
            self._state_lock.release()
            self._core._close_core()

    # What an observer may use

    @property
    def controller(self) -> Controller:
        """The jobs and machines; for the server's thread."""
        return self._controller

    @property
    def config_source(self) -> ConfigSource:
        """Where the configuration comes from; for the server's thread."""
        return self._config_source

    @property
    def store(self) -> StateStore:
        """Keeps the state; for the server's thread."""
        return self._store

    @property
    def simulator(self) -> BMPSimulator | None:
        """What stands in for the BMPs, if anything does."""
        return None

    @property
    def client_count(self) -> int:
        """How many clients are connected. From any thread."""
        return len(self._clients)

    @property
    def store_errors(self) -> int:
        """How often state could not be written. From any thread."""
        return self._store.errors

    @property
    def internal_errors(self) -> dict[str, int]:
        """How often there was an internal error that no command is told of, by what it
        was in. From any thread.
        """
        found = self._controller.failures.copy()
        found.update(self.stats.errors.counts.copy())
        return dict(found)

    # The address

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and port that are listened to; the last ones once stopped."""
        return self._reception.address

    def _choose_port(self, configuration: Configuration) -> int:
        """The port asked for, else that of the config file (which is deprecated)."""
        return self._port if self._port != DEFAULT_PORT else configuration.port

    def _choose_ip(self, configuration: Configuration) -> str:
        """The IP address to listen on, that of the config file."""
        return configuration.ip

    # Clients: the manual's names for what the parts do

    def wake(self) -> None:
        """Have the loop turn once more, soon. From any thread or signal handler."""
        self._core.wake()

    def _accept_client(self) -> None:
        """Take in the clients that wait to be connected."""
        self._reception.accept()

    def _disconnect_client(self, client: Connection) -> None:
        """Disconnect a client at once, without sending what waits for it."""
        self._clients.remove(client, "internal error")

    def _close(self) -> bool:
        """Stop listening and disconnect everybody. Was the server listening?"""
        return self._reception.close()

    @staticmethod
    def _name(client: Any) -> str | None:
        """The IP address of the client, or of the host that it speaks for; None where
        it has none (any more).
        """
        try:
            host: str | None = client.host
            return host
        except AttributeError:
            pass
        # Nothing but a socket; it knows no more than its address.
        try:
            name: str = client.getpeername()[0]
            return name or None
        except (OSError, IndexError, AttributeError):
            return None

    def _msg_client(self, client: Connection, message: object) -> None:
        """Send a client a message, at the end of this turn of the loop.

        :raises OutputFullError: where the client takes no messages
        """
        client.send(message)
        self._clients.touch(client)

    def _handle_commands(self, client: Connection) -> None:
        """Read from a client and handle its commands, up to a limit for each turn."""
        self._dispatcher.take_turns([client])

    def _handle_command(self, client: Connection, line: bytes | str) -> dict[str, Any]:
        """Execute the command in a line: see `.Dispatcher.handle_line`."""
        return self._dispatcher.handle_line(client, line)

    def make_change(self, change: Change) -> Any:
        """Make a change that a command wants: see `.Intake.make`."""
        return self.intake.make(change)

    def _send_notifications(
        self, label: str, changes: Collection[ChangeId], watches: Watches
    ) -> None:
        """Notify each client, under a label, of those changes that it watches."""
        self._notifier.send(label, changes, watches)

    def _clear_watches(self, client: Connection) -> None:
        """Forget what a client was watching. Called when it is gone."""
        self._notifier.forget(client)

    def _send_change_notifications(self) -> None:
        """Notify clients of what has changed. Called once in each turn of the loop."""

    def _on_background_change(self) -> None:
        """Called by the threads that work on the hardware."""
        self._loop.background_change = True
        self.wake()

    # The loop

    @property
    def timeout_check_interval(self) -> float:
        """Seconds between two looks at who has timed out."""
        return self._configuration.timeout_check_interval

    def _run(self) -> None:
        """The server's thread: a turn of the loop after the other, until stopped."""
        try:
            logger.info("Listening on %s port %d", *self.address)
            self.observer.started(self)
            failed = 0
            while not self._stop_requested:
                try:
                    self._loop.turn()
                    failed = 0
                except Exception as e:
                    failed += 1
                    if failed >= FAILED_TURNS:
                        raise
                    self.stats.errors.note("turn of the loop", e)
        except Exception:
            self._failed = True
            logger.critical("Unexpected error, the server stops", exc_info=True)
        try:
            self._shut_down()
        except Exception:
            self._failed = True
            logger.critical("Unexpected error while stopping", exc_info=True)


def _message(error: Exception) -> str:
    """What an error says, without the number that an OSError puts before it."""
    return getattr(error, "strerror", None) or str(error)
