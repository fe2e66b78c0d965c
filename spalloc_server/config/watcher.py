"""Tells when the config file has been written and closed, or replaced."""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Iterator
from typing import Final, TypeAlias

from inotify_simple import INotify, flags

logger = logging.getLogger(__name__)

MOST_LINKS: Final = 40
"""How many symbolic links the system follows."""

_EVENTS: Final = flags.CLOSE_WRITE | flags.MOVED_TO | flags.CREATE

_Signature: TypeAlias = tuple[object, ...]
"""Is another one for another version of a file."""


class ConfigWatcher:
    """Watches a file through inotify. Its descriptor is readable on any news.

    Watched are folders: that of the file, and that of each symbolic link on the way to
    it, be it to the file or to a folder. Editors and deployment tools replace files and
    links, and a watch on a file would stay with the old one. What the system does not
    tell of (a folder that was away for a while, a disk of another computer) is found by
    `look`. For one thread.

    :raises OSError: where a folder cannot be watched
    """

    def __init__(self, filename: str) -> None:
        self._filename = os.path.abspath(filename)
        self._inotify = INotify(nonblocking=True)
        self._names: dict[int, set[str]] = {}
        # What is there, as far as it was told of; and what the last look has found.
        self._told: _Signature | None = None
        self._seen: _Signature | None = None
        self._problem = ""
        try:
            self._watch()
        except OSError:
            self.close()
            raise
        self._told = self._seen = self._signature()

    def fileno(self) -> int:
        """The file descriptor to wait for."""
        return int(self._inotify.fileno())

    def has_changed(self) -> bool:
        """Take the news that there are: is there a new version of the file?

        A file that is being written is no new version until it has been closed.
        """
        changed = False
        for event in self._inotify.read(timeout=0):
            if event.mask & flags.Q_OVERFLOW:
                changed = True
            elif event.mask & flags.IGNORED:
                if self._names.pop(event.wd, None):
                    logger.warning("The folder of %s is gone", self._filename)
            elif event.name in self._names.get(event.wd, ()):
                changed = changed or not (event.mask & flags.CREATE) or self._is_whole()
        if changed:
            # A link may lead elsewhere now.
            self._watch_again()
            self._told = self._seen = self._signature()
        return changed

    def look(self) -> bool:
        """Look at the file itself: is there a new version, of which nothing has told?

        To be called every few seconds; it has to look the same twice, since it may be
        in the course of being written.
        """
        self._watch_again()
        signature = self._signature()
        settled, self._seen = signature == self._seen, signature
        if not settled or signature is None or signature == self._told:
            return False
        self._told = signature
        return True

    def _is_whole(self) -> bool:
        """Is a name that has just come up that of something that is there already?

        A link is; a file that was just made is still to be written and closed.
        """
        try:
            status = os.lstat(self._filename)
            if stat.S_ISLNK(status.st_mode):
                return os.path.exists(self._filename)
            # Its folder came with it, or the name is one more of an older file.
            return status.st_nlink > 1
        except OSError:
            return False

    def _signature(self) -> _Signature | None:
        """What tells one version of the file from another; None for no file."""
        try:
            status = os.stat(self._filename)
        except OSError:
            return None
        readable = os.access(self._filename, os.R_OK)
        return (
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            readable,
        )

    def _watch_again(self) -> None:
        """Watch what is on the way now; what cannot be is tried again the next time."""
        try:
            self._watch()
            if self._problem:
                logger.warning("Watching %s again", self._filename)
            self._problem = ""
        except OSError as e:
            problem = e.strerror or str(e)
            if problem != self._problem:
                logger.warning(
                    "Cannot watch %s (%s); checking it every few seconds instead",
                    self._filename,
                    problem,
                )
            self._problem = problem

    def _watch(self) -> None:
        wanted: dict[int, set[str]] = {}
        for folder, name in _places(self._filename):
            # A folder that is watched already keeps its watch descriptor.
            watch = self._inotify.add_watch(folder, _EVENTS | flags.ONLYDIR)
            wanted.setdefault(watch, set()).add(name)
        for watch in self._names.keys() - wanted.keys():
            try:
                self._inotify.rm_watch(watch)
            except OSError as e:
                if e.errno != errno.EINVAL:  # gone with its folder
                    raise
        self._names = wanted

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()


def _places(filename: str) -> Iterator[tuple[str, str]]:
    """The folder and the name of each link on the way to a file, and of the file.

    :param filename: an absolute path
    :raises OSError: where links lead in a circle
    """
    rest = filename.split("/")[::-1]
    folder = "/"
    links = 0
    while rest:
        name = rest.pop()
        if name in ("", "."):
            continue
        if name == "..":
            folder = os.path.dirname(folder)
            continue
        path = os.path.join(folder, name)
        try:
            target = os.readlink(path)
        except OSError:  # it is none, or is not there
            if not rest:
                yield folder, name
            folder = path
            continue
        yield folder, name
        links += 1
        if links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), filename)
        rest += target.split("/")[::-1]
        if target.startswith("/"):
            folder = "/"
