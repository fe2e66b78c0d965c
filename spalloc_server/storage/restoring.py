"""Find the state that a server has left, and make a controller of it.

What is damaged costs no more than itself: see `Restored`.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable
from typing import Any

from spalloc_server.controller import Controller
from spalloc_server.storage import choosing, database, mending, names
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.lock_file import Promise
from spalloc_server.storage.plain_pickle import load_data
from spalloc_server.storage.replaying import Restored, last_time, loader, replayed

logger = logging.getLogger(__name__)


def restore(filename: str, promise: Promise) -> Restored:
    """Read the state that was written last, of whichever version.

    State that others have written after it, or before, is moved aside, so that it never
    comes back. So is what is damaged; a line of the log says what is missing.

    :param filename: where this version keeps its state
    :param promise: what the last server had stored for certain, if it was killed
    :raises StateFileError: if there is state that must not be read, or cannot for a
        reason that is no fault of the files
    """
    chosen = choosing.choose(filename)
    if chosen is None:
        if promise.identity:
            logger.error(
                "State file %s is missing, though the last server had one when it was "
                "killed; the server starts without it",
                filename,
            )
        return Restored()
    if choosing.is_database(chosen):
        choosing.set_old_journal_aside(chosen)
        found = _from_database(chosen, promise)
    else:
        # Hardly any state is that old.
        from spalloc_server.storage.old_layout import restore_old_layout

        found = restore_old_layout(chosen)
    if chosen != filename:
        found.sound = False
        if found.controller is not None:
            found.superseded = names.files_of(chosen)
    return found


def _from_database(filename: str, promise: Promise) -> Restored:
    with contextlib.ExitStack() as stack:
        contents = mending.opened(filename, stack)
        stack.callback(contents.close)
        snapshot = contents.snapshot()
        if snapshot is None and contents.format == database.FORMAT:
            # The file itself stays open: closed, it would not be what it was.
            contents, snapshot = mending.mended(filename, contents, stack)
        controller, rest, done = _read(contents, snapshot)
        problems = contents.problems
        missing = 0
        is_promised = promise.identity != 0 and promise.identity == contents.identity
        if is_promised:
            missing = promise.commits - contents.last
        if missing > 0:
            # SQLite drops the log from where it is damaged.
            other = mending.with_mended_log(filename, stack)
            if other is not None:
                again = _read(other, other.snapshot())
                if other.last > contents.last and again[0] is not None:
                    contents, (controller, rest, done) = other, again
                    problems += [*other.problems, "its log is damaged"]
                    missing = promise.commits - contents.last
        if missing > 0:
            problems.append(f"the last {missing} commits are missing")
        if controller is not None and not problems:
            info = contents.info
            assert info is not None
            if done:
                logger.warning(
                    "The server was not shut down cleanly; replaying %d changes made "
                    "since the last snapshot",
                    done,
                )
            return Restored(
                controller,
                sound=True,
                identity=contents.identity,
                snapshot=contents.snapshot_number,
                number=contents.last,
                length=done,
                after=info.after,
            )
        # Nearly all state is whole.
        from spalloc_server.storage.salvage import keep_damaged

        since = None if controller is None else last_time(contents, done)
        rest = list(rest)
        kept = keep_damaged(
            *(filename, problems, rest, since),
            usable=controller is not None,
            complete=is_promised and missing <= 0 and not rest,
        )
        return Restored(controller, keep_old=not kept)


def _read(
    contents: Contents, snapshot: bytes | None
) -> tuple[Controller | None, Iterable[list[Any]], int]:
    """Make a controller of what a database has, as far as that goes.

    :return: the controller, None if there can be none; the records that it does not
        have; and how many it has. What is wrong is added to the contents' problems.
    """
    problems = contents.problems
    if contents.format != database.FORMAT:
        problems.append(f"its format, {contents.format}, is not known")
        snapshot = None
    load = None if snapshot is None else loader(load_data, snapshot, problems)
    if load is None:
        return None, contents.rest(), 0
    return replayed(load, contents, problems)
