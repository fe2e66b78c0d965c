"""State that is damaged: what can be read is used, and nothing is lost in silence.

Many places are damaged with the storage alone; some with the real command line.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import resource
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
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
from tests.support import (
    ONE_TRIAD,
    TIMEOUT,
    Client,
    CommandError,
    ServerProcess,
    from_nothing,
    running_server,
    wait_until,
)

PAGE = 4096


@contextmanager
def opened(folder: Path) -> Iterator[StateStore]:
    with StateLock(str(folder / LOCK)) as lock:
        store = StateStore(str(folder / NAME))
        store.lock = lock
        with closing(store):
            yield store


def make_small_images(folder: Path, rng: random.Random) -> tuple[Image, Image]:
    """State of a server that was killed, and of one that was stopped."""
    writer = Writer(folder / "small", rng)
    writer.change(3)
    writer.snapshot()
    writer.change(12)
    killed = writer.killed(folder / "killed")
    return killed, writer.stopped()


def make_images(folder: Path, rng: random.Random) -> dict[str, Image]:
    """State of servers that were killed, and of such that were stopped."""
    killed, stopped = make_small_images(folder, rng)
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


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(5 * TIMEOUT)
def test_damage_anywhere_with_a_seed_of_its_own(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    assert try_all(tmp_path, time.time_ns(), 50, caplog) > 1000


@pytest.mark.parametrize("offset", [*range(0, 56, 3), 60, 1000, 4151, -1])
def test_a_bit_of_the_log_costs_no_more_than_its_commit(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture, offset: int
) -> None:
    image = make_small_images(tmp_path, random.Random(1))[0]
    flipped(offset, 4)(image.folder / f"{NAME}-wal")
    with opened(image.folder) as store:
        controller = store.restore()
        assert controller is not None
        # The log has each page as it was after every commit: of what is wrong in one,
        # the next one knows. So only the last can be lost.
        lost = 1 if offset == -1 else 0
        assert describe(controller) == image.history[-1 - lost]
    (message,) = [r.getMessage() for r in caplog.records if r.levelname == "ERROR"]
    assert ("its log is damaged" in message) == (not lost)
    assert ("Everything that was acknowledged could be read" in message) == (not lost)
    assert ("the last 1 commits are missing" in message) == bool(lost)


def test_frames_of_an_earlier_log_are_not_taken_for_its_own(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    """SQLite begins again at the front of the log, and leaves the rest as it is."""
    writer = Writer(tmp_path / "state", random.Random(1))
    writer.change(20)
    assert writer.store._journal is not None
    database = writer.store._journal._database
    assert database is not None
    # Written anew from the next commit on.
    database.execute("PRAGMA wal_checkpoint(RESTART)")
    writer.change(3)
    image = writer.killed(tmp_path / "killed")
    writer.close()
    flipped(0, 0)(image.folder / f"{NAME}-wal")
    with opened(image.folder) as store:
        controller = store.restore()
        assert controller is not None
        assert describe(controller) == image.history[-1]


# What once kept a server from starting


@pytest.mark.parametrize(
    ("offset", "bit"),
    [
        pytest.param(47, 1, id="the format of the tables"),
        pytest.param(3792, 7, id="a table's definition, no longer UTF-8"),
        pytest.param(3569, 1, id="a table's definition, of other columns"),
        pytest.param(3570, 3, id="a table's definition, of no such column"),
    ],
)
def test_damage_that_sqlite_takes_for_something_else(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture, offset: int, bit: int
) -> None:
    image = make_small_images(tmp_path, random.Random(1))[0]
    Trial(image, tmp_path / "copy", caplog).run(NAME, flipped(offset, bit))


def test_a_new_file_that_is_damaged_is_not_dropped_in_silence(
    tmp_path: Path, bmps: BMPs, caplog: pytest.LogCaptureFixture
) -> None:
    image = make_small_images(tmp_path, random.Random(1))[1]
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


# The real command line


OWNERS = ["alice", "bob", "carol", "dave", "erin"]


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a server has left that was killed, and one that was stopped."""
    folder = tmp_path_factory.mktemp("left")
    for way in ("killed", "stopped"):
        (folder / way).mkdir()
        with running_server(ONE_TRIAD, "--simulate", folder=folder / way) as server:
            make_jobs(server, OWNERS[:2])
            assert server.stop() == 0
        with running_server(folder / way / "spalloc.cfg", "--simulate") as server:
            make_jobs(server, OWNERS[2:])
            assert server.stop(
                signal.SIGKILL if way == "killed" else signal.SIGTERM
            ) in (
                0,
                -signal.SIGKILL,
            )
    return folder


