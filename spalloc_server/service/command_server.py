"""Clients, the commands that they send, and the replies and notifications they get."""

import contextlib
import logging
import select
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Final, TypeAlias

from spalloc_server.observe.stats import ServerStats
from spalloc_server.polling_server_core import PollingServerCore
from spalloc_server.service.registry import (
    UnknownCommandError,
    call_command,
    is_command,
)
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import ChangeId, Connection, OutputFullError
from spalloc_server.wire.framing import LineTooLongError
from spalloc_server.wire.listener import Listener
from spalloc_server.wire.log_source import SOURCE
from spalloc_server.wire.messages import (
    NOTHING_RETURNED,
    Command,
    decode_command,
    encode_message,
)

logger = logging.getLogger(__name__)

COMMANDS_PER_TURN: Final = 64
"""How many commands of one client are handled before the others get their turn."""

LISTINGS: Final = frozenset({"list_jobs", "list_machines"})
"""Commands with long replies; a client's next commands wait until they are made."""

ENCODED: Final = (bytes, Iterator)
"""Replies that are encoded already, or will be piece by piece."""

Watches: TypeAlias = dict[Connection, set[Any] | None]
"""What each client watches: a set of IDs or names, None for all there are."""


Request: TypeAlias = tuple[Connection, Command]
"""A command, and the client that has sent it."""

Refusals: TypeAlias = Mapping[int, str]
"""Of a turn's requests, by their index: why some are not even tried."""

NOTHING_REFUSED: Final[AbstractContextManager[Refusals]] = contextlib.nullcontext({})
"""For turns in which all requests are tried."""


