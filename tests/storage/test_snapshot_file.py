import logging
import os
import pickle
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from spalloc_server.storage import snapshot_file
from spalloc_server.storage.snapshot_file import StateFileError, StateLock


@pytest.fixture
def filename(tmp_path: Path) -> str:
    return str(tmp_path / "state")


class Unpicklable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


def test_what_is_saved_is_loaded_and_leaves_nothing_else(
    filename: str, tmp_path: Path
) -> None:
    assert snapshot_file.load(filename, object) is None
    snapshot_file.save(filename, {"a": 1})
    snapshot_file.save(filename, {"a": 2})
    assert snapshot_file.load(filename, dict) == {"a": 2}
    assert os.listdir(tmp_path) == ["state"]


def test_the_file_is_for_its_owner_only(filename: str) -> None:
    old = os.umask(0)
    try:
        snapshot_file.save(filename, 1)
        lock = StateLock(filename + ".lock")
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(filename).st_mode) == 0o600
    assert stat.S_IMODE(os.stat(filename + ".lock").st_mode) == 0o600
    lock.release()


@pytest.mark.parametrize("broken", ["pickle", "write"])
def test_a_failed_save_keeps_the_old_file(
    filename: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    snapshot_file.save(filename, "old")
    if broken == "pickle":
        with pytest.raises(RuntimeError, match="not me"):
            snapshot_file.save(filename, Unpicklable())
    else:

        def no_room(_fd: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", no_room)
        with pytest.raises(OSError, match="No space left"):
            snapshot_file.save(filename, "new")
    assert snapshot_file.load(filename, str) == "old"
    assert os.listdir(tmp_path) == ["state"]


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"garbage",
        pickle.dumps({"a": "x" * 100})[:-20],
        b"cnowhere\nnothing\n.",
        pickle.dumps("another type"),
    ],
)
def test_an_unreadable_file_is_kept_aside_and_named(
    filename: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, contents: bytes
) -> None:
    for _ in range(3):
        Path(filename).write_bytes(contents)
        caplog.clear()
        assert snapshot_file.load(filename, dict) is None
        [record] = caplog.records
        assert record.levelno == logging.ERROR
        found = re.search(r"is kept as (\S+),", record.getMessage())
        assert found
        assert Path(found[1]).read_bytes() == contents
        assert not os.path.exists(filename)
    assert len(os.listdir(tmp_path)) == 3


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_is_refused(filename: str, mode: int) -> None:
    snapshot_file.save(filename, 1)
    os.chmod(filename, mode)
    with pytest.raises(StateFileError, match=rf"{filename}.*others.*{mode:04o}"):
        snapshot_file.load(filename, object)
    assert os.path.exists(filename)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_file_of_another_user_is_refused(filename: str) -> None:
    snapshot_file.save(filename, 1)
    os.chown(filename, 12345, -1)
    with pytest.raises(StateFileError, match=rf"{filename}.*user 12345"):
        snapshot_file.load(filename, object)


class NeedsADescriptor:
    def __reduce__(self) -> Any:
        return open, ("/no/such/file",)


def test_state_that_cannot_be_restored_just_now_stays(filename: str) -> None:
    snapshot_file.save(filename, NeedsADescriptor())
    with pytest.raises(StateFileError, match=f"{filename}: .*No such file"):
        snapshot_file.load(filename, object)
    assert os.path.exists(filename)


def test_a_folder_in_its_place_is_refused(filename: str) -> None:
    os.mkdir(filename)
    with pytest.raises(StateFileError, match="Is a directory"):
        snapshot_file.load(filename, object)


def test_the_lock_says_who_holds_it(filename: str) -> None:
    lock = StateLock(filename)
    with pytest.raises(StateFileError, match=f"process {os.getpid()}"):
        StateLock(filename)
    lock.release()
    assert not os.path.exists(filename)
    StateLock(filename).release()


def test_a_lock_file_of_a_dead_server_does_not_hold(filename: str) -> None:
    Path(filename).write_text("123456789\n")
    StateLock(filename).release()


def test_a_folder_that_is_not_there_or_not_ours_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "no" / "lock")
    with pytest.raises(StateFileError, match=rf"{missing}: No such file"):
        StateLock(missing)


def test_the_holder_of_a_lock_is_known_with_what_it_tells(filename: str) -> None:
    assert snapshot_file.lock_holder(filename) is None
    lock = StateLock(filename)
    assert snapshot_file.lock_holder(filename) == (os.getpid(), {})
    lock.tell({"long": "x" * 10_000})
    lock.tell({"a": [1]})
    assert snapshot_file.lock_holder(filename) == (os.getpid(), {"a": [1]})
    with pytest.raises(
        StateFileError, match=rf"another server, process {os.getpid()} "
    ):
        StateLock(filename)
    lock.release()
    assert snapshot_file.lock_holder(filename) is None


def test_a_lock_that_was_left_behind_has_no_holder(filename: str) -> None:
    lock = StateLock(filename)
    contents = Path(filename).read_bytes()
    lock.release()
    Path(filename).write_bytes(contents)
    assert snapshot_file.lock_holder(filename) is None
    Path(filename).unlink()
    Path(filename).mkdir()
    with pytest.raises(StateFileError, match="cannot read lock file"):
        snapshot_file.lock_holder(filename)
