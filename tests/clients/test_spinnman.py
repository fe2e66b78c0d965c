"""Releases of SpiNNMan, unchanged, do the same job through a gateway with TLS."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from spalloc_server import __version__
from tests.clients.conftest import ClientEnv
from tests.gateway.boards import Echo
from tests.gateway.support import Place
from tests.support import TIMEOUT

PROGRAM = Path(__file__).with_name("spinnman_program.py")
OFFICIAL = "official"


@pytest.mark.parametrize(
    "release",
    [
        OFFICIAL,
        *(
            pytest.param(release, marks=[pytest.mark.slow, pytest.mark.clients])
            for release in ("1!7.1.0", "1!7.3.0")
        ),
    ],
)
def test_a_job_through_the_gateway(
    release: str, client_env: ClientEnv, tmp_path: Path
) -> None:
    python = (
        Path(sys.executable)
        if release == OFFICIAL
        else client_env(release, "SpiNNMan", "packaging") / "python"
    )
    with ExitStack() as undo:
        place = Place(tmp_path, undo)
        place.start_server()
        place.start_gateway()
        one = undo.enter_context(Echo("127.0.1.1", b"one "))
        undo.enter_context(Echo("127.0.1.2", b"two ", one.port))
        done = subprocess.run(
            [
                *(str(python), str(PROGRAM)),
                *(f"https://me:secret@localhost:{place.port}/", str(one.port)),
            ],
            cwd=tmp_path,
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(tmp_path),
                "REQUESTS_CA_BUNDLE": str(place.ca),
                "WEBSOCKET_CLIENT_CA_BUNDLE": str(place.ca),
            },
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=2 * TIMEOUT,
        )
        assert done.returncode == 0, done.stderr + place.gateway.log
        seen = json.loads(done.stdout.splitlines()[-1])
        assert seen.pop("seconds") < 20
        assert seen == {
            "version": __version__,
            "machines": ["m"],
            "state": "READY",
            "root": "127.0.1.1",
            "connections": [
                [[0, 0], "127.0.1.1"],
                [[4, 8], "127.0.1.3"],
                [[8, 4], "127.0.1.2"],
            ],
            "where": [0, 0, 1],
            "jobs": 1,
            "echoes": ["one hello", "two hello", "two hi"],
            "end": "DESTROYED",
        }
        assert place.old_client().call("list_jobs") == []
        assert "Traceback" not in place.gateway.log
