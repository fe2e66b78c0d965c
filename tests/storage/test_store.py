"""Snapshot and journal together: what a controller comes back as."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from spalloc_server.controller import Controller, JobState
from spalloc_server.model.changes import ReplayError
from spalloc_server.storage import database
from spalloc_server.storage import snapshots as snapshots_module
from spalloc_server.storage import store as store_module
from spalloc_server.storage.contents import Contents
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.journal import Journal, JournalError
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.store import StateStore
from tests.recorded_bmps import BMPs, machine
from tests.storage.test_journal import largest_file
from tests.support import wait_until


@pytest.fixture
def filename(tmp_path: Path) -> str:
    return str(tmp_path / ".config.state.1.0.0")


@contextmanager
def kept(filename: str, controller: Controller) -> Iterator[StateStore]:
    """Keep a controller's state until the end of the block, then just drop it."""
    store = StateStore(filename)
    store.open(controller)
    with closing(store):
        yield store


def restored(filename: str) -> Controller:
    store = StateStore(filename)
    controller = store.restore()
    store.close()
    assert controller is not None
    return controller


def length(filename: str) -> int:
    """How many records a state file has after its snapshot."""
    with closing(Contents(filename)) as contents:
        assert contents.snapshot() is not None
        records = list(contents.records())
        assert contents.problems == []
        return len(records)


def go_on_until(
    store: StateStore, controller: Controller, condition: Callable[[], bool]
) -> None:
    """Have the store do what it does in turns of the loop until something is so."""

    def turn() -> bool:
        store.commit_events(controller)
        return condition()

    wait_until(turn)


def work(store: StateStore, controller: Controller) -> None:
    """Let the store do what it does by and by, until all is done."""

    def idle() -> bool:
        store.commit_events(controller)
        return not store.snapshots.is_working

    wait_until(idle)


def create(store: StateStore, controller: Controller, *args: int, **kwargs: Any) -> int:
    """Create a job as the server does: first stored, then done."""
    kwargs.setdefault("owner", "me")
    record = ["create_job", 12.5, "1.1.1.1", args, kwargs]
    store.commit([record])
    controller.replay([record])
    return controller._state.next_id - 1


def description(controller: Controller) -> dict[str, Any]:
    """All that has to be the same after a crash."""
    return {
        "jobs": [job._replace(keepalivehost="") for job in controller.list_jobs()],
        "retired": dict(controller._state.retired_jobs),
        "ending": {i: job.boards for i, job in controller._state.ending_jobs.items()},
        "next": controller._state.next_id,
        "machines": controller.machines,
    }


def test_there_is_no_state_at_first(filename: str) -> None:
    assert StateStore(filename).restore() is None


def test_a_crash_loses_nothing_that_was_committed(filename: str, bmps: BMPs) -> None:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine(width=3)}
    with kept(filename, controller) as store:
        first = create(store, controller, 1, 1)
        second = create(store, controller, 1, 1, tags=["default"])
        create(store, controller, 1, 1)
        waiting = create(store, controller, 3, 1, keepalive=None)
        never = create(store, controller, 4, 1)
        bmps.answer()
        store.commit([["destroy_job", 13.5, None, first, "done"]])
        controller.destroy_job(None, first, "done")
        store.commit([["power_off_job_boards", 14.5, None, second]])
        controller.power_off_job_boards(None, second)
        store.commit_events(controller)
        expected = description(controller)
    bmps.made.clear()
    copy = restored(filename)
    # Nothing is done to the hardware before it is known what has to be done.
    assert bmps.made == []
    assert description(copy) == expected
    assert copy.get_job_state(None, never).reason is not None
    assert copy.get_job_state(None, waiting).start_time == 12.5
    copy.start()
    pending = dict(bmps.pending())
    assert pending["bmp-m-0"].power_off_boards == [0, 1, 2]
    assert pending["bmp-m-1"].power_off_boards == [0, 1, 2]
    # The third job was ready and is left alone.
    assert "bmp-m-2" not in pending
    bmps.answer()
    assert copy._state.ending_jobs == {}


