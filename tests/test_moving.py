"""Moving from the reference server: its state is noticed, and left alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.admin_command import run_check
from tests.support import ONE_TRIAD, Client, running_server

LEFT = Path(__file__).parent / "storage" / "reference"

SAID = "left by the reference server, release {}, as {}; its jobs are not taken over"


@pytest.mark.parametrize("option", [None, "--state-dir", "--cold-start"])
def test_state_of_the_reference_server_is_noticed_and_left_alone(
    option: str | None, tmp_path: Path
) -> None:
    etc, states = tmp_path / "etc", tmp_path / "states"
    etc.mkdir()
    states.mkdir()
    config = etc / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    left = {
        etc / f".spalloc.cfg.state.{release}": release
        for release in ("0.5.2", "1!7.0.0")
    }
    before = {}
    for path, release in left.items():
        shutil.copy(LEFT / f"{release.replace('!', '_')}.state", path)
        # Such a mode would have state of ours refused.
        path.chmod(0o664)
        before[path] = path.read_bytes(), path.stat()
    options = [] if option is None else [option]
    if option == "--state-dir":
        options.append(str(states))
    with (
        running_server(config, "--simulate", *options) as server,
        Client(server.port) as client,
    ):
        checked = run_check(config, *options)
        assert (checked.returncode, checked.stderr) == (0, "")
        for path, release in left.items():
            said = SAID.format(release, path)
            assert server.log.count(f"WARNING State {said}") == 1
            assert checked.stdout.count(f"state: {said}") == 1
        assert "ERROR" not in server.log
        assert client.call("create_job", owner="me") == 1
        assert server.stop() == 0
    for path in left:
        assert (path.read_bytes(), path.stat()) == before[path]
    assert not list(tmp_path.rglob(".*.unreadable*"))
    assert not list(tmp_path.rglob(".*.out-of-date*"))


def test_what_cannot_be_read_is_not_taken_for_its_state(tmp_path: Path) -> None:
    names = ("damaged", "folder", "fifo", "device", "dangling")
    paths = {name: tmp_path / f".spalloc.cfg.state.1!7.{name}" for name in names}
    paths["damaged"].write_bytes(b"\x80\x04 is no state of anybody's")
    paths["folder"].mkdir()
    os.mkfifo(paths["fifo"])
    paths["device"].symlink_to("/dev/zero")
    paths["dangling"].symlink_to("nothing")
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        assert "reference server" not in server.log
        assert server.stop() == 0
    assert all(map(os.path.lexists, paths.values()))
