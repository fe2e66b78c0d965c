"""Where clients connect: the listening socket, and the taking in of connections."""

from __future__ import annotations

import logging
import select
import time

from spalloc_server.config.networks import AllowedNetworks
from spalloc_server.configuration import Configuration
from spalloc_server.observe.stats import ServerStats
from spalloc_server.polling_server_core import Channel, PollingServerCore
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.listener import Listener

logger = logging.getLogger(__name__)


class Reception:
    """Listens, and takes in clients. For the server's thread.

    :param address: the IP address, "" for all of IPv4, and port, 0 for any free one
    :raises OSError: where that cannot be listened to; the message names it
    """

    def __init__(
        self,
        core: PollingServerCore,
        clients: Clients,
        stats: ServerStats,
        address: tuple[str, int],
    ) -> None:
        self._core = core
        self._clients = clients
        self._listener = Listener(*address)
        self._listener.refused = stats.refused
        self._address = self._listener.address
        self._is_open = True
        core.register_channel(self._listener)

    @property
    def address(self) -> tuple[str, int]:
        """The IP address and port that are listened to; the last ones once closed."""
        return self._address

    @property
    def resume_at(self) -> float | None:
        """When to call `resume`, by the monotonic clock; None for never."""
        return self._listener.resume_at

    def is_behind(self, channel: Channel) -> bool:
        """Is this channel the listening socket, so that `accept` is to be called?"""
        return channel is self._listener

    def accept(self) -> None:
        """Take in the clients that wait to be connected."""
        for client_socket in self._listener.accept():
            self._clients.add(client_socket)
        resume = self._listener.resume_at is None
        self._core.register_channel(self._listener, select.POLLIN if resume else 0)

    def resume(self) -> None:
        """Try again where new connections could not even be turned away."""
        resume_at = self._listener.resume_at
        if resume_at is not None and resume_at <= time.monotonic():
            self.accept()

    def move(self, configuration: Configuration, port: int) -> None:
        """Listen to the address of a new configuration, or to the old one as before.

        If neither can be had, `look` goes on trying.
        """
        self._listener.allowed = AllowedNetworks(configuration.allowed_networks)
        self._core.unregister_channel(self._listener)
        try:
            moved = self._listener.move(configuration.ip, port)
        except OSError as e:
            moved = self._listener.is_open
            kept = "the old address is kept" if moved else "it is tried again"
            logger.error("%s; %s", e.strerror or e, kept)
        finally:
            self._core.register_channel(self._listener)
        if moved:
            self._note_address()

    def look(self) -> bool:
        """Try to listen again, if no address could be had.

        :return: whether that has just succeeded
        """
        if self._listener.is_open or not self._is_open:
            return False
        self._core.unregister_channel(self._listener)
        try:
            found = self._listener.listen_again()
        finally:
            self._core.register_channel(self._listener)
        if found:
            self._note_address()
        return found

    def _note_address(self) -> None:
        self._address = self._listener.address
        logger.info("Listening on %s port %d", *self._address)

    def close(self) -> bool:
        """Stop listening, and disconnect everybody.

        :return: whether it was listening
        """
        self._clients.remove_all()
        if not self._is_open:
            return False
        self._is_open = False
        self._core.unregister_channel(self._listener)
        self._listener.close()
        return True