def copy(folder: Path, to: Path) -> None:
    """Copy what a server has left, but for its sockets."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns("*.admin"))


def make_jobs(server: ServerProcess, owners: list[str]) -> None:
    with Client(server.port) as client:
        for owner in owners:
            client.call("create_job", owner=owner, keepalive=None)


def owners_of(server: ServerProcess) -> list[str]:
    with Client(server.port) as client:
        return [job["owner"] for job in client.call("list_jobs")]


def is_created(client: Client) -> bool:
    client.send_command("create_job", owner="late", keepalive=None)
    reply = client.reply()
    assert "return" in reply or "it cannot be stored" in reply["exception"]
    return "return" in reply


LOG = f"{NAME}-wal"

CASES: list[tuple[str, str, str, Damage]] = [
    ("killed", LOG, "the first bit", flipped(0, 0)),
    ("killed", LOG, "a bit of the first frame's header", flipped(36, 3)),
    ("killed", LOG, "a bit of the first commit", flipped(32 + 24 + 4000, 2)),
    ("killed", LOG, "a bit of the last commit", flipped(-40, 2)),
    ("killed", LOG, "its half", lambda f: os.truncate(f, f.stat().st_size // 2)),
    ("killed", LOG, "all of it", cut(0)),
    ("killed", LOG, "a block of zeros", zeroed(PAGE, PAGE)),
    ("killed", NAME, "the first bit", flipped(0, 0)),
    ("killed", NAME, "the format of its tables", flipped(47, 1)),
    ("killed", NAME, "its first page", zeroed(0, PAGE)),
    ("killed", NAME, "all of it", cut(0)),
    ("stopped", NAME, "the first bit", flipped(0, 0)),
    ("stopped", NAME, "a bit of the snapshot", flipped(-40, 3)),
    ("stopped", NAME, "its first page", zeroed(0, PAGE)),
    ("stopped", NAME, "its half", lambda f: os.truncate(f, f.stat().st_size // 2)),
    ("stopped", NAME, "all of it", cut(0)),
]

QUICK = (0, 2, 5, 8, 12, 13)


@pytest.mark.parametrize(
    ("way", "name", "damage"),
    [
        pytest.param(
            way,
            name,
            damage,
            id=f"{way}, {'the log' if name == LOG else 'the file'}, {what}",
            marks=() if number in QUICK else pytest.mark.slow,
        )
        for number, (way, name, what, damage) in enumerate(CASES)
    ],
)
def test_a_server_starts_on_damaged_state_and_says_what_is_missing(
    tmp_path: Path, left: Path, way: str, name: str, damage: Damage
) -> None:
    folder = tmp_path / "folder"
    copy(left / way, folder)
    damage(folder / name)
    damaged = (folder / name).read_bytes()
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        owners = owners_of(server)
        assert owners == OWNERS[: len(owners)]
        errors = [line for line in server.log.splitlines() if " ERROR " in line]
        assert "Traceback" not in server.log
        assert len(errors) <= 1
        if owners != OWNERS:
            (error,) = errors
            assert "may be missing" in error or "None of it can be used" in error
        if errors:
            asides = [*folder.glob("*.unreadable-*")]
            assert damaged in [path.read_bytes() for path in asides]
            assert f"kept as {folder / NAME}.unreadable-" in errors[0]
        # It serves, and what it promises now it keeps.
        make_jobs(server, ["late"])
        server.kill()
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == [*owners, "late"]
        assert server.stop() == 0
        assert " ERROR " not in server.log


def test_the_lock_file_has_nothing_that_is_needed(tmp_path: Path, left: Path) -> None:
    folder = tmp_path / "folder"
    copy(left / "killed", folder)
    zeroed(0, 100)(folder / LOCK)
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == OWNERS
        assert " ERROR " not in server.log


def test_state_of_a_newer_version_only_is_said_and_kept(
    tmp_path: Path, left: Path
) -> None:
    folder = tmp_path / "folder"
    copy(left / "stopped", folder)
    newer = folder / ".spalloc.cfg.state.99.1"
    (folder / NAME).rename(newer)
    contents = newer.read_bytes()
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == []
        (error,) = [line for line in server.log.splitlines() if " ERROR " in line]
        assert "is from a newer version, 99.1, which this one cannot read" in error
        (aside,) = folder.glob("*.out-of-date-*")
        assert f"it is kept as {aside}" in error
        assert aside.read_bytes() == contents
        assert server.stop() == 0


def fifo(path: Path) -> None:
    os.mkfifo(path)


def folder_there(path: Path) -> None:
    (path / "inside").mkdir(parents=True)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def loop(path: Path) -> None:
    path.symlink_to(path)


def unix_socket(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFSOCK)


THINGS = [
    fifo,
    loop,
    *(
        pytest.param(thing, marks=pytest.mark.slow)
        for thing in (folder_there, device, unix_socket)
    ),
]


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_something_else_in_the_place_of_the_state_is_said_at_once(
    tmp_path: Path, left: Path, thing: Callable[[Path], None], suffix: str
) -> None:
    folder = tmp_path / "folder"
    copy(left / "stopped", folder)
    place = folder / (NAME + suffix)
    place.unlink(missing_ok=True)
    thing(place)
    # It is somebody's doing, so the server does not start without the jobs.
    server = ServerProcess(folder / "spalloc.cfg", ("--simulate", "--port", "0"))
    try:
        assert server.wait() == 1
    finally:
        server.kill()
    [*_, line] = server.log.splitlines()
    assert f"state file {place} is not a regular file" in line
    assert "Traceback" not in server.log
    assert os.path.lexists(place)


@pytest.mark.parametrize("thing", THINGS)
@pytest.mark.parametrize(
    "name", [f"{NAME}.new", f"{NAME}-journal", f"{NAME}.new-wal", f"{NAME}.journal-wal"]
)
def test_something_else_beside_the_state_does_no_harm(
    tmp_path: Path, left: Path, thing: Callable[[Path], None], name: str
) -> None:
    folder = tmp_path / "folder"
    copy(left / "killed", folder)
    thing(folder / name)
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == OWNERS
        make_jobs(server, ["late"])
        assert server.stop() == 0
        assert "Traceback" not in server.log
        assert " ERROR " not in server.log
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == [*OWNERS, "late"]


def test_names_that_only_look_like_state_are_left_alone(
    tmp_path: Path, left: Path
) -> None:
    folder = tmp_path / "folder"
    copy(left / "killed", folder)
    strangers = [
        *(
            "1.²",
            "1.x",
            "1..0",
            "",
            "1.0.0.bak",
            "\u0663.\u0661",
            "1.-1",
            "9" * 200,
            "1.0.0-wal2",
        ),
    ]
    for version in strangers:
        path = folder / f".spalloc.cfg.state.{version}"
        fifo(path)
    with running_server(folder / "spalloc.cfg", "--simulate") as server:
        assert owners_of(server) == OWNERS
        assert server.stop() == 0
        assert " ERROR " not in server.log
    for version in strangers:
        assert (folder / f".spalloc.cfg.state.{version}").is_fifo()


# No room at the start


@contextmanager
def no_room_for_files(folder: Path) -> Iterator[Callable[[ServerProcess], None]]:
    """Have processes that are started now write no file beyond a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (512, hard))

    def relieve(server: ServerProcess) -> None:
        pid = server.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    try:
        yield relieve
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def full_disk(folder: Path) -> Iterator[Callable[[ServerProcess], None]]:
    """Have the folder on a file system without any room, if that can be had."""
    small = folder.with_name("small")
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    filler = small / "filler"
    try:
        for path in folder.iterdir():
            shutil.move(path, small / path.name)
        folder.rmdir()
        folder.symlink_to(small)
        with contextlib.suppress(OSError), open(filler, "wb", buffering=0) as file:
            while file.write(bytes(PAGE)):
                pass
        yield lambda _: filler.unlink()
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


