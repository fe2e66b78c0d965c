"""One browser and one server for as many tests of the page as possible."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from tests.support import Client, ServerProcess, ready, running_server, wait_until
from tests.web.browser import Browser, browser
from tests.web.scenes import OWNERS, SITE, write_history


@pytest.fixture(scope="session")
def opened() -> Iterator[Browser]:
    with browser() as one:
        yield one


@pytest.fixture
def page(opened: Browser) -> Iterator[Browser]:
    """A page as large as a desktop's; the browser must have nothing to complain of."""
    opened.shape(1280, 1000)
    opened.prefer("light")
    opened.complaints()
    yield opened
    assert opened.complaints() == []
    opened.driver.get("about:blank")


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Machines of 1,200, 24, 3 and 1 boards, and many jobs on the largest; a week of
    history. Others than that machine are left as they were found.
    """
    folder = tmp_path_factory.mktemp("site")
    write_history(str(folder / "spalloc.cfg"))
    options = ("--simulate", "--http", "0")
    with running_server(SITE, *options, folder=folder) as server:
        with Client(server.port) as client:
            for i in range(200):
                size = ((), (3,), (2, 2), (5,), (12,))[i % 5]
                owner = OWNERS[i % len(OWNERS)]
                client.call("create_job", *size, owner=owner, keepalive=None)
            for _ in range(5):
                owner = "big@example.org"
                client.call("create_job", 20, 20, owner=owner, keepalive=None)
            wait_until(lambda: all(ready(client, job_id) for job_id in (1, 100)))
        yield server


@pytest.fixture
def caller(shared: ServerProcess) -> Iterator[Client]:
    with Client(shared.port) as client:
        yield client


@pytest.fixture
def url(shared: ServerProcess) -> str:
    return url_of(shared)


def url_of(server: ServerProcess) -> str:
    return server.wait_for_log(r"Serving (http://127\.0\.0\.1:\d+)/")[1]


@pytest.fixture
def create(caller: Client) -> Iterator[Callable[..., int]]:
    """Creates jobs, which end with the test."""
    made = []

    def one(*size: int, **demands: object) -> int:
        made.append(int(caller.call("create_job", *size, **demands)))
        return made[-1]

    yield one
    for job in reversed(made):
        with contextlib.suppress(KeyError):
            caller.call("destroy_job", job)
