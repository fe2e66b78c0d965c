"""A server and a gateway for each test that wants them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gateway.support import Place


@pytest.fixture
def empty_place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as undo:
        yield Place(tmp_path, undo)


@pytest.fixture
def place(empty_place: Place) -> Place:
    """A place with a server, and a gateway that takes anybody."""
    empty_place.start_server()
    empty_place.start_gateway()
    return empty_place
