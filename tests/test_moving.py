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


@pytest.mark.parametrize("release", ["0.5.2", "1!7.0.0"])
def test_state_of_the_reference_server_is_noticed_and_left_alone(
    release: str, tmp_path: Path
) -> None:
    etc, states = tmp_path / "etc", tmp_path / "states"
    etc.mkdir()
    states.mkdir()
    left = etc / f".spalloc.cfg.state.{release}"
    shutil.copy(LEFT / f"{release.replace('!', '_')}.state", left)
    # It ran as somebody else.
    os.chmod(left, 0o664)
    before = left.read_bytes(), left.stat()
    config = etc / "spalloc.cfg"
    config.write_text(ONE_TRIAD)
    said = SAID.format(release, left)
    # State is kept beside the configuration, or elsewhere; and a cold start is one.
    for options in ((), ("--state-dir", str(states)), ("--cold-start",)):
        with (
            running_server(config, "--simulate", *options) as server,
            Client(server.port) as client,
        ):
            assert server.log.count(f"WARNING State {said}") == 1
            assert "ERROR" not in server.log
            # Numbers of jobs begin anew, or go on from this server's own state.
            job_id = client.call("create_job", owner="me", keepalive=None)
            assert [job["job_id"] for job in client.call("list_jobs")] == [job_id]
            client.call("destroy_job", job_id)
            checked = run_check(config, *options)
            assert (checked.returncode, checked.stderr) == (0, "")
            assert checked.stdout.count(f"state: {said}") == 1
            assert server.stop() == 0
    assert (left.read_bytes(), left.stat()) == before
    assert not list(etc.glob("*unreadable*"))


@pytest.mark.parametrize("kind", ["damaged", "folder", "fifo", "device", "dangling"])
def test_what_cannot_be_read_is_not_taken_for_its_state(
    kind: str, tmp_path: Path
) -> None:
    left = tmp_path / ".spalloc.cfg.state.1!7.0.0"
    if kind == "damaged":
        left.write_bytes(b"\x80\x04 is no state of anybody's")
    elif kind == "folder":
        left.mkdir()
    elif kind == "fifo":
        os.mkfifo(left)
    elif kind == "device":
        left.symlink_to("/dev/zero")
    else:
        left.symlink_to("nothing")
    with running_server(ONE_TRIAD, "--simulate", folder=tmp_path) as server:
        assert "reference server" not in server.log
        assert server.stop() == 0
    assert os.path.lexists(left)
