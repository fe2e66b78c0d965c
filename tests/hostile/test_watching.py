"""All the ways in which a config file becomes another one while it is watched."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support import ONE_TRIAD, ServerProcess, running_server

OTHER = ONE_TRIAD.replace('"m"', '"n"')


def becomes(server: ServerProcess, name: str, times: int = 1) -> None:
    server.wait_for_log(f"Machines: added: {name}; removed: ", times)


def test_a_config_map_of_kubernetes(tmp_path: Path) -> None:
    for version, text in (("..1", ONE_TRIAD), ("..2", OTHER), ("..3", ONE_TRIAD)):
        (tmp_path / version).mkdir()
        (tmp_path / version / "spalloc.cfg").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "spalloc.cfg").symlink_to("..data/spalloc.cfg")
    with running_server(
        tmp_path / "spalloc.cfg", "--simulate", "--watch-config"
    ) as server:
        for version, name in (("..2", "n"), ("..3", "m")):
            (tmp_path / "..data_tmp").symlink_to(version)
            os.replace(tmp_path / "..data_tmp", tmp_path / "..data")
            becomes(server, name)
        assert server.stop() == 0


@pytest.mark.parametrize("how", ["symbolic link", "hard link", "copy", "rename"])
def test_what_is_put_in_place(tmp_path: Path, how: str) -> None:
    other = tmp_path / "elsewhere" / "n.cfg"
    other.parent.mkdir()
    other.write_text(OTHER)
    with running_server(
        ONE_TRIAD, "--simulate", "--watch-config", folder=tmp_path
    ) as server:
        config = server.config_file
        config.unlink()
        if how == "symbolic link":
            config.symlink_to(other)
        elif how == "hard link":
            config.hardlink_to(other)
        elif how == "copy":
            shutil.copy2(other, config)
        else:
            other.rename(config)
        becomes(server, "n")
        with open(config, "w") as file:
            file.write(ONE_TRIAD)
        becomes(server, "m")
        assert server.stop() == 0


@pytest.mark.long
@pytest.mark.parametrize("how", ["made again", "moved away", "link to folder"])
def test_a_folder_that_is_another_one(tmp_path: Path, how: str) -> None:
    folder = tmp_path / "config"
    folder.mkdir()
    config = folder / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    state = tmp_path / "state"
    state.mkdir()
    if how == "link to folder":
        folder.rename(tmp_path / "first")
        folder.symlink_to("first")
    with running_server(
        config, "--simulate", "--watch-config", "--state-dir", str(state)
    ) as server:
        for text, name in ((OTHER, "n"), (ONE_TRIAD, "m"), (OTHER, "n")):
            times = server.log.count(f"added: {name}; removed") + 1
            if how == "made again":
                shutil.rmtree(folder)
                folder.mkdir()
            elif how == "moved away":
                folder.rename(tmp_path / f"old{len(os.listdir(tmp_path))}")
                folder.mkdir()
            else:
                target = tmp_path / f"new{len(os.listdir(tmp_path))}"
                target.mkdir()
                (target / "spalloc.cfg").write_text(text)
                folder.unlink()
                folder.symlink_to(target)
            if how != "link to folder":
                config.write_text(text)
            becomes(server, name, times)
        assert server.stop() == 0


def test_a_file_that_comes_back_after_a_while(tmp_path: Path) -> None:
    with running_server(
        ONE_TRIAD, "--simulate", "--watch-config", folder=tmp_path
    ) as server:
        server.config_file.unlink()
        folder = tmp_path.rename(tmp_path.with_name("away"))
        server.wait_for_log("WARNING Cannot watch .*No such file")
        folder.rename(tmp_path)
        server.wait_for_log("WARNING Watching .* again")
        assert server.log.count("Cannot watch") == 1
        server.config_file.write_text(OTHER)
        becomes(server, "n")
        assert server.stop() == 0


def test_nothing_is_read_again_for_nothing(tmp_path: Path) -> None:
    with running_server(
        ONE_TRIAD, "--simulate", "--watch-config", folder=tmp_path
    ) as server:
        server.config_file.write_text(OTHER)
        becomes(server, "n")
        # Long enough for it to be looked at, which the lock file's return tells.
        for count in (1, 2, 3):
            (tmp_path / ".spalloc.cfg.state.lock").unlink()
            server.wait_for_log("was removed; it has been created again", count)
        assert server.log.count("read again") == 1
        assert server.stop() == 0
