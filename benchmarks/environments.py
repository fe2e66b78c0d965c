"""The two releases that are measured, each with an interpreter of its own."""

import atexit
import functools
import os
import subprocess
import sys
import tempfile
import venv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

REFERENCE_REQUIREMENT: Final = "spalloc-server==1!7.0.0"
REFERENCE_VARIABLE: Final = "SPALLOC_REFERENCE_PYTHON"
FOLDER: Final = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Release:
    """What is measured."""

    name: str
    python: str
    """The interpreter that the release is installed for."""
    is_reference: bool
    tree: Path = FOLDER
    """Where its code lies, unless it is the reference, which is installed."""

    def run_script(self, script: str, *arguments: str, timeout: float = 600) -> str:
        """Run a script of this folder with the release; what it prints."""
        done = subprocess.run(
            [self.python, str(FOLDER / "benchmarks" / script), *arguments],
            cwd="/",  # so that the release is what is installed, not what lies here
            env=self.environment,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
            timeout=timeout,
        )
        return done.stdout

    @property
    def command(self) -> list[str]:
        """What starts its server, but for the options."""
        if self.is_reference:
            return [str(Path(self.python).parent / "spalloc-server")]
        return [self.python, "-m", "spalloc_server"]

    @property
    def environment(self) -> dict[str, str]:
        """The environment of processes of the release."""
        without = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
        environment = {k: v for k, v in os.environ.items() if k not in without}
        if not self.is_reference:
            environment["PYTHONPATH"] = str(self.tree)
            # What is installed is compiled; of a tree that is done by whoever is first.
            environment["PYTHONPYCACHEPREFIX"] = _compiled()
        return environment


@functools.cache
def _compiled() -> str:
    """A folder for what is compiled of trees, for as long as this process lasts."""
    folder = tempfile.TemporaryDirectory(prefix="spalloc-bench-")
    atexit.register(folder.cleanup)
    return folder.name


def ours() -> Release:
    """The release in this tree, for the interpreter that runs this."""
    return Release("ours", sys.executable, is_reference=False)


def reference(python: str | None) -> Release:
    """The reference release.

    :param python: an interpreter that has it; None for that of the environment
        variable, or of an environment that is made (in ``.bench-envs``) if need be
    """
    python = python or os.environ.get(REFERENCE_VARIABLE)
    return Release("reference", python or _made_environment(), is_reference=True)


def _made_environment() -> str:
    """The interpreter of an environment with the reference release in it."""
    folder = FOLDER / ".bench-envs" / "reference"
    complete = folder / "complete"
    python = folder / "bin" / "python"
    if not complete.exists():
        print(f"Installing {REFERENCE_REQUIREMENT} in {folder}", file=sys.stderr)
        venv.create(folder, clear=True, with_pip=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", REFERENCE_REQUIREMENT],
            stdout=sys.stderr,
            check=True,
        )
        complete.touch()
    return str(python)


def releases(python: str | None, no_reference: bool) -> list[Release]:
    """Those to be measured, in order; ours is the last.

    :param python: see `reference`
    :param no_reference: is ours the only one?
    """
    return [*([] if no_reference else [reference(python)]), ours()]