def test_what_only_happened_after_the_last_commit_is_done_again(
    filename: str, bmps: BMPs
) -> None:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        job_id = create(store, controller, 1, 1)
        bmps.answer()
        assert controller.get_job_state(None, job_id).state is JobState.ready
    copy = restored(filename)
    assert copy.get_job_state(None, job_id).state is JobState.power
    bmps.made.clear()
    copy.start()
    bmps.answer()
    assert copy.get_job_state(None, job_id).state is JobState.ready


def test_boards_that_cooled_down_do_so_again_in_the_same_order(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller = Controller(seconds_before_free=10)
    controller.machines = {"m": machine(width=2)}
    for queue_machine in controller._state.job_queue._machines.values():
        queue_machine.allocator.clock = lambda: now
    with kept(filename, controller) as store:
        jobs = [create(store, controller, 1, 1) for _ in range(4)]
        bmps.answer()
        for job_id in jobs[:2]:
            store.commit([["destroy_job", 13.5, None, job_id, None]])
            controller.destroy_job(None, job_id)
            bmps.answer()
            now += 6
        controller.check_free()
        bmps.answer()
        store.commit_events(controller)
        expected = description(controller)
        assert [job.state for job in controller.list_jobs()] == [
            JobState.ready,
            JobState.queued,
        ]
    copy = restored(filename)
    assert description(copy) == expected
    copy.start()
    copy.check_free()
    # Its boards cool down for the whole time again, rather than too short.
    assert description(copy) == expected


def test_a_snapshot_replaces_the_journal(filename: str, bmps: BMPs) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        assert store.snapshot(controller)
        create(store, controller)
    assert length(filename) == 1
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2]


def test_snapshots_are_due_when_the_journal_is_long(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "RECORDS_BEFORE_SNAPSHOT", 3)
    monkeypatch.setattr(snapshots_module, "RECORDS_PER_JOB", 2)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        assert store._journal is not None
        lengths = []
        for _ in range(4):
            create(store, controller)
            work(store, controller)
            lengths.append(store._journal.length)
        assert lengths == [1, 2, 3, 4]  # not worth it for so many jobs
        for _ in range(4):
            store.commit([["destroy_job", 13.5, None, 99, None]])
            work(store, controller)
            lengths.append(store._journal.length)
        assert lengths[4:] == [5, 6, 7, 0]
        create(store, controller)
        expected = description(controller)
    assert length(filename) == 1
    assert description(restored(filename)) == expected


def test_the_journal_has_a_longest_length_however_many_jobs_there_are(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots_module, "RECORDS_BEFORE_SNAPSHOT", 3)
    monkeypatch.setattr(snapshots_module, "MOST_RECORDS", 20)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        assert store._journal is not None
        for _ in range(10):
            create(store, controller)
        # 20 records for each job would be 200.
        longest = 0
        for _ in range(40):
            store.commit([["destroy_job", 13.5, None, 99, None]])
            longest = max(longest, store._journal.length)
            work(store, controller)
        assert longest == 20
        # What is long counts for more: it takes room, and time to read.
        store.commit([["destroy_job", 13.5, None, 99, "x" * 1024 * 25]])
        assert store._journal.length > 20
        work(store, controller)
        assert store._journal.length == 0


