"""Fixtures of several modules: a server with a client, and BMPs answered by hand."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from spalloc_server import controller
from spalloc_server.server import SpallocServer
from tests.recorded_bmps import BMPs
from tests.support import Client, Site


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
