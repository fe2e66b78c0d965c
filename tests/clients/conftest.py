"""Environments with other releases of the client, made once and kept.

Every release pins its own SpiNNUtilities, so none can share an environment with
another, or with the server.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

OTHER_RELEASES = ("0.2.6", "2.0.1", "1!7.3.0")
"""0.2.6 is the oldest worth having; the official one is installed beside the tests."""

ENVIRONMENTS = Path(
    os.environ.get("SPALLOC_CLIENTS_DIR")
    or Path(__file__).resolve().parents[2] / ".client-envs"
)

ClientEnv = Callable[[str], Path]


@pytest.fixture(scope="session")
def client_env() -> ClientEnv:
    """Give the function from a client's release to the folder of its commands.

    The first call for a release installs it, which takes half a minute and needs the
    package index; later ones, of later runs too, find it there. Set
    ``SPALLOC_CLIENTS_DIR`` to keep the environments elsewhere than in
    ``.client-envs/``. Several test processes may ask at the same time.
    """
    return _client_env


def _client_env(release: str) -> Path:
    """Return the ``bin`` folder of an environment that holds this one release."""
    python = f"py{sys.version_info.major}.{sys.version_info.minor}"
    environment = ENVIRONMENTS / f"{python}-spalloc-{release.replace('!', '_')}"
    bin_folder = environment / "bin"
    complete = environment / "complete"
    ENVIRONMENTS.mkdir(parents=True, exist_ok=True)
    # The lock is the kernel's: it goes with a process that dies while it installs.
    with open(environment.with_name(environment.name + ".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            shutil.rmtree(environment, ignore_errors=True)
            _run([sys.executable, "-m", "venv", str(environment)])
            pip = [str(bin_folder / "python"), "-m", "pip"]
            _run([*pip, "install", "--quiet", f"spalloc=={release}"])
            complete.touch()
    return bin_folder


def _run(command: list[str]) -> None:
    """Run a command of the installation; fail with what it printed."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
