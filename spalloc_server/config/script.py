"""Runs config files: Python scripts that define a global ``configuration``.

The names of `spalloc_server.configuration` and `spalloc_server.coordinates` are in a
script's scope. Whatever is wrong with a script, including what it raises, becomes a
`ConfigFileError` whose message is one line that an operator can act on.

Scripts run in the calling thread, for as long as they like, and nothing restricts what
they do: the server has them run by `spalloc_server.config.reading`, in a process of
their own.
"""

from __future__ import annotations

import os
import traceback
from pathlib import Path
from typing import Any, TypeAlias

from spalloc_server import configuration, coordinates
from spalloc_server.configuration import Configuration, Machine
from spalloc_server.coordinates import Board, Physical

ParsedConfig: TypeAlias = dict[str, Any]
"""The global variables that a config file left behind."""


class ConfigFileError(Exception):
    """A config file cannot be used.

    The message is one line, which begins with the name of the file and, where there
    is one, the number of the line at fault.
    """

    def __init__(
        self, filename: str | os.PathLike[str], line: int | None, reason: str
    ) -> None:
        super().__init__(filename, line, reason)
        self.filename = os.fspath(filename)
        """The config file."""
        self.line = line
        """The line at fault, or None if it is no single one."""
        self.reason = " ".join(reason.split())
        """What is wrong, in one line."""

    def __str__(self) -> str:
        place = self.filename if self.line is None else f"{self.filename}:{self.line}"
        return f"{place}: {self.reason}"


def load_config_file(filename: str | os.PathLike[str]) -> Configuration:
    """Read, run and check a config file.

    :raises ConfigFileError: if it does not give a valid configuration
    """
    return validate_config(parse_config(read_config_file(filename), filename))


def read_config_file(filename: str | os.PathLike[str]) -> str:
    """Read the text of a config file, which is in UTF-8.

    :raises ConfigFileError: if the file cannot be read or is not in UTF-8
    """
    try:
        contents = Path(filename).read_bytes()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigFileError(filename, None, f"cannot be read: {reason}") from error
    except ValueError as error:
        # The name itself is impossible, for example has a null character in it.
        raise ConfigFileError(filename, None, f"cannot be read: {error}") from error
    try:
        return contents.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigFileError(filename, line, "not a text in UTF-8") from error


def parse_config(
    source: str, filename: str | os.PathLike[str] = "<config>"
) -> ParsedConfig:
    """Run the text of a config file.

    :param source: the text of the script
    :param filename: where it comes from. Errors name it, the script has it as
        ``__file__``, and relative names of SpiNNer's files are looked up in its folder
        first.
    :return: what the script defined, for `validate_config`
    :raises ConfigFileError: if the script is not Python, or raises an exception
    """
    name = os.fspath(filename)
    namespace = _names_in_scope(name)
    try:
        # dont_inherit: the script gets plain Python, without this file's __future__.
        code = compile(source, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        raise ConfigFileError(name, error.lineno, f"{error.msg}") from error
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        # For example null characters, or brackets nested too deeply.
        raise ConfigFileError(name, None, _described(error)) from error
    try:
        exec(code, namespace)
    except BaseException as error:
        # KeyboardInterrupt too, and whatever else is meant for somebody further up: no
        # script is to end the server.
        raise ConfigFileError(
            name, _line_in_file(error, name), _described(error)
        ) from error
    return namespace


def validate_config(parsed: ParsedConfig) -> Configuration:
    """Take the configuration out of what a config file defined.

    :raises ConfigFileError: if there is none, or it was made invalid after it was built
    """
    filename = str(parsed.get("__file__", "<config>"))
    if "configuration" not in parsed:
        raise ConfigFileError(
            filename, None, "does not define the variable 'configuration'"
        )
    defined = parsed["configuration"]
    if not isinstance(defined, Configuration):
        raise ConfigFileError(
            filename,
            None,
            f"'configuration' should be a Configuration, not {_shown(defined)}",
        )
    # The list and the dicts in it can be changed in place after they were checked, by
    # the script and later by its functions: check again, and keep copies.
    try:
        machines = [
            Machine(*machine) if isinstance(machine, Machine) else machine
            for machine in defined.machines
        ]
        return defined._replace(machines=machines)
    except (TypeError, ValueError) as error:
        raise ConfigFileError(filename, None, str(error)) from error
    except Exception as error:  # of the script's own kinds of dict, set or number
        raise ConfigFileError(filename, None, _described(error)) from error


def _names_in_scope(filename: str) -> ParsedConfig:
    """Make the global variables that a config file starts with."""
    names = {
        name: value
        for module in (coordinates, configuration)
        for name, value in vars(module).items()
        if not name.startswith("_")
    }
    folder = os.path.dirname(filename)

    def board_locations_from_spinner(
        filename: str | os.PathLike[str],
    ) -> dict[Board, Physical]:
        # A daemon's working directory is seldom the folder of its config file.
        beside = os.path.join(folder, filename)
        found = beside if os.path.exists(beside) else filename
        return configuration.board_locations_from_spinner(found)

    board_locations_from_spinner.__doc__ = (
        configuration.board_locations_from_spinner.__doc__
    )
    names["board_locations_from_spinner"] = board_locations_from_spinner
    names["__file__"] = filename
    return names


def _line_in_file(error: BaseException, filename: str) -> int | None:
    """Find the innermost line of the file that an exception passed through."""
    line = None
    for frame, number in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_filename == filename:
            line = number
    return line


def _shown(value: object) -> str:
    """Write a value of a script, if that is possible, and not too much of it."""
    try:
        return f"{value!r:.80}"
    except Exception:
        return f"a {type(value).__name__}"


def _described(error: BaseException) -> str:
    """Name the kind of an exception and give its message."""
    kind = type(error).__name__
    try:
        message = str(error)
    except Exception:  # it is the script that says how to write it
        message = ""
    return f"{kind}: {message}" if message else kind
