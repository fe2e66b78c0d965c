"""Which methods of the server a client may call, and how a call is made."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from spalloc_server.wire.messages import Command

_COMMANDS: dict[str, Callable[..., Any]] = {}
"""From the names of commands to the functions, methods of the server, they call."""

_ENCODED: dict[str, Callable[..., Any]] = {}
"""For commands that are called very often or have very long replies: the functions that
give the loop their replies encoded already."""

Method = TypeVar("Method", bound=Callable[..., Any])


class UnknownCommandError(IOError):
    """No command has the name that the client sent."""


def spalloc_command(f: Method) -> Method:
    """Decorate a method of the server to make it a command of its name.

    The method's first argument after ``self`` is the client that calls. What it
    returns becomes the reply.
    """
    _COMMANDS[f.__name__] = f
    # It belonged to the method that had this name before.
    _ENCODED.pop(f.__name__, None)
    return f


def encodes(name: str) -> Callable[[Method], Method]:
    """Decorate a method that gives the reply of a command as it is sent.

    It takes the arguments of the command, and returns the whole line as bytes, or an
    iterator over the pieces of that line, each made in a turn of its own.
    """

    def register(f: Method) -> Method:
        _ENCODED[name] = f
        return f

    return register


def is_command(name: str) -> bool:
    """Is there a command of this name?"""
    return name in _COMMANDS


def call_command(
    server: object, client: object, command: Command, encoded: bool = False
) -> Any:
    """Call a command and return what it returns.

    With ``encoded``, that is bytes or an iterator where there is a method that
    :py:func:`encodes` it.

    A keyword argument ``client`` is ignored: it is never the caller's to say.
    Raises :py:exc:`UnknownCommandError` where there is no such command, else
    whatever the command raises; :py:exc:`TypeError` where the arguments do not fit.
    """
    function = _COMMANDS.get(command.name)
    if function is None:
        raise UnknownCommandError("unrecognised command name")
    if encoded:
        function = _ENCODED.get(command.name, function)
    kwargs = command.kwargs
    if "client" in kwargs:
        kwargs = {name: arg for name, arg in kwargs.items() if name != "client"}
    try:
        return function(server, client, *command.args, **kwargs)
    except TypeError:
        # Arguments that do not fit are found out before the function has begun. What
        # Python says of them names the server and the client, too.
        _check_fit(function, command, kwargs)
        raise


def _check_fit(
    function: Callable[..., Any], command: Command, kwargs: dict[str, Any]
) -> None:
    """Raise :py:exc:`TypeError`, for the client to read, if arguments do not fit."""
    try:
        _wire_signature(function).bind(*command.args, **kwargs)
    except TypeError as e:
        raise TypeError(f"{command.name}: {e}") from None


@cache
def _wire_signature(function: Callable[..., Any]) -> inspect.Signature:
    """The signature as a client sees it: without the server and the client."""
    signature = inspect.signature(function)
    return signature.replace(parameters=list(signature.parameters.values())[2:])
