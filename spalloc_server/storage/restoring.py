"""Find the state that a server has left, and make a controller of it.

What is damaged costs no more than itself: see `Restored`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from spalloc_server.controller import Controller
from spalloc_server.model.changes import ReplayError
from spalloc_server.storage import choosing, database, files, mending, names
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.legacy import load_schema_1
from spalloc_server.storage.lock_file import Promise
from spalloc_server.storage.old_layout import OldJournal
from spalloc_server.storage.plain_pickle import PickleRefusedError, load_data
from spalloc_server.storage.salvage import keep_damaged

logger = logging.getLogger(__name__)


@dataclass
class Restored:
    """What was found."""

    controller: Controller | None = None
    """None where there is nothing that can be used."""
    sound: bool = False
    """Can the state file in place be gone on with, as it is?"""
    identity: int = 0
    """Of that file."""
    snapshot: int = 0
    """The number of the snapshot in it."""
    number: int = 0
    """The number of its last commit."""
    length: int = 0
    """How many records it has since the snapshot."""
    after: int = 0
    """The number of the last commit that is in the snapshot."""
    superseded: list[str] = field(default_factory=list)
    """Files to be removed when a new state file is in place."""
    keep_old: bool = False
    """Is a damaged file still to be moved aside before it is replaced?"""


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
        found = _from_old_layout(chosen)
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
        since = None if controller is None else _last_time(contents, done)
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
    load = None if snapshot is None else _loader(load_data, snapshot, problems)
    if load is None:
        return None, contents.rest(), 0
    return _replayed(load, contents, problems)


def _loader(
    read: Callable[[bytes], Any], contents: bytes, problems: list[str]
) -> Callable[[], Controller] | None:
    """What makes controllers of a snapshot, None if that is not possible."""
    first: list[Controller] = []

    def make() -> Controller:
        return Controller.restored(read(contents))

    def load() -> Controller:
        return first.pop() if first else make()

    try:
        first.append(make())
    except PickleRefusedError as e:
        problems.append(f"the snapshot is refused: {e}")
    except (MemoryError, OSError) as e:  # no fault of the file: keep it in place
        raise StateFileError(f"cannot restore the state: {e or 'no memory'}") from e
    except Exception as e:
        problems.append(f"the snapshot cannot be used: {type(e).__name__}: {e}")
    else:
        return load
    return None


def _replayed(
    load: Callable[[], Controller],
    contents: Contents | OldJournal,
    problems: list[str],
) -> tuple[Controller, Iterable[list[Any]], int]:
    """Do what the journal says, as far as that goes.

    :return: the controller, the records that it does not have, and how many it has
    """
    controller = load()
    count = itertools.count()
    try:
        controller.replay(
            record for record, _ in zip(contents.records(), count, strict=False)
        )
    except ReplayError as e:
        problems.append(f"a change cannot be replayed: {e}")
        done = e.done
        controller = load()
        controller.replay(itertools.islice(contents.records(), done))
        rest = list(itertools.islice(contents.records(), done, None))
        if isinstance(contents, Contents):
            rest += contents.rest()
        return controller, rest, done
    done = next(count)
    if isinstance(contents, OldJournal):
        return controller, itertools.islice(contents.all_records(), done, None), done
    return controller, contents.rest(), done


def _last_time(contents: Contents | OldJournal, done: int) -> float | None:
    """When the last change was made that is known, by the clock of that time."""
    latest = None
    for record in itertools.islice(contents.records(), max(0, done - 1), done):
        latest = record[1]
    if latest is None and isinstance(contents, Contents) and contents.info is not None:
        latest = contents.info.time
    return latest


# What there was before


def _from_old_layout(filename: str) -> Restored:
    problems: list[str] = []
    contents = files.read_bytes(filename)
    generation: int | None = None
    try:
        data, generation = load_schema_1(contents)
    except PickleRefusedError as e:
        problems.append(f"the snapshot is refused: {e}")
        load = None
    else:
        load = _loader(lambda _: data, b"", problems)
    journal = OldJournal(filename)
    with contextlib.closing(journal):
        if load is None:
            kept = keep_damaged(
                filename, problems, journal.all_records(), None, usable=False
            )
            return Restored(
                superseded=names.files_of(filename) if kept else [], keep_old=not kept
            )
        # Written out in full by the snapshot just before the journal was emptied.
        follows = journal.generation == generation
        if follows:
            controller, rest, done = _replayed(load, journal, problems)
        else:
            controller, rest, done = load(), (), 0
            if journal.generation is not None and journal.generation > (
                generation or 0
            ):
                problems.append("the journal beside it belongs to a later snapshot")
                rest = journal.all_records()
        if journal.problem:
            problems.append(journal.problem)
        kept = True
        if problems:
            since = _last_time(journal, done) if follows else None
            kept = keep_damaged(filename, problems, rest, since, usable=True)
        elif done:
            logger.warning(
                "The server was not shut down cleanly; replaying %d changes made since "
                "the last snapshot",
                done,
            )
        return Restored(
            controller,
            superseded=names.files_of(filename) if kept else [],
            keep_old=not kept,
        )
