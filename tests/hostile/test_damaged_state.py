"""State that is damaged: what can be read is used, and nothing is lost in silence.

Many places are damaged with the storage alone; some with the real command line.
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from spalloc_server.controller import Controller
from spalloc_server.storage import names
from spalloc_server.storage.lock_file import StateLock
from spalloc_server.storage.store import StateStore
from tests.hostile.damage import (
    LOCK,
    NAME,
    Damage,
    Image,
    Writer,
    cut,
    describe,
    flipped,
    zeroed,
)
from tests.recorded_bmps import BMPs
from tests.support import ONE_TRIAD, Client, ServerProcess, running_server

PAGE = 4096


@contextmanager
def opened(folder: Path) -> Iterator[StateStore]:
    with StateLock(str(folder / LOCK)) as lock:
        store = StateStore(str(folder / NAME))
        store.lock = lock
        with closing(store):
            yield store


def make_images(folder: Path, rng: random.Random) -> dict[str, Image]:
    """State of servers that were killed, and of such that were stopped."""
    writer = Writer(folder / "small", rng)
    writer.change(3)
    writer.snapshot()
    writer.change(12)
    killed = writer.killed(folder / "killed")
    stopped = writer.stopped()
    writer = Writer(folder / "written", rng, owner_length=2000)
    writer.change(5)
    writer.snapshot()
    writer.change(5)
    assert writer.store._journal is not None
    database = writer.store._journal._database
    assert database is not None
    # As SQLite does by itself when the log has grown long.
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    writer.change(3)
    checkpointed = writer.killed(folder / "checkpointed")
    writer.close()
    writer = Writer(folder / "large", rng, owner_length=10_000)
    writer.change(60)
    return {
        "killed": killed,
        "stopped": stopped,
        "killed after the log was emptied": checkpointed,
        "stopped with a snapshot of some parts": writer.stopped(),
    }


def damages(size: int, rng: random.Random, number: int) -> Iterator[tuple[str, Damage]]:
    """Ways to damage a file, so many of each kind, the beginning more than the rest."""
    edges = [p + at for p in range(0, size, PAGE) for at in (0, 5, 8, 24, 40)]
    places = [
        *rng.sample(range(min(100, size)), min(size, number)),
        *rng.sample(edges, min(len(edges), number)),
        *rng.choices(range(size), k=number),
    ]
    for offset in places:
        bit = rng.randrange(8)
        yield f"bit {bit} of byte {offset}", flipped(offset, bit)
    sizes = [0, 1, 32, 100, size - 1, size - PAGE, *rng.choices(range(size), k=number)]
    for left in rng.sample(sizes, min(len(sizes), number)):
        yield f"cut to {left} bytes", cut(max(0, left))
    pages = range(0, size, PAGE)
    for offset in rng.sample(pages, min(len(pages), number // 2)):
        yield f"zeros from {offset}", zeroed(offset, PAGE)
        sector = offset + 512 * rng.randrange(8)
        yield f"a sector of zeros at {sector}", zeroed(sector, 512)


class Trial:
    """One copy of an image, damaged and read."""

    def __init__(self, image: Image, folder: Path, log: pytest.LogCaptureFixture):
        self.image = image
        self.folder = folder
        self.log = log
        folder.mkdir()
        image.copy_to(folder)

    def _errors(self) -> list[str]:
        found = [r for r in self.log.records if r.levelno >= logging.ERROR]
        self.log.clear()
        return [record.getMessage() for record in found]

    def run(self, name: str, damage: Damage) -> None:
        """Damage a file, and see what becomes of that.

        :raises AssertionError: if it is not as it should be
        """
        file = self.folder / name
        damage(file)
        damaged = file.read_bytes()
        with opened(self.folder) as store:
            controller = store.restore()
            errors = self._errors()
            assert len(errors) <= 1, errors
            if controller is None:
                assert errors, "all is lost without a word"
                controller = Controller()
            else:
                # What was so at some moment, and nothing that never was.
                assert describe(controller) in self.image.history, "changed"
            if describe(controller) != self.image.history[-1]:
                assert errors, "something is lost without a word"
            if errors:
                asides = [*self.folder.glob("*.unreadable-*")]
                assert damaged in [path.read_bytes() for path in asides], errors
                assert any(str(path) in errors[0] for path in asides), errors
            left = describe(controller)
            store.open(controller)
            assert self._errors() == []
        # Told once. From now on it is state as any other.
        with opened(self.folder) as store:
            again = store.restore()
            assert again is not None
            assert describe(again) == left
            assert self._errors() == []


def try_all(
    tmp_path: Path, seed: object, number: int, log: pytest.LogCaptureFixture
) -> int:
    """Damage every file of every image in many ways; how many ways there were."""
    rng = random.Random(str(seed))
    failures = []
    count = 0
    for label, image in make_images(tmp_path, rng).items():
        for name in image.files:
            size = (image.folder / name).stat().st_size
            for what, damage in damages(size, rng, number):
                count += 1
                try:
                    Trial(image, tmp_path / f"copy {count}", log).run(name, damage)
                except Exception as e:
                    failures.append(f"{label}, {name}, {what}: {e!r}")
    assert not failures, "\n".join([f"seed {seed}", *failures])
    return count


def test_damage_anywhere_is_told_or_does_no_harm(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    assert try_all(tmp_path, 1, 12, caplog) > 200


@pytest.mark.slow
def test_damage_anywhere_with_a_seed_of_its_own(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    assert try_all(tmp_path, time.time_ns(), 60, caplog) > 1000


# What once kept a server from starting


@pytest.mark.parametrize(
    ("offset", "bit"),
    [
        pytest.param(47, 1, id="the format of the tables"),
        pytest.param(3792, 7, id="a table's definition, no longer UTF-8"),
    ],
)
def test_damage_that_sqlite_takes_for_something_else(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture, offset: int, bit: int
) -> None:
    image = make_images(tmp_path, random.Random(1))["killed"]
    Trial(image, tmp_path / "copy", caplog).run(NAME, flipped(offset, bit))


def test_a_new_file_that_is_damaged_is_not_dropped_in_silence(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    image = make_images(tmp_path, random.Random(1))["stopped"]
    whole = (image.folder / NAME).read_bytes()
    new = image.folder / (NAME + names.NEW)
    for offset in (*range(0, len(whole), 517), len(whole) - 1):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        new.write_bytes(damaged)
        new.chmod(0o600)
        caplog.clear()
        with opened(image.folder) as store:
            controller = store.restore()
            assert controller is not None
            assert describe(controller) == image.history[-1]
        assert not new.exists()
        messages = [r.getMessage() for r in caplog.records]
        if messages:
            (message,) = messages
            (aside,) = image.folder.glob("*.unreadable-*")
            assert str(aside) in message
            assert aside.read_bytes() == damaged
            aside.unlink()
        else:
            # Where nothing is, nothing is damaged.
            assert (image.folder / NAME).read_bytes() == damaged
        (image.folder / NAME).write_bytes(whole)
