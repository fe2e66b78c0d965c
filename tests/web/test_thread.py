"""A web thread that fails takes nothing else with it."""

import logging
import socket
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from spalloc_server.web import thread
from spalloc_server.web.connections import Connections
from spalloc_server.web.feed import Feed
from spalloc_server.web.sampler import Sampler
from tests.support import Client, Site, wait_until
from tests.web.test_app import WebServer


def fail(*_args: object) -> NoReturn:
    raise RuntimeError("no luck")


async def fail_later(*_args: object) -> NoReturn:
    raise RuntimeError("no luck")


@pytest.mark.parametrize(
    ("owner", "name", "failing"),
    [
        (thread, "make_app", fail),
        (Feed, "run", fail_later),
        (Sampler, "run", fail_later),
        (Connections, "run", fail_later),
    ],
)
def test_pages_that_cannot_be_served(
    owner: object,
    name: str,
    failing: Callable[..., object],
    site: Site,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(owner, name, failing)
    site.simulator.add_frame("10.11.12.0")
    server = WebServer(str(site.config), tmp_path)
    with Client(server.address[1]) as client:
        assert client.call("list_jobs") == []
        listening = server.web._socket
        assert listening is not None
        wait_until(lambda: listening.fileno() == -1)
        assert client.call("list_jobs") == []
    server.stop_and_join()
    assert not server.failed
    errors = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert [r.getMessage() for r in errors] == [
        "Unexpected error, no web pages are served any more"
    ]


def test_the_port_is_free_again_after_the_end(site: Site, tmp_path: Path) -> None:
    site.simulator.add_frame("10.11.12.0")
    server = WebServer(str(site.config), tmp_path)
    port = server.web_port
    server.stop_and_join()
    socket.create_server(("127.0.0.1", port)).close()
