"""Read state files that are damaged, past the damage."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import sqlite3
import tempfile

from spalloc_server.storage import database, files
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.files import StateFileError

logger = logging.getLogger(__name__)


def opened(filename: str, stack: contextlib.ExitStack) -> Contents:
    """Open a state file, or a copy of it where it cannot be opened where it is.

    :param stack: removes the copy in the end
    :raises StateFileError: if it cannot be read for a reason that is no fault of it
    """
    log = f"{filename}-wal"
    files.check_file(log)
    emptied = os.path.getsize(filename) == 0 and os.path.exists(log)
    if emptied:
        # SQLite would remove the log of an empty database.
        try:
            aside = files.copy_aside([log])
            logger.warning("%s is empty; its log is kept as %s", filename, aside)
        except OSError as e:
            raise StateFileError(f"cannot keep {log}: {e.strerror}") from e
    try:
        return Contents(filename)
    except sqlite3.OperationalError:
        # It may be that it can be read where the log can be written.
        try:
            return Contents(_copied(filename, stack))
        except (OSError, sqlite3.Error) as e:
            raise StateFileError(
                f"cannot read state file {filename}: {database.reason(e)}"
            ) from e


def _copied(filename: str, stack: contextlib.ExitStack) -> str:
    """Copy a database with its log, for no longer than a stack lasts.

    :return: the name of the copy, in a folder of its own
    :raises OSError: if there is no room for it
    """
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    copy = os.path.join(folder, "state")
    for name in (filename, f"{filename}-wal"):
        if os.path.exists(name):
            shutil.copyfile(name, copy + name.removeprefix(filename))
    return copy


def mended(
    filename: str, contents: Contents, stack: contextlib.ExitStack
) -> tuple[Contents, bytes | None]:
    """Look for a snapshot behind the beginning of a file, if that is what is damaged.

    :param contents: of the file, in which there is none to be found
    :return: what it can be read from, and the snapshot; or no other contents, and None
    """
    try:
        copy = _copied(filename, stack)
        database.mend_beginning(copy, os.path.dirname(copy))
        other = Contents(copy)
    except (OSError, sqlite3.Error):
        return contents, None
    stack.callback(other.close)
    snapshot = other.snapshot()
    if snapshot is None:
        return contents, None
    other.problems[:0] = contents.problems
    return other, snapshot


def with_mended_log(filename: str, stack: contextlib.ExitStack) -> Contents | None:
    """Open a copy of a state file, with what is undamaged in its log.

    :return: None if that is not possible
    """
    # Hardly any log is damaged.
    from spalloc_server.storage.log_mending import mend_log

    try:
        copy = _copied(filename, stack)
        mend_log(f"{copy}-wal", database.PAGE_BYTES)
        contents = Contents(copy)
    except (OSError, sqlite3.Error):
        return None
    stack.callback(contents.close)
    return contents
