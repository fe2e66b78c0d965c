"""The names of all files that a server keeps, hidden beside its configuration.

They are made of a *stem*: the name of the configuration file, in the folder of the
state. With a stem of ``/etc/spalloc.cfg`` there are

- ``/etc/.spalloc.cfg.state.1.0.0``, the state of version 1.0.0, and SQLite's ``-wal``;
- ``/etc/.spalloc.cfg.state.lock``, which says who uses it;
- ``/etc/.spalloc.cfg.admin``, the socket of ``spalloc_server_admin``;
- ``/etc/.spalloc.cfg.history``, which the status page draws from.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections.abc import Iterator

# Digits are those of ASCII: "²" is a digit to Python, and no number.
_VERSION = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})*")

#: What is added to the name of a state file while it is written.
NEW = ".new"

#: What was added to the name of a state file for the journal, up to schema 1.
OLD_JOURNAL = ".journal"


def stem_in(config_filename: str, state_dir: str | None) -> str:
    """What names are made of, for a configuration file and a folder for the state.

    :param state_dir: None for the folder of the configuration file
    """
    if state_dir is None:
        return config_filename
    return os.path.join(state_dir, os.path.basename(config_filename))


def beside(stem: str, suffix: str) -> str:
    """The full name of a hidden file."""
    folder, name = os.path.split(os.path.abspath(stem))
    return os.path.join(folder, f".{name}.{suffix}")


def state_file(stem: str, version: str) -> str:
    """Where a version keeps its state."""
    return beside(stem, f"state.{version}")


def lock_file(stem: str) -> str:
    """What says who uses the state."""
    return beside(stem, "state.lock")


def operator_socket(stem: str) -> str:
    """Where operators reach the server."""
    return beside(stem, "admin")


def operator_sockets(state_dir: str) -> Iterator[str]:
    """Where operators may reach the servers with state in a folder, in order.

    :raises OSError: if it is no folder that can be read
    """
    folder = os.path.abspath(state_dir)
    for name in sorted(os.listdir(folder)):
        if name.startswith(".") and name.endswith(".admin"):
            path = os.path.join(folder, name)
            with contextlib.suppress(OSError):
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    yield path


def history_file(stem: str) -> str:
    """Where the history for the status page is kept."""
    return beside(stem, "history")


def version_of(text: str) -> tuple[int, ...] | None:
    """A version as numbers that compare, None for anything else."""
    return tuple(map(int, text.split("."))) if _VERSION.fullmatch(text) else None


def state_files(own: str) -> Iterator[tuple[str, str]]:
    """The state files there are, of all versions, in no order.

    :param own: the name of one, whether it exists or not
    :return: the name of each, and its version
    """
    folder, name = os.path.split(own)
    stem, separator, own_version = name.rpartition(".state.")
    try:
        entries = os.listdir(folder or ".")
    except OSError:
        entries = []
    found = set()
    for entry in entries:
        if entry.startswith(stem + separator):
            version = entry.removeprefix(stem + separator)
            for suffix in ("-wal", OLD_JOURNAL, NEW):
                version = version.removesuffix(suffix)
            if version_of(version) is not None or version == own_version:
                found.add(version)
    for version in found:
        yield os.path.join(folder, f"{stem}{separator}{version}"), version


def released_state_files(stem: str) -> Iterator[tuple[str, str]]:
    """All files that are named as state is, of whichever program and release.

    :return: the name of each, and what stands where the version does, in order
    """
    folder, begin = os.path.split(state_file(stem, ""))
    try:
        entries = sorted(os.listdir(folder))
    except OSError:
        return
    for entry in entries:
        if entry.startswith(begin):
            yield os.path.join(folder, entry), entry.removeprefix(begin)


def files_of(filename: str) -> list[str]:
    """All files that may belong to a state file, itself first."""
    journal = filename + OLD_JOURNAL
    return [
        *(filename, f"{filename}-wal", f"{filename}-shm", f"{filename}-journal"),
        *(filename + NEW, f"{filename}{NEW}-wal", f"{filename}{NEW}-shm"),
        *(journal, f"{journal}-wal", f"{journal}-shm"),
    ]
