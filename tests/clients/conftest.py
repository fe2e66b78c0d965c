"""Every release of the client, beside a server with every machine.

The environments of the other releases are made once and kept. Every release pins its
own SpiNNUtilities, so none can share an environment with another, or with the server.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.released_client import ReleasedClient
from tests.clients.sites import Site, million_cores, one_frame, single_board
from tests.gateway.conftest import empty_place, place, shared_place
from tests.support import Client, ServerProcess, running_server, wait_until

__all__ = ["empty_place", "place", "shared_place"]

OTHER_RELEASES = ("0.2.6", "2.0.1", "1!7.3.0")
"""0.2.6 is the oldest worth having; the official one is installed beside the tests."""

OFFICIAL = "official"
"""Stands for the release that is installed beside the tests."""

RELEASES = [
    OFFICIAL,
    *(
        pytest.param(release, marks=[pytest.mark.slow, pytest.mark.clients])
        for release in OTHER_RELEASES
    ),
]

SITES = ("million-cores", "one-frame", "single-board")

ENVIRONMENTS = Path(
    os.environ.get("SPALLOC_CLIENTS_DIR")
    or Path(__file__).resolve().parents[2] / ".client-envs"
)

ClientEnv = Callable[..., Path]


@pytest.fixture(scope="session")
def client_env() -> ClientEnv:
    """Give the function from a client's release to the folder of its commands.

    The first call for a release installs it, which needs the package index; later ones,
    of later runs too, find it there. Set ``SPALLOC_CLIENTS_DIR`` to keep the
    environments elsewhere than in ``.client-envs/``. Several test processes may ask at
    the same time.
    """
    return _client_env


def _client_env(release: str, package: str = "spalloc", *more: str) -> Path:
    """Return the ``bin`` folder of an environment that holds this one release."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    environment = (
        ENVIRONMENTS / f"{python}-{package.lower()}-{release.replace('!', '_')}"
    )
    bin_folder = environment / "bin"
    complete = environment / "complete"
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    # The lock is the kernel's: it goes with a process that dies while it installs.
    with open(environment.with_name(environment.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(environment, ignore_errors=True)
            wanted = [f"{package}=={release}", *more]
            python = str(bin_folder / "python")
            uv = [sys.executable, "-m", "uv"]
            venv = [*uv, "venv", "--python", sys.executable, str(environment)]
            if problem := _run(venv):
                pytest.fail(problem)
            problem = _run([*uv, "pip", "install", "--python", python, *wanted])
            if problem:
                # It may be pip alone that has been told of this site's index.
                pip = [sys.executable, "-m", "pip", "--python", python]
                problem = _run([*pip, "install", "--quiet", *wanted])
            if problem:
                pytest.fail(problem)
            complete.touch()
    return bin_folder


def _run(command: list[str]) -> str:
    """Run a command of the installation, and return what it printed if it failed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode == 0:
        return ""
    return f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}"


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest) -> str:
    """Give each release of the client in turn."""
    assert isinstance(request.param, str)
    return request.param


@pytest.fixture
def commands(release: str, client_env: ClientEnv) -> Path:
    """Give the folder of the release's commands."""
    return Path(sys.executable).parent if release == OFFICIAL else client_env(release)


@pytest.fixture(scope="session")
def million_core_site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Give the machine of 1,200 boards."""
    return million_cores(tmp_path_factory.mktemp("million-cores"))


@pytest.fixture(scope="session", params=SITES)
def site(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Site:
    """Give each machine in turn."""
    if request.param == "million-cores":
        found = request.getfixturevalue("million_core_site")
        assert isinstance(found, Site)
        return found
    if request.param == "one-frame":
        return one_frame(tmp_path_factory.mktemp("one-frame"))
    return single_board()


@pytest.fixture(scope="session")
def _site_server(
    site: Site, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerProcess]:
    """Run one server for each machine, and each process of tests."""
    folder = tmp_path_factory.mktemp("server")
    with running_server(site.config, "--simulate", folder=folder) as server:
        yield server


@pytest.fixture
def server(_site_server: ServerProcess) -> Iterator[Client]:
    """Give a plain connection to the server, on which no other jobs are."""
    already_logged = len(_site_server.log)
    with Client(_site_server.port) as raw:
        yield raw
        # pytest shows it where the test has failed.
        print(_site_server.log[already_logged:])
        for job in raw.call("list_jobs"):
            raw.call("destroy_job", job["job_id"])
        # Nobody has to wait for its boards: the next job does, in the queue.
        wait_until(lambda: not raw.call("list_jobs"))


@pytest.fixture
def client(
    commands: Path, _site_server: ServerProcess, server: Client, tmp_path: Path
) -> ReleasedClient:
    """Give each release of the client, beside the server with each machine."""
    return ReleasedClient(commands, tmp_path, _site_server.port)
