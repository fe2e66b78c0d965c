"""Fixtures of several modules: a server with a client, and BMPs answered by hand."""

import contextlib
import gc
import importlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from spalloc_server import controller
from spalloc_server.server import SpallocServer
from tests.recorded_bmps import BMPs
from tests.support import Client, Site

_SIGNALS: dict[signal.Signals, Any] = {
    signal.SIGHUP: signal.SIG_DFL,
    signal.SIGINT: signal.default_int_handler,
    signal.SIGQUIT: signal.SIG_DFL,
    signal.SIGTERM: signal.SIG_DFL,
}
"""What a program starts with in a terminal."""

_MEMORY = "/dev/shm"
"""A file system in memory, for temporary files; ``TMPDIR`` says another folder."""

_ROOM = 1024**3
"""Bytes that have to be free there."""


def pytest_configure() -> None:
    """Start as in a terminal, whatever started the tests, and with what saves time.

    What ignores a signal hands that on to all that it starts, as nohup and some CI do:
    no test could then send it to a server.

    Where compiled modules are not to be kept, everything that a test starts would
    compile all it imports: half of the time of the tests.

    On a disk, tests wait for it most of the time: for every fsync of hundreds of
    servers. That files outlive a power cut, no test can show anyway.
    """
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    if "TMPDIR" not in os.environ and _has_room(_MEMORY):
        os.environ["TMPDIR"] = _MEMORY
        tempfile.tempdir = None
    for number, handler in _SIGNALS.items():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


def pytest_sessionstart(session: pytest.Session) -> None:
    """Prepare for reading the tests, in each process that does."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None and session.config.getoption("numprocesses", None):
        return
    from hypothesis import settings

    # How long an example takes says more of the other tests that run beside it.
    settings.register_profile("tests", deadline=None)
    settings.load_profile("tests")
    if worker is not None:
        # Looking for garbage among what is read would find none.
        gc.disable()
        _compile_share(
            int(worker.removeprefix("gw")), int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
        )


def _compile_share(worker: int, workers: int) -> None:
    """Compile a share of the tests.

    Each worker reads all tests, in the same order and at the same time. In a new
    checkout each would also compile all of them; so each begins at another place.
    """
    files = sorted(Path(__file__).parent.rglob("test_*.py"))
    share = len(files) // workers
    for file in files[share * worker : share * (worker + 1)]:
        name = file.relative_to(Path(__file__).parent.parent).with_suffix("")
        # What goes wrong is told where the tests are read.
        with contextlib.suppress(Exception, pytest.skip.Exception):
            importlib.import_module(".".join(name.parts))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each worker its share of the long tests, and not as its last.

    They mostly wait, so that others run beside them; but not beside one that is begun
    when all others are done. Workers begin with as many tests each, in this order
    (``--dist worksteal``), and one that has done its own takes over the last of others.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    long = [item for item in items if item.get_closest_marker("long")]
    rest = [item for item in items if not item.get_closest_marker("long")]
    # A browser is started by each worker that has tests of pages: so these come where
    # nobody takes them over.
    pages = Path(__file__).parent / "web"
    rest.sort(key=lambda item: pages not in item.path.parents)
    items.clear()
    left = len(long) + len(rest)
    for worker in range(workers):
        size = left // (workers - worker)
        left -= size
        share = long[worker::workers]
        number = max(0, size - len(share))
        others, rest = rest[:number], rest[number:]
        # From the beginning to the middle, or they would all wait at the same time.
        first = len(others) * worker // (2 * workers)
        items += [*others[:first], *share, *others[first:]]


def pytest_collection_finish() -> None:
    """Have nothing that is there from the start looked through for garbage."""
    gc.freeze()
    gc.enable()


def _has_room(folder: str) -> bool:
    """Can all temporary files be there, and be run?"""
    try:
        about = os.statvfs(folder)
    except OSError:
        return False
    free = about.f_bavail * about.f_frsize
    can_run = not about.f_flag & (os.ST_RDONLY | os.ST_NOEXEC)
    return can_run and free >= _ROOM and os.access(folder, os.W_OK | os.X_OK)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as undo:
        yield Site(tmp_path, undo)


@pytest.fixture
def running(site: Site) -> SpallocServer:
    return site.start()


@pytest.fixture
def client(site: Site, running: SpallocServer) -> Client:
    return site.connect(running)


@pytest.fixture
def bmps(monkeypatch: pytest.MonkeyPatch) -> BMPs:
    """All BMP controllers that controllers make from now on, in the test's hands."""
    recorded = BMPs()
    monkeypatch.setattr(controller, "AsyncBMPController", recorded.make)
    return recorded