def rewrite(
    store: StateStore, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have a commit fail, so that all is owed."""
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "_do", raise_journal_error)
        with pytest.raises(JournalError):
            store.commit([["destroy_job", 13.5, None, 99, None]])
    assert store.problem


def raise_journal_error(*_: object) -> None:
    raise JournalError("disk I/O error")


def test_all_is_written_anew_a_little_in_each_turn(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "JOBS_AT_ONCE", 1)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        for _ in range(3):
            create(store, controller)
        rewrite(store, controller, monkeypatch)
        store.commit_events(controller)
        # It has begun; until it is done, nothing is promised.
        assert store.must_wait
        with pytest.raises(JournalError):
            store.commit([["destroy_job", 13.5, None, 1, None]])
        # What happens meanwhile is not in it, but comes after it.
        bmps.answer()
        go_on_until(store, controller, lambda: not store.must_wait)
        assert store.problem is None
        assert store.retry_at is None
        create(store, controller)
        expected = description(controller)
    assert length(filename) == 4  # three jobs are ready, and there is one more
    assert description(restored(filename)) == expected


@pytest.mark.parametrize("trouble", ["dies", "cannot be made", "another error"])
def test_trouble_while_all_is_written_anew_loses_nothing(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch, trouble: str
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(store_module, "JOBS_AT_ONCE", 1)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        for _ in range(3):
            create(store, controller)
        rewrite(store, controller, monkeypatch)
        with monkeypatch.context() as patch:
            if trouble == "cannot be made":
                no_fork = OSError(11, "Resource temporarily unavailable")
                patch.setattr(os, "fork", Mock(side_effect=no_fork))
            elif trouble == "dies":
                patch.setattr(store_module, "data", lambda _: os._exit(0))
            store.commit_events(controller)
            if trouble == "another error":
                with controller.lock:
                    controller.mend()
            bmps.answer()
            go_on_until(store, controller, lambda: not store.must_wait)
        now += 2
        go_on_until(store, controller, lambda: store.problem is None)
        create(store, controller)
        expected = description(controller)
    assert description(restored(filename)) == expected


def test_what_happens_while_a_snapshot_is_written_is_not_in_it_but_after_it(
    filename: str,
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(snapshots_module, "RECORDS_BEFORE_SNAPSHOT", 2)
    monkeypatch.setattr(snapshots_module, "RECORDS_PER_JOB", 0)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller, owner="a")
        create(store, controller, owner="b")
        # At every moment of it, a copy of the files is as good as any other.
        for number in range(1000):
            store.commit_events(controller)
            if number % 3 == 0:
                create(store, controller, owner=f"c{number}")
            copy = f"{filename.rpartition('.state.')[0]}{number}.state.1.0.0"
            for suffix in ("", "-wal"):
                Path(copy + suffix).write_bytes(Path(filename + suffix).read_bytes())
                os.chmod(copy + suffix, 0o600)
            assert description(restored(copy)) == description(controller)
            # What is left of the one before is no damage.
            assert [r for r in caplog.records if r.levelname == "ERROR"] == []
            assert store._journal is not None
            if store.snapshots.number > 1 and number > 40:
                break
            for name in (copy, f"{copy}-wal"):
                Path(name).unlink(missing_ok=True)
        assert store.snapshots.number > 1
        expected = description(controller)
    assert description(restored(filename)) == expected


@pytest.mark.parametrize("trouble", ["dies", "raises", "cannot be made"])
def test_a_child_that_fails_costs_a_line_and_is_tried_again(
    filename: str,
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: str,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(snapshots_module, "RECORDS_BEFORE_SNAPSHOT", 2)
    monkeypatch.setattr(snapshots_module, "RECORDS_PER_JOB", 0)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        with monkeypatch.context() as patch:
            if trouble == "cannot be made":

                def no_fork() -> int:
                    raise OSError(11, "Resource temporarily unavailable")

                patch.setattr(os, "fork", no_fork)
            elif trouble == "dies":
                patch.setattr(snapshots_module, "data", lambda _: os._exit(0))
            else:
                patch.setattr(snapshots_module, "data", lambda _: 1 / 0)
            for _ in range(4):
                create(store, controller)
            go_on_until(store, controller, lambda: bool(caplog.messages))
        (message,) = caplog.messages
        assert f"Cannot save a snapshot to {filename}: " in message
        assert message.endswith("in the journal; the next try is in 30 s")
        assert store.retry_at is None or store.retry_at <= now + 1
        create(store, controller)
        work(store, controller)
        assert store.snapshots.number == 1
        now += snapshots_module.SNAPSHOT_RETRY_SECONDS
        go_on_until(store, controller, lambda: store.snapshots.number == 2)
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2, 3, 4, 5]


def test_state_of_an_older_version_is_read_and_then_superseded(
    tmp_path: Path, bmps: BMPs
) -> None:
    for number, version in enumerate(("1.9.3", "1.10.0"), 1):
        controller = Controller()
        controller.machines = {"m": machine()}
        name = str(tmp_path / f".config.state.{version}")
        with kept(name, controller) as store:
            for _ in range(number):
                create(store, controller)
        os.utime(name, (number, number))
    store = StateStore(str(tmp_path / ".config.state.1.10.5"))
    copy = store.restore()
    assert copy is not None
    assert len(copy.list_jobs()) == 2
    store.open(copy)
    store.close()
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found[0] == ".config.state.1.10.5"
    # The older one is kept, but never comes back.
    assert len(found) == 2
    assert found[1].startswith(".config.state.1.9.3.out-of-date-")


def test_what_was_written_last_counts_and_not_the_version(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    # Upgraded, then downgraded, and upgraded once more.
    for number, version in ((2, "1.9.3"), (1, "1.10.0")):
        controller = Controller()
        controller.machines = {"m": machine()}
        name = str(tmp_path / f".config.state.{version}")
        with kept(name, controller) as store:
            for _ in range(number):
                create(store, controller)
        os.utime(name, (number, number))
    copy = restored(str(tmp_path / ".config.state.1.10.0"))
    assert len(copy.list_jobs()) == 2
    assert any("1.10.0 is out of date" in message for message in caplog.messages)


def test_state_of_a_newer_version_is_named_and_never_comes_back(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    newer = tmp_path / ".config.state.1.99.0"
    with kept(str(newer), Controller()):
        pass
    for name in (".config.state.1.²", ".config.state.1.x", ".config.state.1."):
        (tmp_path / name).write_bytes(b"")
    own = str(tmp_path / ".config.state.1.2.0")
    assert StateStore(own).restore() is None
    (message,) = caplog.messages
    assert "is from a newer version, 1.99.0" in message
    assert not newer.exists()
    assert StateStore(str(newer)).restore() is None


@pytest.mark.parametrize("version", ["1.2.0", "1.1.0"])
@pytest.mark.parametrize("kind", ["fifo", "folder", "link"])
def test_what_is_no_file_is_refused_at_once(
    tmp_path: Path, kind: str, version: str
) -> None:
    file = tmp_path / f".config.state.{version}"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(StateFileError, match=f"{file} is not a regular file"):
        StateStore(str(tmp_path / ".config.state.1.2.0")).restore()


def test_discarding_the_state_leaves_other_files_alone(
    tmp_path: Path, bmps: BMPs
) -> None:
    for version in ("1.0.0", "1.2.3"):
        with kept(str(tmp_path / f".config.state.{version}"), Controller()):
            pass
    others = [".config.state.lock", ".config.state.1.0.0.unreadable-20260101-000000"]
    for name in others:
        (tmp_path / name).touch()
    StateStore(str(tmp_path / ".config.state.1.2.3")).discard()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_records_that_do_not_fit_are_kept_aside_and_no_others(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        store.commit([["freed", 1.5, 99, [], None], ["destroy_job", 2.5, None, 1, ""]])
    store = StateStore(filename)
    copy = store.restore()
    assert copy is not None
    assert [job.job_id for job in copy.list_jobs()] == [1]
    (message,) = caplog.messages
    assert "['freed', 1.5, 99, [], None]: KeyError: 99" in message
    assert "2 changes that could not be replayed are in" in message
    assert "after 1970-01-01 00:00:12 UTC" in message
    asides = list(Path(filename).parent.glob("*.unreadable-*"))
    (lines,) = (path for path in asides if path.read_bytes().startswith(b"["))
    assert [json.loads(line) for line in lines.read_text().splitlines()] == [
        ["freed", 1.5, 99, [], None],
        ["destroy_job", 2.5, None, 1, ""],
    ]
    for aside in asides:
        assert str(aside) in message or aside.name.endswith("-wal")
        assert aside.stat().st_mode & 0o777 == 0o600
    # They are not tried again.
    store.open(copy)
    store.close()
    caplog.clear()
    assert [job.job_id for job in restored(filename).list_jobs()] == [1]
    assert caplog.messages == []


def test_a_commit_that_is_damaged_costs_no_more_than_what_follows(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        for owner in ("first", "somebody", "last"):
            create(store, controller, owner=owner)
    contents = Path(filename).read_bytes()
    Path(filename).write_bytes(contents.replace(b"somebody", b"somebady"))
    copy = restored(filename)
    assert [job.owner for job in copy.list_jobs()] == ["first"]
    (message,) = caplog.messages
    assert "commit 2 is damaged" in message
    assert "1 changes that could not be replayed" in message


def test_commits_that_were_promised_but_are_not_there_are_missed(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    lock_name = tmp_path / "lock"
    with StateLock(str(lock_name)) as lock:
        store = StateStore(filename)
        store.lock = lock
        store.open(controller)
        create(store, controller)
        store._journal.close()  # type: ignore[union-attr]
        kept_file = Path(filename).read_bytes()
        store._journal = Journal(filename, 1, 1, store._promise)
        for _ in range(3):
            create(store, controller)
        left = lock_name.read_bytes()
        store.close()
    # As if the log had been lost, or an older copy been put back.
    Path(filename).write_bytes(kept_file)
    lock_name.write_bytes(left)
    with StateLock(str(lock_name)) as lock:
        store = StateStore(filename)
        store.lock = lock
        copy = store.restore()
        assert copy is not None
        assert [job.job_id for job in copy.list_jobs()] == [1]
        (message,) = caplog.messages
        assert "the last 3 commits are missing" in message
        store.open(copy)
        store.close()
        left = lock_name.read_bytes()
    caplog.clear()
    lock_name.write_bytes(left)
    with StateLock(str(lock_name)) as lock:
        store = StateStore(filename)
        store.lock = lock
        assert store.restore() is not None
        assert caplog.messages == []
        store.close()
        os.unlink(filename)
        store = StateStore(filename)
        store.lock = lock
        assert store.restore() is None
        (message,) = caplog.messages
        assert "is missing, though the last server had one" in message


def test_a_file_that_is_no_state_is_kept_aside(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    for contents in (b"this is no state", b"", b"\x80\x04nonsense."):
        Path(filename).write_bytes(contents)
        os.chmod(filename, 0o600)
        caplog.clear()
        store = StateStore(filename)
        assert store.restore() is None
        (message,) = caplog.messages
        (aside,) = Path(filename).parent.glob("*.unreadable-*")
        assert str(aside) in message
        assert aside.read_bytes() == contents
        aside.unlink()
        # It does not get in the way of a new beginning.
        store.open(Controller())
        store.close()
        assert restored(filename).list_jobs() == []
        os.unlink(filename)


def test_a_new_file_that_was_not_put_in_place_counts_if_it_is_complete(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller, owner="old")
        # What was reported as failed is not to come back with the old file.
        with monkeypatch.context() as patch:
            patch.setattr(
                database, "put_in_place", lambda _: (_ for _ in ()).throw(OSError(5))
            )
            controller.destroy_job(None, 1)
            assert not store.snapshot(controller)
            # A second try does not lose it, either.
            assert not store.snapshot(controller)
    assert os.path.exists(filename + ".new")
    assert restored(filename).list_jobs() == []
    assert not os.path.exists(filename + ".new")
    Path(filename + ".new").write_bytes(Path(filename).read_bytes()[:5000])
    os.chmod(filename + ".new", 0o600)
    assert restored(filename).list_jobs() == []
    assert not os.path.exists(filename + ".new")


def test_what_was_done_otherwise_than_it_was_stored_is_not_replayed(
    filename: str, bmps: BMPs
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        store.commit([["freed", 1.5, 99, [], None]])
        # ... which then fails, though it is in the journal.
        store.owe_snapshot("an error")
        with pytest.raises(JournalError, match="an error"):
            create(store, controller)
        store.commit_events(controller)
        create(store, controller)
    assert length(filename) == 1
    assert [job.job_id for job in restored(filename).list_jobs()] == [1]


def test_what_happens_between_reading_and_opening_is_recorded(
    filename: str, bmps: BMPs
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
    store = StateStore(filename)
    copy = store.restore()
    assert copy is not None
    bmps.made.clear()
    copy.start()
    bmps.answer()
    store.open(copy)
    store.commit_events(copy)
    store.close()
    # The file was gone on with, no new one was needed.
    assert length(filename) == 2
    assert restored(filename).get_job_state(None, 1).state is JobState.ready


def test_another_configuration_is_stored_before_anything_else(
    filename: str, bmps: BMPs
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
    store = StateStore(filename)
    copy = store.restore()
    assert copy is not None
    copy.start()
    copy.machines = {"m": machine(tags={"new"}), "n": machine("n")}
    store.open(copy)
    store.close()
    assert list(restored(filename).machines.items()) == list(copy.machines.items())


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_state_that_others_may_write_is_refused(
    filename: str, bmps: BMPs, suffix: str
) -> None:
    controller = Controller()
    store = StateStore(filename)
    store.open(controller)
    os.chmod(filename + suffix, 0o622)
    with pytest.raises(StateFileError, match="others may write it"):
        StateStore(filename).restore()
    store.close()


def test_a_folder_that_cannot_be_written_is_waited_for(
    tmp_path: Path,
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    folder = tmp_path / "missing"
    store = StateStore(str(folder / ".config.state.1.0.0"))
    controller = Controller()
    store.open(controller)
    assert "No such file or directory" in caplog.messages[-1]
    with pytest.raises(JournalError, match="No such file or directory"):
        create(store, controller)
    folder.mkdir()
    now += 2
    store.commit_events(controller)
    create(store, controller)
    store.close()


def test_want_of_room_stops_changes_until_there_is_some(
    filename: str,
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        job_id = create(store, controller, owner="x" * 100_000)
        with largest_file(1000):
            with pytest.raises(JournalError):
                create(store, controller, owner="y" * 100_000)
            bmps.answer()
            store.commit_events(controller)
            assert store.retry_at == now + store_module.RETRY_SECONDS
            with pytest.raises(JournalError):
                create(store, controller)
        with largest_file(1000):
            assert not store.snapshot(controller)
        assert len(controller.list_jobs()) == 1
        now += 2
        store.commit_events(controller)
        assert store.retry_at is None
        assert "Changes are being stored again" in caplog.messages
    copy = restored(filename)
    assert [job.job_id for job in copy.list_jobs()] == [job_id]
    assert copy.get_job_state(None, job_id).state is JobState.ready


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_files_that_are_removed_are_made_again_before_anything_is_promised(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        os.unlink(filename + suffix)
        with pytest.raises(JournalError, match="has been removed"):
            create(store, controller)
        with pytest.raises(JournalError, match="has been removed"):
            create(store, controller)
        # In the same turn of the loop.
        store.commit_events(controller)
        create(store, controller)
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2]


def test_jobs_that_timed_out_together_do_so_again(filename: str, bmps: BMPs) -> None:
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine(width=2)}
    with kept(filename, controller) as store:
        create(store, controller, 1, 1, keepalive=None)
        create(store, controller, 2, 1, keepalive=0)
        create(store, controller, 1, 1, keepalive=0)
        bmps.answer()
        controller.destroy_timed_out_jobs()
        last = create(store, controller, 1, 1, keepalive=None)
        bmps.answer()
        store.commit_events(controller)
        expected = description(controller)
        assert controller._state.retired_jobs[3] == "Cancelled: Job timed out."
    copy = restored(filename)
    assert description(copy) == expected
    assert copy.get_job_machine_info(None, last).boards == {(1, 0, z) for z in range(3)}


def test_a_job_created_before_a_crash_times_out_once(filename: str, bmps: BMPs) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller, keepalive=0)
    copy = restored(filename)
    copy.start()
    copy.destroy_timed_out_jobs()
    assert copy.get_job_state(None, 1).reason == "Job timed out."


def test_a_snapshot_taken_while_boards_are_powered_has_it_done_again(
    filename: str, bmps: BMPs
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    job_id = controller.create_job(None, owner="me")
    with kept(filename, controller):
        pass
    bmps.made.clear()
    copy = restored(filename)
    copy.start()
    assert [r.power_on_boards for _, r in bmps.pending()] == [[0]]
    bmps.answer()
    assert copy.get_job_state(None, job_id).state is JobState.ready


def test_unknown_records_are_refused() -> None:
    with pytest.raises(ReplayError, match="no_such_event"):
        Controller().replay([["no_such_event", 1.5, 1]])


def test_after_one_failure_all_is_stored_before_anybody_is_told(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    controller = Controller(seconds_before_free=0)
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        with monkeypatch.context() as patch:

            def fail(*_: object) -> None:
                raise JournalError("no such luck")

            patch.setattr(Journal, "commit", fail)
            bmps.answer()
            # What has happened by itself is told at the end of this turn.
            store.commit_events(controller)
        assert store.errors == 1
        expected = description(controller)
        assert expected["jobs"][0].state == JobState.ready
        assert description(restored(filename)) == expected
        create(store, controller)
