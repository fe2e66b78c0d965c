"""Whose jobs were: the server forgets the owners of those that have ended."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from collections.abc import Callable
from typing import Final, NamedTuple, TypeAlias

logger = logging.getLogger(__name__)

MAX_REMEMBERED: Final = 10_000
"""Of how many jobs the owner is remembered."""


_Write: TypeAlias = Callable[[str], object]


CLOCK_SECONDS: Final = 1.0
"""By how much two times have to differ to be taken for different ones."""


class _Record(NamedTuple):
    owner: str
    started: float
    """Seconds since 1970."""


class Owners:
    """Remembers the owners of jobs, in a file too, over restarts of the gateway.

    What cannot be written is remembered as long as the gateway runs. For one thread.
    """

    def __init__(self, path: str | None = None, limit: int = MAX_REMEMBERED) -> None:
        """Read the file, as far as it can be read.

        :param path: where it is, or is to be; None to have none
        :param limit: of how many jobs the owner is remembered
        :raises OSError: if it cannot be read or written
        """
        self._path = path
        self._limit = limit
        self._records: dict[int, _Record] = {}
        self._lines = 0
        self._has_failed = False
        if path is not None:
            with contextlib.suppress(FileNotFoundError):
                self._read(path)
            self._write_all(path)

    def find(self, job_id: int) -> str | None:
        """The owner of a job, None if that is not known."""
        record = self._records.get(job_id)
        return None if record is None else record.owner

    def note(self, job_id: int, owner: str, started: float) -> bool:
        """A job is there, and has an owner.

        :param started: when it began, in seconds since 1970
        :return: is that of another server, which counts jobs from the beginning? All
            others are forgotten then
        """
        record = _Record(owner, started)
        if self._records.get(job_id) == record:
            return False
        is_anew = self._is_anew(job_id, started)
        if is_anew:
            self._records.clear()
        self._add(job_id, record)
        if is_anew or self._lines >= 2 * self._limit:
            self._attempt(self._write_all)
        else:
            self._attempt(lambda path: self._append(path, job_id))
        return is_anew

    def _is_anew(self, job_id: int, started: float) -> bool:
        """Are there jobs with later numbers, or this one, which began before it?"""
        if self._records and job_id > next(reversed(self._records)):
            return False  # the usual case
        return any(
            number >= job_id and record.started < started - CLOCK_SECONDS
            for number, record in self._records.items()
        )

    def _add(self, job_id: int, record: _Record) -> None:
        self._records[job_id] = record
        if len(self._records) > self._limit:
            del self._records[next(iter(self._records))]

    def _read(self, path: str) -> None:
        with open(path, encoding="utf-8", errors="replace") as file:
            for line in file:
                # One that is damaged is left out.
                with contextlib.suppress(ValueError, TypeError):
                    job_id, owner, started = json.loads(line)
                    if isinstance(owner, str):
                        self._add(int(job_id), _Record(owner, float(started)))

    def _append(self, path: str, job_id: int) -> None:
        with open(path, "a", encoding="utf-8", opener=_opener) as file:
            file.write(self._line(job_id))
        self._lines += 1

    def _write_all(self, path: str) -> None:
        """Write the file anew, beside the old one, so that there is always one."""
        temporary = f"{path}.new"
        with open(temporary, "w", encoding="utf-8", opener=_opener) as file:
            file.writelines(map(self._line, self._records))
        os.replace(temporary, path)
        self._lines = len(self._records)

    def _line(self, job_id: int) -> str:
        return json.dumps([job_id, *self._records[job_id]]) + "\n"

    def _attempt(self, write: _Write) -> None:
        if self._path is None:
            return
        try:
            write(self._path)
        except OSError as e:
            if not self._has_failed:
                logger.error("%s: %s", self._path, e.strerror)
            self._has_failed = True
        else:
            self._has_failed = False


def _opener(path: str, flags: int) -> int:
    """Open a file that nobody else may read."""
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