class CommandServer(PollingServerCore):
    """Accepts clients and handles their commands, which are methods of a subclass.

    For one thread, that of the loop of the subclass. No client can stop that loop or
    hold it up: sockets never block, and each client has its share of each turn.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listener: Listener | None = None
        self._clients = Clients(self, self._clear_watches)
        self.stats = ServerStats()
        self._clients.disconnects = self.stats.disconnects

    def _accept_client(self) -> None:
        """Take in the clients that wait to be connected."""
        assert self._listener is not None
        for client_socket in self._listener.accept():
            self._clients.add(client_socket)
        resume = self._listener.resume_at is None
        self.register_channel(self._listener, select.POLLIN if resume else 0)

    def _resume_accepting(self) -> None:
        """Try again where new connections could not even be turned away."""
        assert self._listener is not None
        resume_at = self._listener.resume_at
        if resume_at is not None and resume_at <= time.monotonic():
            self._accept_client()

    def _close(self) -> bool:
        """Stop listening and disconnect everybody. Was the server listening?"""
        self._clients.remove_all()
        if self._listener is None:
            return False
        self.unregister_channel(self._listener)
        self._listener.close()
        self._listener = None
        return True

    def _disconnect_client(self, client: Connection) -> None:
        """Disconnect a client at once, without sending what waits for it."""
        self._clients.remove(client, "internal error")

    def _clear_watches(self, client: Connection) -> None:
        """Forget what a client was watching. Called when it is gone."""

    @staticmethod
    def _name(client: Any) -> str | None:
        """The client's IP address, None where it has none (any more)."""
        try:
            name: str = client.getpeername()[0]
            return name or None
        except (OSError, IndexError):
            return None

    def _msg_client(self, client: Connection, message: object) -> None:
        """Send a client a message, at the end of this turn of the loop.

        Raises :py:exc:`.OutputFullError` where the client takes no messages.
        """
        client.send(message)
        self._clients.touch(client)

    def _take_turns(self, clients: Iterable[Connection]) -> None:
        """Handle what clients have sent; whatever goes wrong is their own loss."""
        requests: list[Request] = []
        for client in clients:
            try:
                if client.is_busy:
                    client.go_on_with_reply()
                else:
                    self._read_requests(client, requests)
            except LineTooLongError as e:
                self._clients.leave(client, str(e), "line too long")
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            except Exception:
                self._leave_after_error(client)
        if not requests:
            return
        with self._prepared(requests) as refusals:
            for index, (client, command) in enumerate(requests):
                SOURCE.client = client
                try:
                    if index in refusals:
                        client.send(self._refuse(command, refusals[index]))
                        continue
                    reply = self._reply_to(client, command, encoded=True)
                    if isinstance(reply, bytes):
                        client.send_line(reply)
                    elif isinstance(reply, Iterator):
                        client.begin_reply(reply)
                    else:
                        client.send(reply)
                except OutputFullError as e:
                    self._clients.leave(client, str(e), "output not taken")
                except Exception:
                    self._leave_after_error(client)
        SOURCE.client = None

    def _leave_after_error(self, client: Connection) -> None:
        logger.exception("Unexpected error in the turn of client %r", client)
        self._clients.leave(client, "unexpected error", "internal error")

    def _read_requests(self, client: Connection, requests: list[Request]) -> None:
        """Read from a client, and take its commands up to a limit for each turn."""
        if not client.has_line():
            try:
                client.receive()
            except OSError:
                self._clients.leave(client, None, "connection lost")
                return
        for _ in range(COMMANDS_PER_TURN):
            line = client.next_line()
            if line is None:
                break
            try:
                command = decode_command(line)
                if not is_command(command.name):
                    raise UnknownCommandError("unrecognised command name")
            except OSError as e:
                reason = f"bad command: {e}: {line[:200]!r}"
                self._clients.leave(client, reason, "bad command")
                break
            requests.append((client, command))
            if command.name in LISTINGS:
                break

    def _prepared(
        self, _requests: Sequence[Request]
    ) -> AbstractContextManager[Refusals]:
        """Called with all commands of a turn; they are executed within.

        A place to refuse some of them. Does nothing.
        """
        return NOTHING_REFUSED

    def _handle_commands(self, client: Connection) -> None:
        """Read from a client and handle its commands, up to a limit for each turn."""
        self._take_turns([client])

    def _handle_command(self, client: Connection, line: bytes | str) -> dict[str, Any]:
        """Execute the command in a line, on behalf of a client.

        Returns the reply, whether the command returned or raised. Raises
        :py:exc:`OSError` where the line is not a command at all.
        """
        command = decode_command(line)
        with self._prepared([(client, command)]) as refusals:
            if refusals:
                return self._refuse(command, refusals[0])
            reply: dict[str, Any] = self._reply_to(client, command, encoded=False)
            return reply

    def _refuse(self, command: Command, reason: str) -> dict[str, Any]:
        """The reply to a command that is not even tried."""
        self.stats.undone[command.name, "not stored"] += 1
        return {"exception": reason}

    def _reply_to(self, client: Connection, command: Command, encoded: bool) -> Any:
        """Execute a command. Raises nothing but :py:exc:`.UnknownCommandError`.

        Returns a dictionary; with ``encoded`` it may also be a whole line as bytes,
        or an iterator over the pieces of one.
        """
        try:
            returned = call_command(self, client, command, encoded)
        except UnknownCommandError:
            raise
        except (TypeError, ValueError) as e:
            self.stats.undone[command.name, "refused"] += 1
            logger.debug("Client %r: %s: %s", client, command.name, e)
            return {"exception": str(e)}
        except Exception as e:
            self.stats.undone[command.name, "failed"] += 1
            logger.exception("Client %r: %s failed", client, command.name)
            return {"exception": str(e) or type(e).__name__}
        self.stats.done[command.name] += 1
        if encoded:
            if returned is None:
                return NOTHING_RETURNED
            if isinstance(returned, ENCODED):
                return returned
        return {"return": returned}

    def _send_notifications(
        self, label: str, changes: Collection[ChangeId], watches: Watches
    ) -> None:
        """Notify each client, under a label, of those changes that it watches."""
        if not watches:
            return
        ordered = sorted(changes)
        # Most clients watch everything, and are told the same.
        line = encode_message({label: ordered})
        for client, watched in list(watches.items()):
            try:
                if watched is None:
                    client.notify(label, ordered, line)
                elif seen := [change for change in ordered if change in watched]:
                    client.notify(label, seen)
                else:
                    continue
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            self._clients.note_notified(client)
