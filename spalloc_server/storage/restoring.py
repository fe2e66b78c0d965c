"""Find the state that a server has left, and make a controller of it.

What is damaged costs no more than itself: see `Restored`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import shutil
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from spalloc_server.controller import Controller
from spalloc_server.model.changes import ReplayError
from spalloc_server.storage import database, files, names
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.legacy import load_schema_1
from spalloc_server.storage.lock_file import Promise
from spalloc_server.storage.old_layout import OldJournal
from spalloc_server.storage.plain_pickle import PickleRefusedError, load_data

logger = logging.getLogger(__name__)

_OUT_OF_DATE: Final = "out-of-date"


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
    chosen = _choose(filename)
    if chosen is None:
        if promise.identity:
            logger.error(
                "State file %s is missing, which a server had kept until it was "
                "killed; the server starts without it",
                filename,
            )
        return Restored()
    if _begins_with(chosen, database.MAGIC):
        _set_old_journal_aside(chosen)
        found = _from_database(chosen, promise)
    else:
        found = _from_old_layout(chosen)
    if chosen != filename:
        found.sound = False
        if found.controller is not None:
            found.superseded = names.files_of(chosen)
    return found


def _choose(filename: str) -> str | None:
    """The state file to read: the one that was written last, if we can read it."""
    own = names.version_of(filename.rpartition(".state.")[2])
    candidates = []
    _clear_way(filename)
    for name, version in names.state_files(filename):
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
            "State file %s is of a newer version, %s, and cannot be read by this one; "
            "it is kept as %s, and the server starts without it",
            name,
            ".".join(map(str, numbers)),
            aside,
        )
        chosen = None
    for _, _, _, other in older:
        aside = _move_aside(other, _OUT_OF_DATE)
        logger.warning(
            "State file %s is out of date, %s was written after it; it is kept as %s",
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
            logger.warning("%s is none of ours; it is kept as %s", name, aside)


def _note_orphans(filename: str) -> None:
    """Keep what lies beside a state file that is not there, and say so."""
    if any(os.path.lexists(name) for name in names.files_of(filename)):
        logger.error(
            "State file %s is missing, but not what belongs to it, which is kept as "
            "%s... and of no use",
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


def _begins_with(filename: str, magic: bytes) -> bool:
    with open(filename, "rb") as file:
        begin = file.read(len(magic))
    # A pickle of the protocols that were used begins like this.
    return begin == magic or not begin.startswith(b"\x80")


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
                "State file %s is damaged (%s); it is kept as %s. What is older is "
                "taken up, the latest changes may be missing",
                new,
                "; ".join(problems),
                aside,
            )
        else:
            # What a crash has left of writing it.
            os.unlink(new)
    except OSError as e:
        raise StateFileError(f"cannot replace {filename}: {e.strerror}") from e


def _set_old_journal_aside(filename: str) -> None:
    """Keep a journal of schema 1 that lies beside a database.

    It has been taken over, unless somebody has put it there.
    """
    if os.path.lexists(filename + names.OLD_JOURNAL):
        old = [n for n in names.files_of(filename) if names.OLD_JOURNAL in n]
        try:
            aside = files.move_all_aside(old, _OUT_OF_DATE)
        except OSError as e:
            aside = f"before ({e.strerror})"
        logger.warning("%s is not in use any more; it is kept as %s", old[0], aside)


# A database


def _from_database(filename: str, promise: Promise) -> Restored:
    with contextlib.ExitStack() as stack:
        contents = _open(filename, stack)
        stack.callback(contents.close)
        snapshot = contents.snapshot()
        if snapshot is None and contents.format == database.FORMAT:
            # The file itself stays open: closed, it would not be what it was.
            contents, snapshot = _mended(filename, contents, stack)
        problems = contents.problems
        if contents.format != database.FORMAT:
            problems.append(f"its format is {contents.format}")
            snapshot = None
        load: Callable[[], Controller] | None = None
        controller: Controller | None
        rest: Iterable[list[Any]]
        if snapshot is not None:
            load = _loader(load_data, snapshot, problems)
        if load is None:
            controller, rest, done = None, contents.rest(), 0
        else:
            controller, rest, done = _replayed(load, contents, problems)
        if promise.identity and promise.identity == contents.identity:
            missing = promise.commits - contents.last
            if missing > 0:
                problems.append(f"the last {missing} commits are missing")
        if controller is not None and not problems:
            info = contents.info
            assert info is not None
            if done:
                logger.warning(
                    "The server was not stopped in good order; taking up %d changes "
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
        kept = _keep_damaged(filename, problems, rest, since, controller is not None)
        return Restored(controller, keep_old=not kept)


def _open(filename: str, stack: contextlib.ExitStack) -> Contents:
    log = f"{filename}-wal"
    files.check_file(log)
    emptied = os.path.getsize(filename) == 0 and os.path.exists(log)
    if emptied:
        # SQLite would remove the log of an empty database.
        try:
            logger.warning("%s is kept as %s", log, files.copy_aside([log]))
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


def _mended(
    filename: str, contents: Contents, stack: contextlib.ExitStack
) -> tuple[Contents, bytes | None]:
    """Look for a snapshot behind the beginning of a file, if that is what is damaged.

    :param contents: of the file, in which there is none to be found
    :return: what it can be read from, and the snapshot; or no other contents, and None
    """
    try:
        copy = _copied(filename, stack)
        database.mend_beginning(copy, os.path.dirname(copy))
        mended = Contents(copy)
    except (OSError, sqlite3.Error):
        return contents, None
    stack.callback(mended.close)
    snapshot = mended.snapshot()
    if snapshot is None:
        return contents, None
    mended.problems[:0] = contents.problems
    return mended, snapshot


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
        problems.append(f"a change does not fit those before it: {e}")
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


def _keep_damaged(
    filename: str,
    problems: list[str],
    rest: Iterable[list[Any]],
    since: float | None,
    usable: bool,
) -> bool:
    """Copy damaged files, and say what is missing.

    :return: whether there was room for that
    """
    parts = [names.OLD_JOURNAL, f"{names.OLD_JOURNAL}-wal", "-wal"]
    kept = True
    try:
        aside = files.copy_aside([filename, *(filename + part for part in parts)])
    except OSError as e:
        kept = False
        aside = f"{filename}.unreadable-... as soon as a new one can be written"
        logger.warning("Cannot copy %s: %s", filename, e.strerror)
    lost = list(rest)
    where = ""
    if lost:
        try:
            name = _write_lines(filename, lost)
        except OSError as e:
            name = f"(no room to keep them: {e.strerror})"
        where = f"; {len(lost)} changes that do not follow from that are in {name}"
    logger.error(
        "State file %s is damaged (%s); it is kept as %s. %s%s",
        filename,
        "; ".join(problems),
        aside,
        f"What was changed after {_date(since)} may be missing, all else is taken up"
        if usable
        else "None of it can be used: the server starts without it",
        where,
    )
    return kept


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "it was written"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _write_lines(filename: str, records: Iterator[Any] | list[Any]) -> str:
    name = files.unused_name(filename)
    fd = files.create(name)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        for record in records:
            file.write(f"{json.dumps(record)}\n")
        file.flush()
        os.fsync(file.fileno())
    return name


# What was there before


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
            kept = _keep_damaged(
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
                problems.append("the journal beside it is of a later snapshot")
                rest = journal.all_records()
        if journal.problem:
            problems.append(journal.problem)
        kept = True
        if problems:
            since = _last_time(journal, done) if follows else None
            kept = _keep_damaged(filename, problems, rest, since, usable=True)
        elif done:
            logger.warning(
                "The server was not stopped in good order; taking up %d changes since "
                "the last snapshot",
                done,
            )
        return Restored(
            controller,
            superseded=names.files_of(filename) if kept else [],
            keep_old=not kept,
        )
