import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from spalloc_server.config.watcher import ConfigWatcher


@pytest.fixture
def config(tmp_path: Path) -> Path:
    config = tmp_path / "spalloc.cfg"
    config.write_text("first")
    return config


@pytest.fixture
def watcher(config: Path) -> Iterator[ConfigWatcher]:
    watcher = ConfigWatcher(str(config))
    yield watcher
    watcher.close()


def has_news(watcher: ConfigWatcher) -> bool:
    # The kernel queues events before the call that causes them returns.
    return bool(select.select([watcher], [], [], 0)[0])


def test_nothing_happens(watcher: ConfigWatcher) -> None:
    assert not has_news(watcher)
    assert not watcher.has_changed()


def test_a_file_is_new_once_it_is_closed(watcher: ConfigWatcher, config: Path) -> None:
    with open(config, "w") as file:
        file.write("second")
        file.flush()
        assert not watcher.has_changed()
    assert has_news(watcher)
    assert watcher.has_changed()
    assert not watcher.has_changed()


def test_a_file_may_be_replaced_again_and_again(
    watcher: ConfigWatcher, config: Path
) -> None:
    for number in range(3):
        other = config.with_suffix(".new")
        other.write_text(str(number))
        assert not watcher.has_changed()
        os.replace(other, config)
        assert watcher.has_changed()


def test_a_file_may_go_and_come_back(watcher: ConfigWatcher, config: Path) -> None:
    config.unlink()
    assert not watcher.has_changed()
    config.write_text("again")
    assert watcher.has_changed()


def test_reading_and_other_files_are_no_news(
    watcher: ConfigWatcher, config: Path
) -> None:
    config.read_text()
    config.chmod(0o600)
    assert not has_news(watcher)
    config.with_suffix(".other").write_text("x")
    assert not watcher.has_changed()


def test_a_relative_name(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    watcher = ConfigWatcher(config.name)
    monkeypatch.chdir("/")
    config.write_text("second")
    assert watcher.has_changed()
    watcher.close()


def test_a_link_and_what_it_leads_to(config: Path, tmp_path: Path) -> None:
    targets = [tmp_path / "a" / "real.cfg", tmp_path / "b" / "real.cfg"]
    for target in targets:
        target.parent.mkdir()
        target.write_text("1")
    config.unlink()
    config.symlink_to(targets[0])
    watcher = ConfigWatcher(str(config))
    targets[0].write_text("2")
    assert watcher.has_changed()
    targets[1].write_text("2")
    assert not watcher.has_changed()

    new_link = tmp_path / "new"
    new_link.symlink_to(targets[1])
    os.replace(new_link, config)
    assert watcher.has_changed()
    targets[1].write_text("3")
    assert watcher.has_changed()
    targets[0].write_text("3")
    assert not watcher.has_changed()
    watcher.close()


def test_a_folder_that_goes_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    watcher = ConfigWatcher(str(folder / "spalloc.cfg"))
    folder.rmdir()
    assert not watcher.has_changed()
    assert f"folder of {folder}/spalloc.cfg is gone" in caplog.text
    watcher.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    descriptors = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="No such file"):
        ConfigWatcher(str(tmp_path / "nowhere" / "spalloc.cfg"))
    assert os.listdir("/proc/self/fd") == descriptors


def test_looking_finds_what_nothing_tells_of(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    config = folder / "spalloc.cfg"
    config.write_text("first")
    watcher = ConfigWatcher(str(config))
    assert [watcher.look() for _ in range(3)] == [False] * 3
    folder.rename(tmp_path / "old")
    assert [watcher.look() for _ in range(3)] == [False] * 3
    folder.mkdir()
    config.write_text("second")
    # It has to look the same twice, and is told once.
    assert [watcher.look() for _ in range(4)] == [False, True, False, False]
    # From then on it is watched as before.
    config.write_text("third")
    assert watcher.has_changed()
    assert [watcher.look() for _ in range(3)] == [False] * 3
    watcher.close()


def test_links_in_a_circle_are_no_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tmp_path / "spalloc.cfg"
    config.write_text("first")
    watcher = ConfigWatcher(str(config))
    config.unlink()
    config.symlink_to(config.name)
    assert not watcher.has_changed()
    assert [watcher.look() for _ in range(3)] == [False] * 3
    assert caplog.text.count("Cannot watch") == 1
    config.unlink()
    config.write_text("second")
    assert watcher.look() or watcher.has_changed()
    watcher.close()
