"""Tells when the config file has been written and closed, or replaced."""

import contextlib
import logging
import os

from inotify_simple import INotify, flags

logger = logging.getLogger(__name__)


class ConfigWatcher:
    """Watches a file through inotify. Its descriptor is readable on any news.

    Watched are folders, that of the file and, where it is a symbolic link, that of
    its target: editors and deployment tools replace files, and a watch on a file
    would stay with the old one. For one thread. Raises :py:exc:`OSError` where a
    folder cannot be watched.
    """

    def __init__(self, filename: str) -> None:
        self._filename = os.path.abspath(filename)
        self._inotify = INotify(nonblocking=True)
        self._names: dict[int, set[str]] = {}
        try:
            self._watch()
        except OSError:
            self.close()
            raise

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
                logger.warning("The folder of %s is gone", self._filename)
            elif event.name in self._names.get(event.wd, ()):
                changed = True
        if changed:
            # The link may lead elsewhere now.
            with contextlib.suppress(OSError):
                self._watch()
        return changed

    def _watch(self) -> None:
        self._names.clear()
        for path in (self._filename, os.path.realpath(self._filename)):
            folder, name = os.path.split(path)
            # A folder that is watched already keeps its watch descriptor.
            watch = self._inotify.add_watch(folder, flags.CLOSE_WRITE | flags.MOVED_TO)
            self._names.setdefault(watch, set()).add(name)

    def close(self) -> None:
        """Stop watching."""
        self._inotify.close()
