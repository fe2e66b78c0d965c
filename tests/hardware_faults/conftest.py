"""Fixtures of the tests of hardware faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hardware_faults.machine_room import Room, open_room
from tests.support import Client


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    with open_room(tmp_path) as room:
        yield room


@pytest.fixture(scope="module")
def client_of_a_room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client of a server with one machine, shared by tests that change nothing."""
    with open_room(tmp_path_factory.mktemp("room")) as room:
        room.add()
        yield room.start()
