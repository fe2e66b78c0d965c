"""The journal: what it promises through crashes, damage and want of room."""

from __future__ import annotations

import json
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from spalloc_server.storage import database
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.journal import Journal, JournalError, encoded


@pytest.fixture
def filename(tmp_path: Path) -> str:
    name = str(tmp_path / "state")
    make(name)
    return name


def make(filename: str, data: bytes = b"state") -> None:
    """Make a database with a snapshot of nothing that would be of use."""
    database.write_new(filename, database.compressed(data))
    database.put_in_place(filename)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file of this process grow over a size, as if the disk were full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old_handler)


def stored(filename: str, problems: list[str] | None = None) -> list[list[object]]:
    """The records in a database, which is expected to have these problems."""
    with closing(Contents(filename)) as contents:
        assert contents.snapshot() == b"state"
        records = list(contents.records())
        assert contents.problems == (problems or [])
        return records


def test_committed_records_are_found_again_in_order(filename: str) -> None:
    promised: list[int] = []
    with closing(Journal(filename, promise=promised.append)) as journal:
        journal.commit(encoded([["ready", 1], ["freed", 2]]))
        journal.commit(
            encoded([["create_job", 2.5, None, [1, 2], {"owner": "\u00fc"}]])
        )
        assert (journal.number, journal.length) == (2, 3)
    assert promised == [1, 2]
    assert stored(filename) == [
        ["ready", 1],
        ["freed", 2],
        ["create_job", 2.5, None, [1, 2], {"owner": "\u00fc"}],
    ]


def test_long_records_count_as_several(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit(encoded([["destroy_job", 1, "x" * 4096]] * 100))
        assert 400 <= journal.length < 420
        journal.commit(encoded([["destroy_job", 1, None]] * 100))
        assert 500 <= journal.length < 520


def test_nobody_else_may_read_it(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit(encoded([["x"]]))
        found = list(Path(filename).parent.iterdir())
        assert sorted(file.name for file in found) == ["state", "state-wal"]
        for file in found:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_records_survive_the_death_of_the_process(filename: str) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.commit(['1']); journal.commit(['[2]', '[3]'])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, filename])
    assert done.returncode == -signal.SIGKILL
    assert stored(filename) == [1, [2], [3]]


def test_a_torn_transaction_is_dropped_and_nothing_else(filename: str) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.commit(['1']); print(os.path.getsize(sys.argv[1] + '-wal'))\n"
        "journal.commit(['2']); sys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, filename], capture_output=True, text=True
    )
    whole = int(done.stdout)
    contents = Path(filename + "-wal").read_bytes()
    assert len(contents) > whole
    for length in (len(contents) - 1, whole + 100, whole + 1, whole):
        copy = Path(filename + f".{length}")
        copy.write_bytes(Path(filename).read_bytes())
        Path(f"{copy}-wal").write_bytes(contents[:length])
        assert stored(str(copy)) == [1]


def test_reading_changes_neither_file(filename: str) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "for n in range(20): journal.commit([str(n)])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, filename], check=False)
    before = Path(filename).read_bytes(), Path(filename + "-wal").read_bytes()
    with closing(Contents(filename)) as contents:
        assert contents.snapshot() is not None
        assert list(contents.records()) == list(range(20))
        # So that damaged ones can be copied as they were.
        after = Path(filename).read_bytes(), Path(filename + "-wal").read_bytes()
        assert after == before


def test_damage_within_a_record_is_noticed_and_the_rest_is_read(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        for number in range(1, 6):
            journal.commit(encoded([["create_job", number]]))
    contents = Path(filename).read_bytes()
    assert contents.count(b'[["create_job",3]]') == 1
    damaged = contents.replace(b'[["create_job",3]]', b'[["create_job",7]]')
    Path(filename).write_bytes(damaged)
    with closing(Contents(filename)) as found:
        assert found.snapshot() == b"state"
        assert [number for _, number in found.records()] == [1, 2]
        assert found.last == 2
        assert found.problems == ["commit 3 is damaged"]
        assert [number for _, number in found.rest()] == [4, 5]


def test_a_missing_commit_is_noticed(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        for number in range(1, 6):
            journal.commit([str(number)])
        journal.write(lambda db: db.execute("DELETE FROM commits WHERE number = 2"))
    assert stored(filename, ["commit 2 is missing"]) == [1]


def test_a_part_of_the_snapshot_that_is_damaged_is_read_from_its_copy(
    tmp_path: Path,
) -> None:
    filename = str(tmp_path / "state")
    data = os.urandom(3 * database.PART_BYTES)
    make(filename, data)
    first = database.PARTS_PER_SNAPSHOT
    with closing(database.connect(filename)) as db:
        for table, number in (("parts", first), ("copies", first + 1)):
            db.execute(f"UPDATE {table} SET data = x'00' WHERE number = ?", (number,))
        db.execute("DELETE FROM parts WHERE number = ?", (first + 2,))
    with closing(Contents(filename)) as contents:
        assert contents.snapshot() == data
        assert sorted(contents.problems) == [
            "a part of the snapshot is damaged",
            "a part of the snapshot is missing",
        ]


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_journal_that_was_removed_takes_nothing_more(
    filename: str, suffix: str
) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit(["1"])
        os.unlink(filename + suffix)
        removed = f"{filename}{suffix} has been removed"
        with pytest.raises(JournalError, match=removed):
            journal.commit(["2"])
        with pytest.raises(JournalError, match="cannot be trusted"):
            journal.commit(["2"])


def test_after_want_of_room_it_does_nothing_more(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit(["1"])
        with largest_file(60_000), pytest.raises(JournalError):
            journal.commit([json.dumps("x" * 100_000)])
        with pytest.raises(JournalError, match="cannot be trusted"):
            journal.commit(["2"])
    assert stored(filename) == [1]


def test_a_new_file_that_cannot_be_finished_leaves_nothing(filename: str) -> None:
    before = Path(filename).read_bytes()
    with largest_file(60_000), pytest.raises((OSError, sqlite3.Error)):
        database.write_new(filename, os.urandom(100_000))
    assert [path.name for path in Path(filename).parent.iterdir()] == ["state"]
    assert Path(filename).read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no such file"):
        Journal(str(tmp_path / "missing" / "state"))
