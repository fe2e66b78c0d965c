"""Which methods of the server are commands, and what each of them does to the state.

Every command is declared to read only (`reads`) or to change something (`changes`);
one that is neither is refused when it is defined. A command that changes something
does not do so itself: its method checks the arguments and gives a
`spalloc_server.model.changes.Change`, which is stored and done in one place for all.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from typing import (
    Any,
    Concatenate,
    Final,
    ParamSpec,
    Protocol,
    TypeVar,
    cast,
)

from spalloc_server.model.changes import Change
from spalloc_server.service.gateways import Gateways
from spalloc_server.wire.messages import Command

LONG_REPLIES: Final = frozenset(
    {
        *("list_jobs", "list_machines", "list_problems", "get_job_machine_info"),
        *("status", "jobs", "boards"),
    }
)
"""Commands whose replies may be long; a client's next commands wait for another turn,
so that what waits for a client that does not read is looked at in between."""

SHARES: Final = {**dict.fromkeys(LONG_REPLIES, 0), "get_job_state": 3}
"""As how many commands some count that are not one, because of what their replies may
be; 0 for those that have a bound of their own. The reason for which a job has ended may
be long, but a packet of 20 is still handled in one turn."""

LONGEST_SHOWN: Final = 100
"""So many characters of a name that is no command's are told."""

_COMMANDS: dict[str, Callable[..., Any]] = {}
"""From the names of commands to the functions, methods of the server, they call."""

_SPECS: dict[str, Spec] = {}

_OPERATOR_SPECS: dict[str, Spec] = {}
"""Those that only operators may give, by the socket in the folder of the state."""

_DECLARED: dict[Callable[..., Any], Callable[..., Change] | None] = {}
"""The methods that are declared; what checks for those that change something."""

Method = TypeVar("Method", bound=Callable[..., Any])
_Arguments = ParamSpec("_Arguments")


@dataclass(frozen=True, slots=True)
class Spec:
    """What there is to know of a command."""

    name: str
    method: Callable[..., Any]
    """``f(server, client, *args, **kwargs)``: does all of it, and gives the reply."""
    check: Callable[..., Change] | None
    """Has the same arguments, and gives the change to make; None for a command that
    only reads."""
    encoded: Callable[..., Any]
    """The same as ``method``, but for commands that are called very often or have very
    long replies: has the same arguments, and gives the whole line of the reply, or
    pieces of it each made in a turn of its own."""
    share: int
    """As how many of the commands it counts that a client may give in one turn."""


class UnknownCommandError(IOError):
    """No command has the name that the client sent."""


class Representable(Protocol):
    """A server that takes commands from some clients on behalf of others."""

    gateways: Gateways
    """Those who may do that."""


class Changeable(Protocol):
    """A server on which commands make changes."""

    def make_change(self, change: Change, /) -> Any:
        """Store a change and do it; what there is to reply."""


def reads(f: Method) -> Method:
    """Declare that a command changes nothing that is kept."""
    _DECLARED[f] = None
    return f


def changes(
    check: Callable[Concatenate[Any, Any, _Arguments], Change],
) -> Callable[Concatenate[Any, Any, _Arguments], Any]:
    """Declare a command that changes something, by what checks its arguments.

    :param check: gives the change to make; raises `TypeError` or `ValueError`, which
        names the argument that is wrong
    :return: a method that makes the change
    """

    @functools.wraps(check)
    def command(
        server: Changeable,
        client: Any,
        /,
        *args: _Arguments.args,
        **kwargs: _Arguments.kwargs,
    ) -> Any:
        return server.make_change(check(server, client, *args, **kwargs))

    _DECLARED[command] = check
    return command


def spalloc_command(f: Method) -> Method:
    """Decorate a method of the server to make it a command of its name.

    The method's first argument after ``self`` is the client that calls. What it
    returns becomes the reply.

    :raises TypeError: if it is not declared with `reads` or `changes`
    """
    _SPECS[f.__name__] = _spec(f)
    _COMMANDS[f.__name__] = f
    return f


def operator_command(f: Method) -> Method:
    """Decorate a function to make it a command that only operators may give.

    Its first arguments are the server and the operator's connection. On the public
    port there is no such command.

    :raises TypeError: if it is not declared with `reads` or `changes`
    """
    spec = _spec(f)
    _OPERATOR_SPECS[spec.name] = spec
    return f


def _spec(f: Callable[..., Any]) -> Spec:
    if f not in _DECLARED:
        raise TypeError(
            f"command {f.__name__} has to be declared with @reads or @changes"
        )
    # A name of Python's has something behind it.
    name = f.__name__.removesuffix("_")
    return Spec(name, f, _DECLARED[f], f, SHARES.get(name, 1))


def encodes(name: str) -> Callable[[Method], Method]:
    """Decorate a method that gives the reply of a command as it is sent.

    See `Spec.encoded`. It comes after the command that it is for.
    """

    def register(f: Method) -> Method:
        _SPECS[name] = replace(_SPECS[name], encoded=f)
        return f

    return register


def find(name: str, user: str | None = None) -> Spec:
    """The command of a name.

    :param user: the operator who gives it, None for a client of the public port
    :raises UnknownCommandError: if there is none that may be given
    """
    spec = _SPECS.get(name)
    if user is not None:
        spec = _OPERATOR_SPECS.get(name, spec)
    if spec is None:
        shown = (
            name if len(name) <= LONGEST_SHOWN else f"{name[: LONGEST_SHOWN - 3]}..."
        )
        raise UnknownCommandError(f"unknown command {shown!r}")
    return spec


def unknown(error: UnknownCommandError) -> Spec:
    """Stand in for a command that there is not: whoever calls it is told so."""

    def refuse(_server: object, _client: object, *_args: Any, **_kwargs: Any) -> Any:
        raise error

    return Spec("unknown", refuse, None, refuse, 1)


def call(
    function: Callable[..., Any], server: object, client: object, command: Command
) -> Any:
    """Call one of the functions of a `Spec` with what a client has sent.

    A keyword argument ``client`` is ignored: it is never the caller's to say. With
    ``on_behalf_of`` a gateway says for which host it speaks, in this command only.

    :raises TypeError: if the arguments do not fit; else whatever the function raises
    """
    kwargs = command.kwargs
    if kwargs:
        if "client" in kwargs:
            kwargs = {name: arg for name, arg in kwargs.items() if name != "client"}
        if "on_behalf_of" in kwargs:
            return _call_for_another(function, server, client, command)
    try:
        if not kwargs:
            return function(server, client, *command.args)
        return function(server, client, *command.args, **kwargs)
    except TypeError:
        # Arguments that do not fit are found out before the function has begun. What
        # Python says of them names the server and the client, too.
        _check_fit(function, command, kwargs)
        raise


def _call_for_another(
    function: Callable[..., Any], server: object, client: Any, command: Command
) -> Any:
    """Call a function for a client that says on whose behalf that is."""
    kwargs = dict(command.kwargs)
    host = cast(Representable, server).gateways.host_for(
        client, kwargs.pop("on_behalf_of")
    )
    own, client.host = client.host, host
    try:
        return call(
            function, server, client, Command(command.name, command.args, kwargs)
        )
    finally:
        client.host = own


def _check_fit(
    function: Callable[..., Any], command: Command, kwargs: dict[str, Any]
) -> None:
    """Raise `TypeError`, for the client to read, if arguments do not fit."""
    try:
        _wire_signature(function).bind(*command.args, **kwargs)
    except TypeError as e:
        raise TypeError(f"{command.name}: {e}") from None


@cache
def _wire_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature as a client sees it: without the server and the client."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[2:])