def create_until_refused(client: Client, owners: list[str]) -> None:
    """Create jobs; a log that was there may have left room for some."""
    for number in range(10_000):
        client.call("create_job", owner=str(number), keepalive=None)
        owners.append(str(number))


@pytest.mark.parametrize("no_room", [no_room_for_files, full_disk])
@pytest.mark.parametrize("way", ["killed", "stopped"])
def test_a_server_that_starts_without_room_serves_and_recovers(
    tmp_path: Path,
    left: Path,
    way: str,
    no_room: Callable[[Path], AbstractContextManager[Callable[[ServerProcess], None]]],
) -> None:
    folder = tmp_path / "folder"
    copy(left / way, folder)
    with no_room(folder) as relieve:
        with (
            from_nothing(folder / "spalloc.cfg", "--simulate") as server,
            Client(server.port) as client,
        ):
            assert owners_of(server) == OWNERS
            expected = list(OWNERS)
            with pytest.raises(CommandError, match="it cannot be stored"):
                create_until_refused(client, expected)
            assert owners_of(server) == expected
            relieve(server)
            wait_until(lambda: is_created(client))
            server.kill()
            assert "Traceback" not in server.log
        with running_server(folder / "spalloc.cfg", "--simulate") as server:
            assert owners_of(server) == [*expected, "late"]
            assert server.stop() == 0
