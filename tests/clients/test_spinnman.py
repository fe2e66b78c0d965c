"""Releases of SpiNNMan, unchanged, do the same job through a gateway with TLS."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from spalloc_server import __version__
from spalloc_server_gateway.users import add_user
from tests.clients.conftest import ClientEnv
from tests.gateway.boards import Echo
from tests.gateway.support import Place, metric
from tests.support import TIMEOUT, wait_until

HERE = Path(__file__).parent
OFFICIAL = "official"
OTHERS = ("1!7.1.0", "1!7.3.0")

KEEPALIVE = 6
"""After how many seconds without a keepalive the jobs end that wait."""

Python = Callable[[str], Path]


@pytest.fixture
def python(client_env: ClientEnv) -> Python:
    """Gives the interpreter that has a release."""

    def interpreter(release: str) -> Path:
        if release == OFFICIAL:
            return Path(sys.executable)
        return client_env(release, "SpiNNMan", "packaging") / "python"

    return interpreter


def environment(place: Place, home: Path) -> dict[str, str]:
    """What users have to set, for the certificate of a gateway."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "REQUESTS_CA_BUNDLE": str(place.ca),
        "WEBSOCKET_CLIENT_CA_BUNDLE": str(place.ca),
    }


def run(place: Place, home: Path, *command: str | Path) -> list[str]:
    """Run a program of a user; the lines that it prints."""
    done = subprocess.run(
        command,
        cwd=home,
        env=environment(place, home),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=2 * TIMEOUT,
    )
    assert done.returncode == 0, done.stderr + place.gateway.log
    return done.stdout.splitlines()


RELEASES = [
    OFFICIAL,
    *(
        pytest.param(release, marks=[pytest.mark.slow, pytest.mark.clients])
        for release in OTHERS
    ),
]


@pytest.mark.parametrize("release", RELEASES)
def test_a_job_through_the_gateway(
    release: str, python: Python, place: Place, tmp_path: Path
) -> None:
    with Echo("127.0.1.1", b"one ") as one, Echo("127.0.1.2", b"two ", one.port):
        *_, last = run(
            place,
            tmp_path,
            *(python(release), HERE / "spinnman_program.py"),
            *(f"https://me:secret@localhost:{place.port}/", str(one.port)),
        )
        seen = json.loads(last)
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


@pytest.mark.parametrize("release", RELEASES)
def test_who_gets_in(
    release: str, python: Python, place: Place, tmp_path: Path
) -> None:
    with ExitStack() as undo:
        # Another gateway, with users, to the same server.
        users = tmp_path / "users"
        add_user(str(users), "you@example.org", "secret")
        strict = place.beside(tmp_path, undo, place.program, "--users", str(users))
        you = "you@example.org"
        lines = run(
            place,
            tmp_path,
            *(python(release), HERE / "spinnman_login_program.py"),
            *(f"https://{who}localhost:{place.port}/" for who in ("", "me@")),
            *(
                f"https://{who}localhost:{strict.port}/"
                for who in (f"{you}:secret@", f"{you}:wrong@", f"{you}@", "")
            ),
        )
        jobs = place.old_client().call("list_jobs")
        assert [job["owner"] for job in jobs] == ["anonymous", "me", "you@example.org"]
        assert len(lines) == 6
        assert set(lines[:3]) <= {"POWER", "READY"}
        if release == "1!7.1.0":
            # It does not show what it is told.
            messages = ["KeyError: \"name='JSESSIONID'"] * 3
        else:
            messages = ["the user name or the password is wrong"]
            messages += ["a user name and a password are needed"] * 2
        for message, line in zip(messages, lines[3:], strict=True):
            assert message in line


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "releases",
    [
        pytest.param([OFFICIAL], id=OFFICIAL),
        pytest.param(list(OTHERS), id="others", marks=pytest.mark.clients),
    ],
)
def test_jobs_live_over_restarts_of_both_until_others_end_them(
    releases: list[str], python: Python, place: Place, tmp_path: Path
) -> None:
    """Clients send no keepalive any more after one has failed."""
    port = place.server.port
    with ExitStack() as undo:
        listening = undo.enter_context(place.hold_socket())
        gateway = place.start_with_socket(listening)
        programs = [
            undo.enter_context(
                subprocess.Popen(
                    [
                        *(python(release), HERE / "spinnman_waiting_program.py"),
                        *(f"https://me@localhost:{place.port}/", str(KEEPALIVE)),
                    ],
                    cwd=tmp_path,
                    env=environment(place, tmp_path),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for release in releases
        ]
        for program in programs:
            undo.callback(program.kill)
            assert program.stdout is not None
            while program.stdout.readline() != "READY\n":
                assert program.poll() is None

        def pass_time(seconds: float) -> None:
            until = time.monotonic() + seconds
            wait_until(lambda: time.monotonic() > until)

        def live() -> None:
            # Longer than without any keepalive. Descriptions are none.
            pass_time(1.2 * KEEPALIVE)
            jobs = place.old_client().call("list_jobs")
            assert [job["state"] for job in jobs] == [3] * len(releases)

        place.server.stop()
        pass_time(KEEPALIVE / 2)
        place.start_server(port=port)
        wait_until(lambda: metric(place, "late_keepalives_total") >= len(releases))
        live()
        gateway.terminate()
        assert gateway.wait(TIMEOUT) == 0
        place.start_with_socket(listening)
        live()
        old = place.old_client()
        for job in old.call("list_jobs"):
            old.call("destroy_job", job["job_id"], "by others")
        for program in programs:
            assert program.communicate(timeout=TIMEOUT)[0] == "DESTROYED\n"
            assert program.returncode == 0
