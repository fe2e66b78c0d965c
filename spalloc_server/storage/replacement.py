"""Replace the state file as a whole, so that there is a complete one at any moment."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from spalloc_server.storage import database, files, names


class Replacement:
    """Writes new state files, and puts them in the place of the old one."""

    def __init__(self, filename: str) -> None:
        """Nothing is written yet.

        :param filename: the place
        """
        self._filename = filename
        self.superseded: list[str] = []
        """Files of other servers to be removed when a new one is in place."""
        self.keep_old = False
        """Is what is in place to be kept when it is replaced?"""
        self._expected_bytes = 0
        # Is a new file complete, but not in its place yet?
        self._new_counts = False

    def write(self, contents: Callable[[], bytes], let_go: Callable[[], object]) -> int:
        """Replace the file by one with nothing but a snapshot.

        :param contents: gives the compressed snapshot; called when there seems to be
            room for it
        :param let_go: closes the old file, which counts no more
        :return: the identity of the new file
        :raises OSError: if that cannot be done; the old
            file is there then, or the new one is beside it, and is put in its place
            at the next try, or at a start
        :raises sqlite3.Error: likewise
        :raises StateFileError: likewise
        """
        self.check()
        data = contents()
        self._expected_bytes = 2 * len(data)
        identity = database.write_new(self._filename, data)
        # From here on the new one counts. SQLite may empty the old log into the old
        # file, whatever state these are in.
        self._new_counts = True
        let_go()
        self._put_in_place()
        return identity

    def check(self) -> None:
        """Find out if a file could be replaced now, before much work is done in vain.

        :raises OSError: if not
        :raises StateFileError: if there is something in its place that is none of ours
        """
        for name in (self._filename, self._filename + names.NEW):
            files.check_file(name)
        if self._new_counts:
            # The old one must not count again.
            self._put_in_place()
        self._try_for_room()

    def _put_in_place(self) -> None:
        if self.keep_old:
            old = names.files_of(self._filename)
            files.move_all_aside(
                [name for name in old if names.NEW not in name], "unreadable"
            )
            self.keep_old = False
        database.put_in_place(self._filename)
        self._new_counts = False
        own = set(names.files_of(self._filename)[:2])
        files.remove([name for name in self.superseded if name not in own])
        self.superseded = []

    def _try_for_room(self) -> None:
        """Raise `OSError` if there is no room."""
        name = self._filename + names.NEW
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)
        fd = files.create(name)
        try:
            os.posix_fallocate(fd, 0, max(self._expected_bytes, 1 << 16))
        finally:
            os.close(fd)
            files.remove([name])
