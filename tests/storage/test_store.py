"""Snapshot and journal together: what a controller comes back as."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.control import replayable
from spalloc_server.controller import Controller, JobState
from spalloc_server.storage import store as store_module
from spalloc_server.storage.journal import Journal, JournalError
from spalloc_server.storage.snapshot_file import StateFileError
from spalloc_server.storage.store import StateStore
from tests.recorded_bmps import BMPs, machine
from tests.storage.test_journal import largest_file


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
    controller = StateStore(filename).restore()
    assert controller is not None
    return controller


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
    with closing(Journal(filename + ".journal")) as journal:
        assert len(journal) == 1
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2]


def test_a_journal_that_was_not_emptied_after_its_snapshot_is_not_replayed(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)

        def crash(journal: Journal, generation: int) -> None:
            raise JournalError("crashed here")

        monkeypatch.setattr(Journal, "start_over", crash)
        assert not store.snapshot(controller)
    with closing(Journal(filename + ".journal")) as journal:
        assert len(journal) == 1
    assert [job.job_id for job in restored(filename).list_jobs()] == [1]


def test_snapshots_are_due_when_the_journal_is_long(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "RECORDS_BEFORE_SNAPSHOT", 3)
    monkeypatch.setattr(store_module, "RECORDS_PER_JOB", 2)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        assert store._journal is not None
        lengths = []
        for _ in range(4):
            create(store, controller)
            store.commit_events(controller)
            lengths.append(len(store._journal))
        assert lengths == [1, 2, 3, 4]  # not worth it for so many jobs
        for _ in range(4):
            store.commit([["destroy_job", 13.5, None, 99, None]])
            store.commit_events(controller)
            lengths.append(len(store._journal))
        assert lengths[4:] == [5, 6, 7, 0]


def test_state_of_an_older_version_is_read_and_then_superseded(
    tmp_path: Path, bmps: BMPs
) -> None:
    for version, jobs in (("1.0.0", 1), ("1.9.3", 3), ("1.10.0", 2), ("1.11.0", 4)):
        controller = Controller()
        controller.machines = {"m": machine()}
        with kept(str(tmp_path / f".config.state.{version}"), controller) as store:
            for _ in range(jobs):
                create(store, controller)
    (tmp_path / ".config.state.lock").touch()
    store = StateStore(str(tmp_path / ".config.state.1.10.5"))
    copy = store.restore()
    assert copy is not None
    # 1.10.0 is the newest that is not newer than ours.
    assert len(copy.list_jobs()) == 2
    store.open(copy)
    store.close()
    names = {path.name for path in tmp_path.iterdir()}
    assert ".config.state.1.10.5" in names
    assert ".config.state.1.10.0" not in names
    assert ".config.state.1.10.0.journal" not in names
    assert ".config.state.1.9.3" in names


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


def test_a_journal_that_does_not_fit_is_kept_aside(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        assert store.snapshot(controller)
        create(store, controller)
        store.commit([["freed", 1.5, 99, [], None]])
    copy = restored(filename)
    assert [job.job_id for job in copy.list_jobs()] == [1]
    message = caplog.messages[-1]
    assert "['freed', 1.5, 99, [], None]: KeyError: 99" in message
    (aside,) = Path(filename).parent.glob("*.journal.unreadable-*[0-9]")
    assert str(aside) in message


def test_a_journal_without_its_snapshot_is_kept_aside(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
    Path(filename).write_bytes(b"this is no pickle")
    store = StateStore(filename)
    assert store.restore() is None
    assert len(list(Path(filename).parent.glob("*.unreadable-*[0-9]"))) == 2
    assert all("kept as" in message for message in caplog.messages)
    # Neither gets in the way of a new beginning.
    store.open(Controller())
    store.close()
    assert restored(filename).list_jobs() == []


def test_state_that_others_may_write_is_refused(filename: str, bmps: BMPs) -> None:
    with kept(filename, Controller()):
        pass
    os.chmod(filename + ".journal", 0o622)
    with pytest.raises(StateFileError, match="others may write it"):
        StateStore(filename).restore()
    os.chmod(filename + ".journal", 0o600)
    os.chmod(filename, 0o622)
    with pytest.raises(StateFileError, match="others may write it"):
        StateStore(filename).restore()


def test_a_folder_that_cannot_be_written(tmp_path: Path, bmps: BMPs) -> None:
    store = StateStore(str(tmp_path / "missing" / ".config.state.1.0.0"))
    with pytest.raises(StateFileError, match="No such file or directory"):
        store.open(Controller())


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
        with largest_file(os.path.getsize(filename + ".journal-wal")):
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


def test_a_damaged_journal_is_kept_aside(
    filename: str, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        assert store.snapshot(controller)
        create(store, controller, owner="somebody")
    journal = Path(filename + ".journal")
    contents = journal.read_bytes()
    journal.write_bytes(contents.replace(b"somebody", b"somebady"))
    copy = restored(filename)
    assert [job.job_id for job in copy.list_jobs()] == [1]
    assert "entry 2 is damaged" in caplog.messages[-1]
    (aside,) = Path(filename).parent.glob("*.journal.unreadable-*[0-9]")
    assert aside.read_bytes() == contents.replace(b"somebody", b"somebady")


@pytest.mark.parametrize("suffix", ["", ".journal", ".journal-wal"])
def test_files_that_are_removed_are_made_again_before_anything_is_promised(
    filename: str, bmps: BMPs, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        create(store, controller)
        os.unlink(filename + suffix)
        with pytest.raises(JournalError, match="has been removed"):
            create(store, controller)
        store.commit_events(controller)  # too soon
        with pytest.raises(JournalError, match="has been removed"):
            create(store, controller)
        now += 2
        store.commit_events(controller)
        create(store, controller)
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2]


def test_a_snapshot_that_is_due_but_fails_stops_nobody(
    filename: str,
    bmps: BMPs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    monkeypatch.setattr(store_module, "RECORDS_BEFORE_SNAPSHOT", 2)
    monkeypatch.setattr(store_module, "RECORDS_PER_JOB", 0)
    controller = Controller()
    controller.machines = {"m": machine()}
    with kept(filename, controller) as store:
        assert store._journal is not None
        os.mkdir(filename + ".new")  # in the way
        for _ in range(4):
            create(store, controller)
            store.commit_events(controller)
        assert len(store._journal) == 4
        (message,) = caplog.messages
        assert f"cannot save state to {filename}: " in message
        assert message.endswith("; the journal goes on")
        os.rmdir(filename + ".new")
        now += store_module.SNAPSHOT_RETRY_SECONDS
        store.commit_events(controller)
        assert len(store._journal) == 0
    assert [job.job_id for job in restored(filename).list_jobs()] == [1, 2, 3, 4]


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


def test_dormancy_ends_with_its_block(bmps: BMPs) -> None:
    controller = Controller()
    controller.machines = {"m": machine()}
    pickled = pickle.dumps(controller)
    with replayable.unpickled_dormant():
        pickle.loads(pickled)
    assert len(bmps.made) == 1
    pickle.loads(pickled)
    assert len(bmps.made) == 2


def test_unknown_records_are_refused() -> None:
    with pytest.raises(replayable.ReplayError, match="no_such_event"):
        Controller().replay([["no_such_event", 1.5, 1]])
