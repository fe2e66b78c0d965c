"""Where the configuration comes from: read at the start, and again when asked for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from spalloc_server.config.reading import (
    ConfigReading,
    begin_reading,
    read_configuration,
)
from spalloc_server.config.script import ConfigFileError
from spalloc_server.configuration import Configuration
from spalloc_server.observe.observer import Observer
from spalloc_server.polling_server_core import Channel, PollingServerCore

if TYPE_CHECKING:
    from spalloc_server.config.watcher import ConfigWatcher

logger = logging.getLogger(__name__)


class _Observed(Protocol):
    observer: Observer


class Outcome(NamedTuple):
    """What came of reading the config file again."""

    problem: str | None
    """Why the old configuration stays in force; None if the new one is."""
    machines: str
    """What has changed of the machines, in a line."""


class ConfigSource:
    """Reads the config file, and watches it if asked to. For the server's thread.

    It is read in a process of its own, for which the loop never waits.
    """

    def __init__(
        self, filename: str, core: PollingServerCore, server: _Observed
    ) -> None:
        """Describe the source; nothing is read yet.

        :param core: waits for what there is to wait for
        :param server: its observer is told when the file is read again
        """
        self._filename = filename
        self._core = core
        self._server = server
        self._requested = False
        self.finished = 0
        """How often the file has been read again, or was to be."""
        self.outcome = Outcome(None, "")
        """What came of it the last time."""
        self._reading: ConfigReading | None = None
        self._watcher: ConfigWatcher | None = None

    @property
    def filename(self) -> str:
        """The config file."""
        return self._filename

    def read(self) -> Configuration:
        """Read the file now. Blocks, for a limited time.

        :raises ConfigFileError: if it gives no valid configuration
        """
        return read_configuration(self._filename)

    def watch(self) -> None:
        """Have the file read again whenever it has been written.

        :raises OSError: if that cannot be seen
        """
        # What it watches by is for those who have asked for it.
        from spalloc_server.config.watcher import ConfigWatcher

        self._watcher = ConfigWatcher(self._filename)
        self._core.register_channel(self._watcher)

    def request(self) -> None:
        """Have the file read again. From any thread or signal handler."""
        self._requested = True

    @property
    def next_number(self) -> int:
        """What `finished` will be once the file has been read that is there now."""
        return self.finished + 1 + (self._reading is not None)

    def done(self, machines: str) -> None:
        """Note that a configuration is in force.

        :param machines: what has changed of them
        """
        self.finished += 1
        self.outcome = Outcome(None, machines)

    def refuse(self, problem: str) -> None:
        """Note, and log, that the old configuration stays in force."""
        self.finished += 1
        self.outcome = Outcome(problem, "")
        logger.error("The old configuration stays in force: %s", problem)

    def note_news(self, channel: Channel) -> None:
        """Take note of a channel that is ready, if it is one of this object's."""
        if channel is self._watcher and self._watcher.has_changed():
            self._requested = True

    def look(self) -> None:
        """See whether the file is another one, which nothing may have told of."""
        if self._watcher is not None and self._watcher.look():
            self._requested = True

    @property
    def due(self) -> float | None:
        """When to call `poll` at the latest, by the monotonic clock; None for never."""
        return None if self._reading is None else self._reading.due

    def poll(self) -> Configuration | None:
        """Go on with what was asked for. To be called in every turn of the loop.

        What is wrong with the file is logged, and the observer is told that all is as
        before.

        :return: a new configuration, once it has been read
        """
        if self._reading is None:
            if not self._requested:
                return None
            self._requested = False
            self._server.observer.reloading()
            try:
                self._reading = begin_reading(self._filename)
            except ConfigFileError as e:
                self._refuse(e)
                return None
            self._core.register_channel(self._reading)
        try:
            configuration = self._reading.poll()
        except ConfigFileError as e:
            self._stop_reading()
            self._refuse(e)
            return None
        if configuration is not None:
            self._stop_reading()
        return configuration

    def _refuse(self, error: ConfigFileError) -> None:
        self.refuse(str(error))
        self._server.observer.reloaded()

    def _stop_reading(self) -> None:
        if self._reading is not None:
            self._core.unregister_channel(self._reading)
            self._reading.close()
            self._reading = None

    def close(self) -> None:
        """Read and watch no more."""
        self._stop_reading()
        if self._watcher is not None:
            self._core.unregister_channel(self._watcher)
            self._watcher.close()
            self._watcher = None
