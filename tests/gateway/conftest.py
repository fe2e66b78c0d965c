"""A server and a gateway: shared by the tests of a module, or a test's own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.gateway.support import Place, SharedPlace


@pytest.fixture
def empty_place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as undo:
        yield Place(tmp_path, undo)


@pytest.fixture(scope="module")
def shared_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedPlace]:
    with SharedPlace(lambda: tmp_path_factory.mktemp("place")) as shared:
        yield shared


@pytest.fixture(scope="module")
def shared_impatient_place(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[SharedPlace]:
    program = "tests.gateway.impatient"
    with SharedPlace(lambda: tmp_path_factory.mktemp("impatient"), program) as shared:
        yield shared


@pytest.fixture
def place(shared_place: SharedPlace) -> Iterator[Place]:
    """A place with a server, and a gateway that takes anybody; there are no jobs."""
    yield shared_place.ready()
    shared_place.tidy()


@pytest.fixture
def impatient_place(shared_impatient_place: SharedPlace) -> Iterator[Place]:
    """The same with a gateway that waits for less: see `tests.gateway.impatient`."""
    yield shared_impatient_place.ready()
    shared_impatient_place.tidy()
