"""Keep what is damaged, and say what is missing because of that."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from typing import Any

from spalloc_server.storage import files, names

logger = logging.getLogger(__name__)


def keep_damaged(
    filename: str,
    problems: list[str],
    rest: Iterable[list[Any]],
    since: float | None,
    usable: bool,
    complete: bool = False,
) -> bool:
    """Copy damaged files, and say what is missing.

    :param problems: what is wrong with them
    :param rest: changes that can be read, but not be done
    :param since: when the last change was made that is done, in seconds since 1970
        (UTC); None if that is not known
    :param usable: is anything of it used?
    :param complete: is all there that was ever promised?
    :return: whether there was room for that
    """
    parts = [names.OLD_JOURNAL, f"{names.OLD_JOURNAL}-wal", "-wal"]
    kept = True
    try:
        aside = files.copy_aside([filename, *(filename + part for part in parts)])
    except OSError as e:
        kept = False
        aside = f"{filename}.unreadable-... as soon as a new one can be written"
        logger.warning("Cannot copy %s: %s", filename, e.strerror)
    lost = list(rest)
    where = ""
    if lost:
        try:
            name = _write_lines(filename, lost)
        except OSError as e:
            name = f"(no room to keep them: {e.strerror})"
        where = f"; {len(lost)} changes that could not be replayed are in {name}"
    logger.error(
        "State file %s is damaged (%s); it is kept as %s. %s%s",
        filename,
        "; ".join(problems),
        aside,
        _loss(since, usable, complete),
        where,
    )
    return kept


def _loss(since: float | None, usable: bool, complete: bool) -> str:
    if not usable:
        return "None of it can be used: the server starts without it"
    if complete:
        return "Everything that was acknowledged could be read, and is used"
    return f"Changes made after {_date(since)} may be missing; everything else is used"


def _date(seconds: float | None) -> str:
    if seconds is None:
        return "it was written"
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def _write_lines(filename: str, records: Iterator[Any] | list[Any]) -> str:
    name = files.unused_name(filename)
    fd = files.create(name)
    with os.fdopen(fd, "w", encoding="utf-8") as file:
        for record in records:
            file.write(f"{json.dumps(record)}\n")
        file.flush()
        os.fsync(file.fileno())
    return name
