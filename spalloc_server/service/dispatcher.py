"""From what clients have sent to what they are answered."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from spalloc_server.model.changes import Change, RefusedError
from spalloc_server.observe.stats import ServerStats
from spalloc_server.service.intake import Intake
from spalloc_server.service.registry import (
    UNKNOWN,
    Spec,
    UnknownCommandError,
    call,
    find,
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
)

logger = logging.getLogger(__name__)

COMMANDS_PER_TURN: Final = 64
"""How many commands of one client are handled before the others get their turn."""

LEAST_PER_TURN: Final = 4
"""The same where there are many clients with something to do."""

ALL_COMMANDS_PER_TURN: Final = 1024
"""How many commands are handled before the replies to them are sent."""

SHARES: Final = {"get_job_state": 4}
"""As how many commands some count, because of what their replies may be."""

LONG_REPLIES_PER_TURN: Final = 8
"""To how many clients a part of a long reply is given before others get their turn."""

LONG_REPLIES: Final = frozenset(
    {
        *("list_jobs", "list_machines", "list_problems", "get_job_machine_info"),
        *("status", "jobs", "boards"),
    }
)
"""Commands whose replies may be long; a client's next commands wait for another turn,
so that what waits for a client that does not read is looked at in between."""

ENCODED: Final = (bytes, LongReply)
"""Replies that are encoded already, or will be piece by piece."""


@dataclass(slots=True, eq=False)
class Request:
    """A command that a client has sent."""

    client: Connection
    command: Command
    spec: Spec
    change: Change | None = None
    """What it is to change; None where it only reads, or cannot be done."""
    problem: Exception | None = None
    """Why it cannot be done, if that is known already."""


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
        # How many commands, and long replies, there are in this turn.
        self._commands = 0
        self._long_replies = 0

    def take_turns(self, clients: Sequence[Connection]) -> None:
        """Handle what clients have sent; whatever goes wrong is their own loss."""
        requests: list[Request] = []
        self._long_replies = self._commands = 0
        share = ALL_COMMANDS_PER_TURN // max(1, len(clients))
        share = min(COMMANDS_PER_TURN, max(LEAST_PER_TURN, share))
        for client in clients:
            try:
                if client.is_busy:
                    if self._may_be_long(client):
                        client.go_on_with_reply()
                elif self._commands >= ALL_COMMANDS_PER_TURN:
                    # The replies to them may be long, and none is sent before the end.
                    self._clients.defer(client)
                else:
                    # Who leaves replies lying is in no hurry.
                    own_share = 1 if client.held_bytes else share
                    self._read_requests(client, own_share, requests)
            except LineTooLongError as e:
                self._clients.leave(client, str(e), "line too long")
            except OutputFullError as e:
                self._clients.leave(client, str(e), "output not taken")
            except Exception:
                self._leave_after_error(client)
        if requests:
            self._handle(requests)

    def handle_line(self, client: Connection, line: bytes | str) -> dict[str, Any]:
        """Handle the command in a line, on behalf of a client.

        :return: the reply, whether the command returned or raised
        :raises OSError: if the line is no command
        """
        command = decode_command(line)
        request = Request(client, command, _find(client, command))
        changes = self._check([request])
        if not changes:
            return self._reply(request)
        with self._server.intake.stored(changes) as problem:
            return (
                self._reply(request)
                if problem is None
                else self._refuse(request, problem)
            )

    def _read_requests(
        self, client: Connection, share: int, requests: list[Request]
    ) -> None:
        """Read from a client, and take its commands, so many at most."""
        if not client.has_line():
            try:
                client.receive()
            except OSError:
                self._clients.leave(client, None, "connection lost")
                return
        while share > 0:
            line = client.next_line()
            if line is None:
                break
            try:
                command = decode_command(line)
            except OSError as e:
                self._leave_for(client, line, e)
                break
            try:
                spec = _find(client, command)
            except UnknownCommandError as e:
                # It is answered, after those before it, and then the connection ends.
                requests.append(Request(client, command, UNKNOWN, problem=e))
                self._leave_for(client, line, e)
                break
            is_long = command.name in LONG_REPLIES
            if is_long and not self._may_be_long(client):
                client.put_back(line)
                break
            requests.append(Request(client, command, spec))
            if is_long:
                break
            taken = SHARES.get(command.name, 1)
            share -= taken
            self._commands += taken

    def _leave_for(self, client: Connection, line: bytes, error: OSError) -> None:
        reason = f"bad command: {error}: {line[:200]!r}"
        self._clients.leave(client, reason, "bad command")

    def _may_be_long(self, client: Connection) -> bool:
        """May a client have a part of a long reply now? Else its turn is put off."""
        if self._long_replies < LONG_REPLIES_PER_TURN:
            self._long_replies += 1
            return True
        self._clients.defer(client)
        return False

    def _check(self, requests: Sequence[Request]) -> list[Change]:
        """Check the arguments of all commands that change something: here and once.

        :return: the changes to make
        """
        changes = []
        for request in requests:
            check = request.spec.check
            if check is not None:
                try:
                    request.change = call(
                        check, self._server, request.client, request.command
                    )
                    changes.append(request.change)
                except Exception as e:
                    request.problem = e
        return changes

    def _handle(self, requests: Sequence[Request]) -> None:
        """Store what the commands of a turn change, and do and answer all of them."""
        changes = self._check(requests)
        if not changes:
            self._answer(requests, None)
            return
        with self._server.intake.stored(changes) as problem:
            self._answer(requests, problem)

    def _answer(self, requests: Sequence[Request], not_stored: str | None) -> None:
        for request in requests:
            client = SOURCE.client = request.client
            try:
                if not_stored is not None and request.change is not None:
                    client.send(self._refuse(request, not_stored))
                    continue
                reply = self._encoded_reply(request)
                if isinstance(reply, bytes):
                    client.send_line(reply)
                elif isinstance(reply, LongReply):
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

    def _refuse(self, request: Request, reason: str) -> dict[str, Any]:
        """The reply to a command that is not even tried."""
        self._stats.undone[request.command.name, "not stored"] += 1
        return {"exception": reason}

    def _encoded_reply(self, request: Request) -> Any:
        """Do a command; gives a message, a line, or what makes a long one."""
        spec = request.spec
        try:
            returned = self._do(request, spec.encoded or spec.method)
        except Exception as e:
            return self._failure(request, e)
        self._stats.done[spec.name] += 1
        if returned is None:
            return NOTHING_RETURNED
        if isinstance(returned, ENCODED):
            return returned
        return {"return": returned}

    def _reply(self, request: Request) -> dict[str, Any]:
        """Do a command; gives a message."""
        try:
            returned = self._do(request, request.spec.method)
        except Exception as e:
            return self._failure(request, e)
        self._stats.done[request.spec.name] += 1
        return {"return": returned}

    def _do(self, request: Request, method: Any) -> Any:
        if request.change is not None:
            return self._server.intake.do(request.change)
        if request.problem is not None:
            raise request.problem
        return call(method, self._server, request.client, request.command)

    def _failure(self, request: Request, error: Exception) -> dict[str, Any]:
        """The reply to a command that has raised something."""
        name = request.spec.name
        # Whatever a change that was checked raises, but for this, is our own error.
        refused = (
            RefusedError
            if request.change is not None
            else (TypeError, ValueError, UnknownCommandError)
        )
        if isinstance(error, refused):
            self._stats.undone[name, "refused"] += 1
            logger.debug("Client %r: %s: %s", request.client, name, error)
            return {"exception": str(error)}
        self._stats.undone[name, "failed"] += 1
        logger.error("Client %r: %s failed", request.client, name, exc_info=error)
        return {"exception": str(error) or type(error).__name__}


def _find(client: object, command: Command) -> Spec:
    return find(command.name, getattr(client, "user", None) is not None)
