"""Which state file there is to be read, of those that servers may have left."""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import stat
from typing import Final

from spalloc_server.storage import database, files, names
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.reference_state import is_reference_state

logger = logging.getLogger(__name__)

_OUT_OF_DATE: Final = "out-of-date"


def choose(filename: str) -> str | None:
    """The state file to read: the one that was written last, if we can read it."""
    own = names.version_of(filename.rpartition(".state.")[2])
    candidates = []
    _clear_way(filename)
    for name, version in names.state_files(filename):
        if is_reference_state(name, version):
            continue
        _clear_way(name)
        _settle_new(name)
        written = _written_at(name)
        if written is None:
            _note_orphans(name)
        else:
            numbers = names.version_of(version) or ()
            candidates.append((written, name == filename, numbers, name))
    if not candidates:
        return None
    candidates.sort()
    *older, (_, is_own, numbers, name) = candidates
    chosen: str | None = name
    if not is_own and own is not None and numbers > own:
        aside = _move_aside(name, _OUT_OF_DATE)
        logger.error(
            "State file %s is from a newer version, %s, which this one cannot read; "
            "it is kept as %s, and the server starts without it",
            name,
            ".".join(map(str, numbers)),
            aside,
        )
        chosen = None
    for _, _, _, other in older:
        aside = _move_aside(other, _OUT_OF_DATE)
        logger.warning(
            "State file %s is out of date: %s was written after it; it is kept as %s",
            other,
            name,
            aside,
        )
    return chosen


def _clear_way(filename: str) -> None:
    """Move aside what is no file where SQLite, or we, would take it for one of ours."""
    # There is never a journal of this kind; SQLite would act on one.
    foreign = [f"{filename}-journal", f"{filename}{names.NEW}-journal"]
    foreign = [name for name in foreign if os.path.lexists(name)]
    for suffix in ("-shm", names.NEW, f"{names.NEW}-wal", f"{names.NEW}-shm"):
        with contextlib.suppress(OSError):
            if not stat.S_ISREG(os.lstat(filename + suffix).st_mode):
                foreign.append(filename + suffix)
    for name in foreign:
        try:
            aside = files.move_all_aside([name], "unreadable")
        except OSError as e:
            logger.warning("Cannot move %s aside: %s", name, e.strerror)
        else:
            logger.warning(
                "%s was not written by this server; it is kept as %s", name, aside
            )


def _note_orphans(filename: str) -> None:
    """Keep what lies beside a state file that is not there, and say so."""
    if any(os.path.lexists(name) for name in names.files_of(filename)):
        logger.error(
            "State file %s is missing. Other files that belong to it are of no use "
            "without it; they are kept as %s...",
            filename,
            _move_aside(filename, "unreadable"),
        )


def _move_aside(filename: str, kind: str) -> str:
    try:
        return files.move_all_aside(names.files_of(filename), kind)
    except OSError as e:
        # So it stays, and is out of date the next time, too.
        logger.warning("Cannot move %s aside: %s", filename, e.strerror)
        return filename


def _written_at(filename: str) -> float | None:
    """When a state file was last changed, None if there is none."""
    if not files.check_file(filename):
        return None
    times = []
    for name in names.files_of(filename):
        with contextlib.suppress(OSError):
            times.append(os.stat(name).st_mtime)
    return max(times)


def is_database(filename: str) -> bool:
    """Is a state file a database, or meant to be one? It was a pickle once."""
    with open(filename, "rb") as file:
        begin = file.read(len(database.MAGIC))
    # A pickle of the protocols that were used begins like this.
    return begin == database.MAGIC or not begin.startswith(b"\x80")


def _settle_new(filename: str) -> None:
    """Put a new file in place that a crash has kept from there, or remove it."""
    new = filename + names.NEW
    try:
        if not files.check_file(new):
            return
    except StateFileError:
        # Nothing of ours. It is in the way of the next one, which says so.
        return
    sound, problems = False, ["it cannot be read"]
    try:
        contents = Contents(new)
        with contextlib.closing(contents):
            sound = contents.snapshot() is not None and not contents.problems
            problems = contents.problems
    except sqlite3.Error as e:
        raise StateFileError(
            f"cannot read state file {new}: {database.reason(e)}"
        ) from e
    try:
        if sound:
            database.put_in_place(filename)
        elif database.is_complete(new):
            # It was to count instead of the old one.
            aside = files.move_all_aside(
                [new, f"{new}-wal", f"{new}-shm"], "unreadable"
            )
            logger.error(
                "State file %s is damaged (%s); it is kept as %s. An older one is "
                "used; the latest changes may be missing",
                new,
                "; ".join(problems),
                aside,
            )
        else:
            # What a crash has left of writing it.
            os.unlink(new)
    except OSError as e:
        raise StateFileError(f"cannot replace {filename}: {e.strerror}") from e


def set_old_journal_aside(filename: str) -> None:
    """Keep a journal of schema 1 that lies beside a database.

    It has been taken over, unless somebody has put it there.
    """
    if os.path.lexists(filename + names.OLD_JOURNAL):
        old = [n for n in names.files_of(filename) if names.OLD_JOURNAL in n]
        try:
            aside = files.move_all_aside(old, _OUT_OF_DATE)
        except OSError as e:
            logger.warning("Cannot move %s aside: %s", old[0], e.strerror)
        else:
            logger.warning("%s is no longer used; it is kept as %s", old[0], aside)
