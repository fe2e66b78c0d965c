"""Every form of ``spalloc-where-is``, for every release of the client."""

from __future__ import annotations

import importlib.metadata
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.conftest import OFFICIAL, RELEASES, ClientEnv
from tests.clients.released_client import ReleasedClient, fields
from tests.support import ONE_TRIAD, Client, ready, running_server, wait_until

FORMS = {
    "--board": ("m", 0, 0, 1),
    "--physical": ("m", 0, 0, 1),
    "--chip": ("m", 9, 5),
    "--job-chip": (1, 1, 1),
}

CANNOT = {
    release: dict.fromkeys(
        ("--board", "--physical", "--chip"),
        "got an unexpected keyword argument 'machine'",
    )
    for release in ("1!7.4.0", "1!7.4.1")
}
"""What each release cannot do, and what it says of that; all others do all of it.

A form that works again has to go from here, and from ``docs/coordinates.rst``.
"""

EARLIER = pytest.param("1!7.4.0", marks=[pytest.mark.slow, pytest.mark.clients])
"""One more release, as it is the first that cannot do all."""

DOCS = Path(__file__).parents[2] / "docs" / "coordinates.rst"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Give the port of one server for all, on which job 1 has board (0, 0, 1)."""
    folder = tmp_path_factory.mktemp("where-is")
    with (
        running_server(ONE_TRIAD, "--simulate", folder=folder) as server,
        Client(server.port) as client,
    ):
        job_id = client.call("create_job", 0, 0, 1, machine="m", owner="me")
        assert job_id == FORMS["--job-chip"][0]
        wait_until(lambda: ready(client, job_id))
        yield server.port


@pytest.mark.parametrize("release", [*RELEASES, EARLIER])
def test_every_form(
    release: str, port: int, client_env: ClientEnv, tmp_path: Path
) -> None:
    if release == OFFICIAL:
        commands = Path(sys.executable).parent
        release = importlib.metadata.version("spalloc")
    else:
        commands = client_env(release)
    client = ReleasedClient(commands, tmp_path, port)
    for form, arguments in FORMS.items():
        done = client.fails("spalloc-where-is", form, *arguments)
        problem = CANNOT.get(release, {}).get(form)
        if problem is not None:
            assert done.returncode != 0, form
            assert problem in done.stderr
            continue
        assert (done.returncode, done.stderr) == (0, ""), form
        inside = (1, 1) if "chip" in form else (0, 0)
        expected = {
            "Machine": "m",
            "Physical location": "Cabinet 0, Frame 0, Board 1",
            "Board coordinate": "(0, 0, 1)",
            "Machine chip coordinates": str((8 + inside[0], 4 + inside[1])),
            "Job using board": "1",
            "Coordinates within job": str(inside),
        }
        # Where in the board it is says nothing of a board.
        if "chip" in form:
            expected["Coordinates within board"] = str(inside)
        assert fields(done.stdout) == expected, form


def test_docs_say_which_releases_cannot_ask_for_boards() -> None:
    text = " ".join(DOCS.read_text().split())
    told = re.search(r"In the client's releases (.*?) only the last of these", text)
    assert told is not None
    assert re.findall(r"\d+!\d+\.\d+\.\d+", told[1]) == list(CANNOT)
    options = re.search(r"Users have ``spalloc-where-is``, with (.*?)\.", text)
    assert options is not None
    assert re.findall(r"--[\w-]+", options[1]) == [
        *("--board", "--physical", "--chip", "--job-chip")
    ]
