"""Make a controller of a snapshot and of what came after it, as far as that goes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from spalloc_server.controller import Controller
from spalloc_server.model.changes import ReplayError
from spalloc_server.storage.files import StateFileError
from spalloc_server.storage.plain_pickle import PickleRefusedError


@dataclass
class Restored:
    """What was found."""

    controller: Controller | None = None
    """None where there is nothing that can be used."""
    sound: bool = False
    """Can the state file in place be gone on with, as it is?"""
    identity: int = 0
    """Of that file."""
    snapshot: int = 0
    """The number of the snapshot in it."""
    number: int = 0
    """The number of its last commit."""
    length: int = 0
    """How many records it has since the snapshot."""
    after: int = 0
    """The number of the last commit that is in the snapshot."""
    superseded: list[str] = field(default_factory=list)
    """Files to be removed when a new state file is in place."""
    keep_old: bool = False
    """Is a damaged file still to be moved aside before it is replaced?"""


class Recorded(Protocol):
    """What came after a snapshot."""

    @property
    def begun_at(self) -> float | None:
        """When the snapshot was made, in seconds since 1970; None if not known."""

    def records(self) -> Iterator[list[Any]]:
        """The records, in order, up to the first that is damaged."""

    def records_after(self, done: int) -> Iterator[list[Any]]:
        """All that can be read but the first so many records."""


def loader(
    read: Callable[[bytes], Any], contents: bytes, problems: list[str]
) -> Callable[[], Controller] | None:
    """What makes controllers of a snapshot, None if that is not possible."""
    first: list[Controller] = []

    def make() -> Controller:
        return Controller.restored(read(contents))

    def load() -> Controller:
        return first.pop() if first else make()

    try:
        first.append(make())
    except PickleRefusedError as e:
        problems.append(f"the snapshot is refused: {e}")
    except (MemoryError, OSError) as e:  # no fault of the file: keep it in place
        raise StateFileError(f"cannot restore the state: {e or 'no memory'}") from e
    except Exception as e:
        problems.append(f"the snapshot cannot be used: {type(e).__name__}: {e}")
    else:
        return load
    return None


def replayed(
    load: Callable[[], Controller], journal: Recorded, problems: list[str]
) -> tuple[Controller, Iterable[list[Any]], int]:
    """Do what the journal says, as far as that goes.

    :param load: makes the controller that it goes on from, as often as it is asked to
    :param problems: what is wrong is added to it
    :return: the controller, the records that it does not have, and how many it has
    """
    controller = load()
    count = itertools.count()
    try:
        controller.replay(
            record for record, _ in zip(journal.records(), count, strict=False)
        )
        done = next(count)
    except ReplayError as e:
        problems.append(f"a change cannot be replayed: {e}")
        done = e.done
        controller = load()
        controller.replay(itertools.islice(journal.records(), done))
    return controller, journal.records_after(done), done


def last_time(journal: Recorded, done: int) -> float | None:
    """When the last change was made that is known, by the clock of that time.

    :param done: how many of its records are known
    """
    latest = None
    for record in itertools.islice(journal.records(), max(0, done - 1), done):
        latest = record[1]
    return journal.begun_at if latest is None else latest
