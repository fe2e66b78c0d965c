"""State as servers leave it behind, and what can happen to a file."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from spalloc_server.controller import Controller
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.store import StateStore
from tests.recorded_bmps import machine

NAME = ".spalloc.cfg.state.1.0.0"
LOCK = ".spalloc.cfg.state.lock"

Described = dict[str, Any]


def describe(controller: Controller) -> Described:
    """All that was acknowledged of jobs."""
    return {
        "jobs": [job._replace(keepalivehost="") for job in controller.list_jobs()],
        "retired": dict(controller._state.retired_jobs),
        "next": controller._state.next_id,
    }


class Image(NamedTuple):
    """The files that a server has left, and what it had acknowledged."""

    folder: Path
    history: list[Described]
    """After every change, the first before any; the last is what was acknowledged."""

    @property
    def files(self) -> list[str]:
        """The names of the state's files, without the lock file."""
        return sorted(path.name for path in self.folder.iterdir() if path.name != LOCK)

    def copy_to(self, folder: Path) -> None:
        """Put the files into an empty folder, as they were."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)


class Writer:
    """A server's storage without the server: makes changes as the server does."""

    def __init__(self, folder: Path, rng: random.Random, owner_length: int = 5) -> None:
        folder.mkdir()
        self.folder = folder
        self._rng = rng
        self._owner_length = owner_length
        self.controller = Controller()
        self.controller.machines = {"m": machine(width=3)}
        self._lock = StateLock(str(folder / LOCK))
        self.store = StateStore(str(folder / NAME))
        self.store.lock = self._lock
        self.store.open(self.controller)
        self.history = [describe(self.controller)]

    def change(self, number: int = 1) -> None:
        """Have jobs created and, some of them, destroyed, each in its own commit."""
        for _ in range(number):
            jobs = self.controller.list_jobs()
            if len(jobs) > 3 and self._rng.random() < 0.3:
                job = self._rng.choice(jobs)
                record = ["destroy_job", 12.5, None, job.job_id, f"for {job.owner}"]
            else:
                owner = "".join(self._rng.choices("abcdefgh", k=self._owner_length))
                options = {"owner": owner, "keepalive": 60.0}
                record = ["create_job", 12.5, "1.1.1.1", [1], options]
            self.store.commit([record])
            self.controller.replay([record])
            self.history.append(describe(self.controller))

    def snapshot(self) -> None:
        """Write all that is in memory as a snapshot."""
        assert self.store.snapshot(self.controller)

    def killed(self, folder: Path) -> Image:
        """The files as they are at this moment."""
        shutil.copytree(self.folder, folder)
        return Image(folder, list(self.history))

    def close(self) -> None:
        """Let go of the files."""
        self.store.close()
        self._lock.release()

    def stopped(self) -> Image:
        """The files after an orderly end."""
        assert self.store.finish(self.controller)
        self.close()
        return Image(self.folder, self.history[-1:])


Damage = Callable[[Path], object]


def flipped(offset: int, bit: int) -> Damage:
    """Flip one bit, of a byte from the end if the offset is negative."""

    def damage(file: Path) -> None:
        contents = bytearray(file.read_bytes())
        contents[offset] ^= 1 << bit
        file.write_bytes(contents)

    return damage


def cut(size: int) -> Damage:
    """Leave only so many bytes."""
    return lambda file: os.truncate(file, size)


def zeroed(offset: int, length: int) -> Damage:
    """Have zeros in place of a block, as a disk that has lost one."""

    def damage(file: Path) -> None:
        length_there = max(0, min(length, file.stat().st_size - offset))
        with open(file, "r+b") as opened:
            os.pwrite(opened.fileno(), bytes(length_there), offset)

    return damage
