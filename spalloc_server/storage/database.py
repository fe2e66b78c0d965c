"""The state file: an SQLite database with a snapshot and the journal since then.

A *snapshot* is the pickled controller, compressed and cut into parts. Each part is in
two tables, which SQLite keeps in different places of the file: what is damaged in one
can be read from the other. Part 0 says how many there are, and up to which commit they
reach; it is written last, so a snapshot is in force from the transaction that adds
part 0. Commits up to that number count no more, whether they are still there or not.

A *commit* is a row with records, in the order of its number. All rows have checksums
that their numbers are a part of.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import time
import zlib
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from spalloc_server.storage import files
from spalloc_server.storage.names import NEW

FORMAT: Final = 2
"""Of the tables. 1 was that of a journal beside a pickle."""

PART_BYTES: Final = 128 << 10
"""The length of a part: a transaction with two of them takes a few milliseconds."""

PARTS_PER_SNAPSHOT: Final = 1 << 20
"""The numbers of the parts of a snapshot begin at a multiple of this."""

TABLES: Final = ("parts", "copies")

PAGE_BYTES: Final = 4096
"""The length of a page of the file."""

MAGIC: Final = b"SQLite format 3\0"

UNREADABLE: Final = (sqlite3.Error, UnicodeDecodeError)
"""What reading a file may raise: SQLite quotes what it cannot read, in its bytes."""

_NO_FAULT_OF_THE_FILE: Final = {
    "no such file",
    # What SQLite says, in all its versions.
    "access permission denied",
    "attempt to write a readonly database",
    "database is locked",
    "database or disk is full",
    "disk I/O error",
    "interrupted",
    "locking protocol",
    "out of memory",
    "unable to open database file",
}

_SCHEMA: Final = """
CREATE TABLE about (
    name TEXT PRIMARY KEY, value TEXT NOT NULL, checksum INTEGER NOT NULL
);
CREATE TABLE commits (
    number INTEGER PRIMARY KEY,
    length INTEGER NOT NULL,
    checksum INTEGER NOT NULL,
    records TEXT NOT NULL
);
CREATE TABLE parts (
    number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE TABLE copies (
    number INTEGER PRIMARY KEY, checksum INTEGER NOT NULL, data BLOB NOT NULL
);
"""


class SnapshotInfo(NamedTuple):
    """What part 0 says."""

    parts: int
    """How many parts follow."""
    after: int
    """The number of the last commit that is in the snapshot."""
    checksum: int
    """Of all parts together."""
    time: float
    """When it was written, in seconds since 1970 (UTC)."""


def checksum(number: int, data: bytes) -> int:
    """The checksum of a row, which its number is a part of."""
    return zlib.crc32(data, number & 0xFFFFFFFF)


def connect(filename: str) -> sqlite3.Connection:
    """Open a database that is there. Nothing is written to it yet.

    :raises sqlite3.Error: if that cannot be done
    """
    database = open_only(filename)
    try:
        prepare(database)
    except BaseException:
        database.close()
        raise
    return database


def open_only(filename: str) -> sqlite3.Connection:
    """Open a database that is there, without a look at it; `prepare` comes next.

    :raises sqlite3.OperationalError: if that cannot be done
    """
    if not os.path.exists(filename):
        raise sqlite3.OperationalError("no such file")
    return sqlite3.connect(filename, isolation_level=None, check_same_thread=False)


def prepare(database: sqlite3.Connection) -> None:
    """Say how a database is used.

    :raises sqlite3.Error: if it is none
    """
    # Nobody else may use it, so the index of the log need not be shared.
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("PRAGMA secure_delete = OFF")


@contextlib.contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """Have all that is done in the block done, and synced, or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            database.execute("ROLLBACK")
        raise


def insert_part(database: sqlite3.Connection, number: int, data: bytes) -> None:
    """Add a part, twice."""
    for table in TABLES:
        database.execute(
            f"INSERT INTO {table} VALUES (?, ?, ?)",
            (number, checksum(number, data), data),
        )


def insert_info(
    database: sqlite3.Connection, snapshot: int, info: SnapshotInfo
) -> None:
    """Add part 0, which puts a snapshot in force."""
    text = json.dumps(info._asdict()).encode()
    insert_part(database, snapshot * PARTS_PER_SNAPSHOT, text)


def compressed(contents: bytes) -> bytes:
    """How a snapshot is kept. Takes a sixth of the time of a sync of what it saves."""
    return zlib.compress(contents, 1)


def parts_of(data: bytes) -> Iterator[bytes]:
    """Cut a snapshot."""
    for begin in range(0, len(data), PART_BYTES):
        yield data[begin : begin + PART_BYTES]


def write_new(filename: str, data: bytes) -> int:
    """Write a database with one snapshot beside the one in place, ready to replace it.

    From when this returns, `filename` + ``.new`` is what counts after a crash.

    :param data: a compressed snapshot
    :return: the identity of the new database
    :raises OSError: if that cannot be done; nothing is left of it then,
        if it can be removed
    :raises sqlite3.Error: likewise
    """
    new = filename + NEW
    leftovers = [new, f"{new}-wal", f"{new}-journal", f"{new}-shm"]
    for name in leftovers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
    identity = random.SystemRandom().getrandbits(62) | 1
    fd = files.create(new)
    try:
        with contextlib.closing(connect(new)) as database:
            # What a crash leaves of it does not count: no need to be able to go back.
            database.execute("PRAGMA synchronous = OFF")
            database.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            database.execute("PRAGMA journal_mode = OFF")
            database.executescript(f"BEGIN; {_SCHEMA}")
            for name, value in (("format", FORMAT), ("identity", identity)):
                text = str(value)
                row = name, text, zlib.crc32(f"{name}={text}".encode())
                database.execute("INSERT INTO about VALUES (?, ?, ?)", row)
            number = PARTS_PER_SNAPSHOT
            for number, part in enumerate(parts_of(data), number + 1):  # noqa: B020
                insert_part(database, number, part)
            parts = number - PARTS_PER_SNAPSHOT
            info = SnapshotInfo(parts, 0, zlib.crc32(data), time.time())
            insert_info(database, 1, info)
            database.execute("COMMIT")
            database.execute("PRAGMA journal_mode = WAL")
        os.fsync(fd)
        files.sync_folder_of(new)
    except BaseException:
        files.remove(leftovers)
        raise
    finally:
        os.close(fd)
    return identity


def put_in_place(filename: str) -> None:
    """Have the new database take the place of the old one, which nobody has open.

    :raises OSError: if that cannot be done; the new one still counts
    """
    # First the log of the old one, which would be taken for that of the new one.
    for suffix in ("-wal", "-journal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(filename + suffix)
    os.rename(filename + NEW, filename)
    files.sync_folder_of(filename)


def is_complete(new: str) -> bool:
    """Was `write_new` done with a file, whatever has become of it since?

    :raises OSError: if it cannot be read
    """
    with open(new, "rb") as file:
        # The log is switched on last, which makes these bytes a 2.
        return file.read(20)[18:] == b"\2\2"


def mend_beginning(filename: str, folder: str) -> None:
    """Replace the first page of a damaged database by that of a new one.

    It says where the tables are, which is the same in all that `write_new` has made,
    and without it SQLite reads nothing.

    :param filename: a copy, of which nothing is lost
    :param folder: for files that are removed again
    :raises OSError: if that cannot be done
    :raises sqlite3.Error: likewise
    """
    donor = os.path.join(folder, "donor")
    write_new(donor, b"")
    with open(donor + NEW, "rb") as file:
        page = bytearray(file.read(PAGE_BYTES))
    # How large the file is, and what in it is free, is not known: SQLite goes by the
    # file's size where these numbers contradict each other.
    page[28:32] = bytes(4)
    with open(filename, "r+b") as file:
        file.write(page)


def is_damage(error: Exception) -> bool:
    """Is the file at fault, and not the disk, its room or its permissions?

    :param error: one of `UNREADABLE`
    """
    # Python calls some kinds of damage by the same name as trouble with the disk.
    return (
        not isinstance(error, sqlite3.OperationalError)
        or str(error) not in _NO_FAULT_OF_THE_FILE
    )


def reason(error: Exception) -> str:
    """What an error says, for people."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    text = str(error)
    return f"{text} (is there room for it?)" if text == "disk I/O error" else text


def about(database: sqlite3.Connection) -> dict[str, Any]:
    """What a database says about itself, as far as it is undamaged.

    :raises sqlite3.Error: if it cannot be read
    """
    return {
        name: value
        for name, value, check in database.execute("SELECT * FROM about")
        if zlib.crc32(f"{name}={value}".encode()) == check
    }
