"""Which methods of the server a client may call, and how a call is made."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

from spalloc_server.messages import Command

_COMMANDS: dict[str, Callable[..., Any]] = {}
"""From the names of commands to the functions, methods of the server, they call."""

Method = TypeVar("Method", bound=Callable[..., Any])


class UnknownCommandError(IOError):
    """No command has the name that the client sent."""


def spalloc_command(f: Method) -> Method:
    """Decorate a method of the server to make it a command of its name.

    The method's first argument after ``self`` is the client that calls. What it
    returns becomes the reply; bytes are a whole reply line, encoded already, and an
    iterator gives the pieces of such a line, each made in a turn of its own.
    """
    _COMMANDS[f.__name__] = f
    return f


def is_command(name: str) -> bool:
    """Is there a command of this name?"""
    return name in _COMMANDS


def call_command(server: object, client: object, command: Command) -> Any:
    """Call a command and return what it returns.

    A keyword argument ``client`` is ignored: it is never the caller's to say.
    Raises :py:exc:`UnknownCommandError` where there is no such command, else
    whatever the command raises; :py:exc:`TypeError` where the arguments do not fit.
    """
    function = _COMMANDS.get(command.name)
    if function is None:
        raise UnknownCommandError("unrecognised command name")
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
