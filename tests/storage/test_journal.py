"""The journal: what it promises through crashes, damage and want of room."""

from __future__ import annotations

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

from spalloc_server.storage.journal import (
    Journal,
    JournalDamagedError,
    JournalError,
    JournalLostError,
)
from spalloc_server.storage.snapshot_file import StateFileError


@pytest.fixture
def filename(tmp_path: Path) -> str:
    return str(tmp_path / "journal")


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


def stored(filename: str) -> list[list[object]]:
    with closing(Journal(filename)) as journal:
        return list(journal.records())


def test_committed_records_are_found_again_in_order(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.append(["ready", 1])
        assert journal.has_pending()
        journal.commit([["create_job", 2.5, None, [1, 2], {"owner": "\u00fc"}]])
        assert not journal.has_pending()
        journal.append(["lost", 3])
        assert len(journal) == 3
    assert stored(filename) == [
        ["ready", 1],
        ["create_job", 2.5, None, [1, 2], {"owner": "\u00fc"}],
    ]


def test_nobody_else_may_read_it(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit([["x"]])
        for file in Path(filename).parent.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_file_that_others_may_write_is_refused(filename: str) -> None:
    Path(filename).touch()
    os.chmod(filename, 0o666)
    with pytest.raises(StateFileError, match="others may write it"):
        Journal(filename)


def test_starting_over(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        assert journal.generation == 0
        journal.commit([["old"]])
        journal.append(["old, too"])
        journal.start_over(7)
        assert len(journal) == 0
        journal.commit([["new"]])
    with closing(Journal(filename)) as journal:
        assert journal.generation == 7
        assert list(journal.records()) == [["new"]]


def test_records_survive_the_death_of_the_process(filename: str) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.commit([['kept', 1]]); journal.commit([['kept', 2]])\n"
        "journal.append(['pending']); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, filename])
    assert done.returncode == -signal.SIGKILL
    assert stored(filename) == [["kept", 1], ["kept", 2]]


def test_a_torn_transaction_is_dropped_and_nothing_else(
    filename: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        "journal.commit([['kept']]); print(os.path.getsize(sys.argv[1] + '-wal'))\n"
        "journal.commit([['torn']]); sys.stdout.flush(); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, filename], capture_output=True, text=True
    )
    whole = int(done.stdout)
    log = Path(filename + "-wal")
    contents = log.read_bytes()
    assert len(contents) > whole
    for length in (len(contents) - 1, whole + 100, whole + 1, whole):
        log.write_bytes(contents[:length])
        copy = Path(filename + f".{length}")
        copy.write_bytes(Path(filename).read_bytes())
        copy.chmod(0o600)
        Path(f"{copy}-wal").write_bytes(contents[:length])
        caplog.clear()
        assert stored(str(copy)) == [["kept"]]
        torn = [f"last entry of journal {copy} is" in line for line in caplog.messages]
        assert torn == ([] if length == whole else [True])


def test_a_whole_log_is_not_called_torn(
    filename: str, caplog: pytest.LogCaptureFixture
) -> None:
    script = (
        "import os, sys; from spalloc_server.storage.journal import Journal\n"
        "journal = Journal(sys.argv[1])\n"
        # Enough to have the log begun from the start again, over what it had.
        "for n in range(1100): journal.commit([[n]])\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, filename], check=False)
    assert stored(filename) == [[n] for n in range(1100)]
    assert caplog.messages == []


def test_damage_within_a_record_is_noticed(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit([["create_job", 1]])
    contents = Path(filename).read_bytes()
    assert contents.count(b'[["create_job",1]]') == 1
    damaged = contents.replace(b'[["create_job",1]]', b'[["create_job",3]]')
    Path(filename).write_bytes(damaged)
    with (
        closing(Journal(filename)) as journal,
        pytest.raises(JournalDamagedError, match="entry 1 is damaged"),
    ):
        list(journal.records())


def test_a_commit_that_failed_but_is_there_all_the_same_is_replaced(
    filename: str,
) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit([["first"]])
        journal.close()
        # What it looks like when all was written and only the sync failed.
        with closing(sqlite3.connect(filename)) as database:
            database.execute("INSERT INTO commits VALUES (2, 1, 0, '[[\"ghost\"]]')")
            database.commit()
        journal.commit([["second"]])
        journal.commit([["third"]])
    assert stored(filename) == [["first"], ["second"], ["third"]]


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_journal_that_was_removed_takes_nothing_more(
    filename: str, suffix: str
) -> None:
    with closing(Journal(filename)) as journal:
        journal.start_over(4)
        journal.commit([["lost"]])
        os.unlink(filename + suffix)
        removed = f"{filename}{suffix} has been removed"
        with pytest.raises(JournalLostError, match=removed):
            journal.commit([["refused"]])
        if not suffix:
            # Nor is a new one made of it that has lost the beginning.
            with pytest.raises(JournalLostError, match="is not what it was"):
                journal.commit([["refused"]])
        journal.start_over(5)
        journal.commit([["new"]])
    with closing(Journal(filename)) as journal:
        assert journal.generation == 5
    assert stored(filename) == [["new"]]


def test_a_journal_that_others_may_write_by_now_takes_nothing_more(
    filename: str,
) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit([["first"]])
        journal.close()
        os.chmod(filename, 0o622)
        with pytest.raises(JournalError, match="others may write it"):
            journal.commit([["second"]])
        os.chmod(filename, 0o600)
        journal.commit([["third"]])
    assert stored(filename) == [["first"], ["third"]]


def test_trying_it_out(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.append(["event"])
        with largest_file(1000), pytest.raises(JournalError):
            journal.try_out()
        assert journal.has_pending()
        journal.try_out()
        journal.try_out()
        assert not journal.has_pending()
        assert len(journal) == 1
    assert stored(filename) == [["event"]]


@pytest.mark.parametrize("damage", ["text", "format"])
def test_a_file_that_is_no_journal_is_kept_aside(
    filename: str, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    if damage == "text":
        Path(filename).write_text("this is no database, but long enough to be one" * 9)
        os.chmod(filename, 0o600)
    else:
        Journal(filename).close()
        with closing(sqlite3.connect(filename)) as database:
            database.execute("UPDATE about SET value = 99 WHERE name = 'format'")
            database.commit()
    before = Path(filename).read_bytes()
    with closing(Journal(filename)) as journal:
        assert list(journal.records()) == []
    (aside,) = Path(filename).parent.glob("journal.unreadable-*[0-9]")
    assert aside.read_bytes() == before
    (message,) = caplog.messages
    assert filename in message
    assert str(aside) in message


def test_want_of_room_is_told_and_passes(filename: str) -> None:
    big = ["x" * 100_000]
    with closing(Journal(filename)) as journal:
        journal.commit([["first"]])
        journal.append(["event"])
        with largest_file(60_000):
            for _ in range(2):
                with pytest.raises(JournalError):
                    journal.commit([big])
        assert journal.has_pending()
        journal.commit([["after"]])
    assert stored(filename) == [["first"], ["event"], ["after"]]


def test_starting_over_without_room_is_made_up_for(filename: str) -> None:
    with closing(Journal(filename)) as journal:
        journal.commit([["old" * 10_000]])
        with largest_file(os.path.getsize(filename + "-wal")):
            with pytest.raises(JournalError):
                journal.start_over(3)
            with pytest.raises(JournalError):
                journal.commit([["lost" * 50_000]])
        journal.commit([["new"]])
    with closing(Journal(filename)) as journal:
        assert journal.generation == 3
        assert list(journal.records()) == [["new"]]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file or directory"):
        Journal(str(tmp_path / "missing" / "journal"))
