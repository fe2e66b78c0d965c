"""Who uses some state, and what the last one has promised."""

import os
import stat
from pathlib import Path

import pytest

from spalloc_server.storage import lock_file
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.lock_file import Promise, StateLock


@pytest.fixture
def filename(tmp_path: Path) -> str:
    return str(tmp_path / "lock")


def test_the_lock_file_is_for_its_owner_only(filename: str) -> None:
    old = os.umask(0)
    try:
        lock = StateLock(filename)
    finally:
        os.umask(old)
    assert stat.S_IMODE(os.stat(filename).st_mode) == 0o600
    lock.release()


def test_what_a_killed_holder_has_promised_is_found(filename: str) -> None:
    with StateLock(filename) as lock:
        assert lock.found == Promise(0, 0)
        lock.tell({"a": "b"})
        lock.promise(4711, 3)
        lock.promise(4711, 12)
        lock.tell({"a": "c"})
        left = Path(filename).read_bytes()
        holder = lock_file.lock_holder(filename)
        assert holder is not None
        assert holder.facts == {"a": "c"}
    with StateLock(filename) as lock:
        # An orderly end has removed it.
        assert lock.found == Promise(0, 0)
    Path(filename).write_bytes(left)
    with StateLock(filename) as lock:
        assert lock.found == Promise(4711, 12)
        left = Path(filename).read_bytes()
    # It lasts until something else is promised.
    Path(filename).write_bytes(left)
    assert StateLock(filename).found == Promise(4711, 12)


@pytest.mark.parametrize("contents", [b"", b"77\n", b"77\n{}\n", b"\xff" * 100])
def test_nonsense_in_a_lock_file_promises_nothing(
    filename: str, contents: bytes
) -> None:
    Path(filename).write_bytes(contents)
    with StateLock(filename) as lock:
        assert lock.found == Promise(0, 0)


def test_something_else_in_its_place_is_refused(filename: str) -> None:
    os.mkfifo(filename)
    with pytest.raises(StateFileError, match="cannot write state file"):
        StateLock(filename)
    os.unlink(filename)
    os.mkdir(filename)
    with pytest.raises(StateFileError, match="Is a directory"):
        StateLock(filename)


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
    assert lock_file.lock_holder(filename) is None
    lock = StateLock(filename)
    assert lock_file.lock_holder(filename) == (os.getpid(), {})
    lock.tell({"long": "x" * 10_000})
    lock.tell({"a": [1]})
    assert lock_file.lock_holder(filename) == (os.getpid(), {"a": [1]})
    with pytest.raises(
        StateFileError, match=rf"another server, process {os.getpid()} "
    ):
        StateLock(filename)
    lock.release()
    assert lock_file.lock_holder(filename) is None


def test_a_lock_that_was_left_behind_has_no_holder(filename: str) -> None:
    lock = StateLock(filename)
    contents = Path(filename).read_bytes()
    lock.release()
    Path(filename).write_bytes(contents)
    assert lock_file.lock_holder(filename) is None
    Path(filename).unlink()
    Path(filename).mkdir()
    with pytest.raises(StateFileError, match="cannot read lock file"):
        lock_file.lock_holder(filename)
