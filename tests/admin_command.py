"""The real ``spalloc_server_admin``, in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from tests import forked_process
from tests.support import ServerProcess


def run_admin(*arguments: object, umask: int = -1) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    return forked_process.run(
        "spalloc_server.command_line.admin:main",
        *arguments,
        environment={**os.environ, "TZ": "UTC"},
        umask=umask,
    )


def run_check(
    config: Path, *options: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``spalloc_server --check``."""
    return forked_process.run("spalloc_server", "--check", config, *options, folder=cwd)


class Admin:
    """The command, for one server."""

    def __init__(self, server: ServerProcess) -> None:
        self.config = server.config_file

    def run(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return run_admin("--config", self.config, *arguments)

    def text(self, *arguments: object) -> str:
        """What it prints; it has to succeed."""
        done = self.run(*arguments)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout

    def value(self, *arguments: object) -> Any:
        """What it prints as JSON; it has to succeed."""
        printed = self.text(*arguments, "--json")
        assert printed.count("\n") == 1
        return json.loads(printed)

    def refusal(self, *arguments: object) -> str:
        """The one line that says why it cannot be done."""
        done = self.run(*arguments)
        assert (done.returncode, done.stdout) == (1, ""), done
        assert done.stderr.count("\n") == 1
        return done.stderr.removeprefix("spalloc_server_admin: ").rstrip("\n")

    def machine(self, name: str = "m") -> Any:
        """What the status says of a machine."""
        (found,) = [m for m in self.value("status")["machines"] if m["name"] == name]
        return found
