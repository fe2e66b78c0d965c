"""From what clients have sent to what they are answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final, Protocol, TypeAlias

from spalloc_server.model.changes import Change, RefusedError
from spalloc_server.observe.stats import ServerStats
from spalloc_server.service.intake import Intake
from spalloc_server.service.registry import (
    Spec,
    UnknownCommandError,
    call,
    find,
    unknown,
)
from spalloc_server.wire.clients import Clients
from spalloc_server.wire.connection import Connection, OutputFullError
from spalloc_server.wire.framing import LineTooLongError
from spalloc_server.wire.log_source import SOURCE
from spalloc_server.wire.messages import (
    NOTHING_RETURNED,
    Command,
    LongReply,
    decode_command,
    encode_message,
    encode_return,
)

logger = logging.getLogger(__name__)

COMMANDS_PER_TURN: Final = 64
"""How many commands of one client are handled before the others get their turn."""

LEAST_PER_TURN: Final = 4
"""The same where there are many clients with something to do."""

ALL_COMMANDS_PER_TURN: Final = 1024
"""How many commands are handled before the replies to them are sent."""

LONG_REPLIES_PER_TURN: Final = 8
"""To how many clients a part of a long reply is given before others get their turn."""

FEW: Final = ALL_COMMANDS_PER_TURN // COMMANDS_PER_TURN
"""So many clients can all have `COMMANDS_PER_TURN`."""

ENCODED: Final = (bytes, LongReply)
"""Replies that are encoded already, or will be piece by piece."""

REFUSED: Final = (TypeError, ValueError, UnknownCommandError)
"""What commands raise for which the client is to blame."""


Checked: TypeAlias = Change | Exception | None
"""What a command is to change, or why it cannot be done, if that is known already; None
for one that only reads."""

Request: TypeAlias = tuple[Connection, Command, Spec, Checked]
"""A command that a client has sent. A plain tuple: there is one for each line."""


class Serving(Protocol):
    """The server whose commands are called."""

    @property
    def intake(self) -> Intake:
        """Makes the changes."""


class Dispatcher:
    """Handles the commands of clients, and gives them their replies.

    For the server's thread. No client can stop the loop or hold it up: sockets never
    block, and each client has its share of each turn.
    """

    def __init__(self, server: Serving, clients: Clients, stats: ServerStats) -> None:
        """Handle commands.

        :param server: its methods are the commands
        :param clients: all there are
        :param stats: counts what was done
        """
        self._server = server
        self._clients = clients
        self._stats = stats
        # How many long replies there are in this turn, and what is to be changed.
        self._long_replies = 0
        self._changes: list[Change] = []

    def take_turns(self, clients: Sequence[Connection]) -> None:
        """Handle what clients have sent; whatever goes wrong is their own loss."""
        requests: list[Request] = []
        self._long_replies = commands = 0
        self._changes = []
        share = COMMANDS_PER_TURN
        if len(clients) > FEW:
            share = max(LEAST_PER_TURN, ALL_COMMANDS_PER_TURN // len(clients))
        for client in clients:
            try:
                if client.is_busy:
                    if self._may_be_long(client):
                        client.go_on_with_reply()
                elif commands >= ALL_COMMANDS_PER_TURN:
                    # The replies to them may be long, and none is sent before the end.
                    self._clients.defer(client)
                else:
                    # Who leaves replies lying is in no hurry.
                    own_share = 1 if client.stale_bytes else share
                    commands += self._read_requests(client, own_share, requests)
            except LineTooLongError as e:
                self._clients.leave(client, str(e), "line too long")
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            except Exception:
                self._leave_after_error(client)
        if requests:
            try:
                if self._changes:
                    with self._server.intake.stored(self._changes) as not_stored:
                        self._answer(requests, not_stored)
                else:
                    self._answer(requests, None)
            except Exception:
                # Whoever has not got a reply must not wait for it.
                for client in {request[0] for request in requests}:
                    self._leave_after_error(client)

    def handle_line(self, client: Connection, line: bytes | str) -> dict[str, Any]:
        """Handle the command in a line, on behalf of a client.

        :return: the reply, whether the command returned or raised
        :raises OSError: if the line is no command
        """
        self._changes = []
        command = decode_command(line)
        # Only a connection knows of operators; others may be given for one.
        spec = find(command.name, getattr(client, "user", None))
        request = client, command, spec, self._check(client, command, spec)
        if not self._changes:
            return self._message(request, None)
        with self._server.intake.stored(self._changes) as not_stored:
            return self._message(request, not_stored)

    def _read_requests(
        self, client: Connection, share: int, requests: list[Request]
    ) -> int:
        """Read from a client, and take its commands, so many at most.

        :return: how many it has taken of its share
        """
        if not client.has_line():
            try:
                client.receive()
            except OSError:
                self._clients.leave(client, None, "connection lost")
                return 0
        left = share
        while left > 0:
            line = client.next_line()
            if line is None:
                break
            try:
                command = decode_command(line)
                spec = find(command.name, client.user)
            except OSError as e:
                reason = f"bad command: {e}: {line[:200]!r}"
                if isinstance(e, UnknownCommandError):
                    # It is answered, after those before it; then the connection ends.
                    requests.append((client, command, unknown(e), None))
                    self._clients.leave_after_output(client, reason, "bad command")
                else:
                    self._clients.leave(client, reason, "bad command")
                break
            if not spec.share and not self._may_be_long(client):
                client.put_back(line)
                break
            checked = None
            if spec.check is not None:
                if self._server.intake.must_wait:
                    client.put_back(line)
                    self._clients.defer(client)
                    break
                checked = self._check(client, command, spec)
            requests.append((client, command, spec, checked))
            if not spec.share:
                break
            left -= spec.share
        return share - left

    def _may_be_long(self, client: Connection) -> bool:
        """May a client have a part of a long reply now? Else its turn is put off."""
        if self._long_replies < LONG_REPLIES_PER_TURN:
            self._long_replies += 1
            return True
        self._clients.defer(client)
        return False

    def _check(self, client: Connection, command: Command, spec: Spec) -> Checked:
        """Check the arguments of a command that changes something: here and once."""
        if spec.check is None:
            return None
        try:
            change: Change = call(spec.check, self._server, client, command)
        except Exception as e:
            return e
        self._changes.append(change)
        return change

    def _answer(self, requests: Sequence[Request], not_stored: str | None) -> None:
        """Do and answer the commands of a turn.

        :param not_stored: why changes are not to be done; None where they are stored
        """
        source = None
        for request in requests:
            client = request[0]
            if client is not source:
                source = SOURCE.client = client
            try:
                reply = self._line(request, not_stored)
                if isinstance(reply, bytes):
                    client.send_line(reply)
                else:
                    client.begin_reply(reply)
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            except Exception:
                self._leave_after_error(client)
        SOURCE.client = None

    def _leave_after_error(self, client: Connection) -> None:
        logger.exception("Unexpected error in the turn of client %r", client)
        self._clients.leave(client, "unexpected error", "internal error")

    def _line(self, request: Request, not_stored: str | None) -> bytes | LongReply:
        """Do a command; gives the line of the reply, or what makes a long one."""
        client, command, spec, checked = request
        try:
            if checked is None:
                returned = call(spec.encoded, self._server, client, command)
            elif not_stored is None:
                returned = self._change(checked)
            else:
                return encode_message(self._message(request, not_stored))
        except Exception as e:
            return encode_message(self._failure(request, e))
        self._stats.done[spec.name] += 1
        if returned is None:
            return NOTHING_RETURNED
        return returned if isinstance(returned, ENCODED) else encode_return(returned)

    def _change(self, checked: Change | Exception) -> Any:
        """Make a change that is stored, or say why it cannot be made."""
        if isinstance(checked, Exception):
            raise checked
        return self._server.intake.do(checked)

    def _message(self, request: Request, not_stored: str | None) -> dict[str, Any]:
        """Do a command; gives the reply as a message."""
        client, command, spec, checked = request
        try:
            if checked is None:
                returned = call(spec.method, self._server, client, command)
            elif not_stored is None or isinstance(checked, Exception):
                returned = self._change(checked)
            else:
                self._stats.undone[command.name, "not stored"] += 1
                return {"exception": not_stored}
        except Exception as e:
            return self._failure(request, e)
        self._stats.done[spec.name] += 1
        return {"return": returned}

    def _failure(self, request: Request, error: Exception) -> dict[str, Any]:
        """The reply to a command that has raised something."""
        client, _, spec, checked = request
        name = spec.name
        # Whatever a change that was checked raises, but for this, is our own error.
        is_change = checked is not None and not isinstance(checked, Exception)
        refused = RefusedError if is_change else REFUSED
        if isinstance(error, refused):
            self._stats.undone[name, "refused"] += 1
            logger.debug("Client %r: %s: %s", client, name, error)
            return {"exception": str(error)}
        self._stats.undone[name, "failed"] += 1
        logger.error("Client %r: %s failed", client, name, exc_info=error)
        return {"exception": str(error) or type(error).__name__}
