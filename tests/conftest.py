"""Fixtures of several test modules: a server in this process, and a client of it."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from spalloc_server.server import SpallocServer
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
