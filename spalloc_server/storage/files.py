"""Files of state: whose they are, and how they are kept when they cannot be used."""

from __future__ import annotations

import contextlib
import os
import stat
import time


class StateFileError(Exception):
    """The state is refused, in use, or cannot be kept; the message names the file."""


def check_owner(filename: str, status: os.stat_result) -> None:
    """Refuse what is no file, or what someone else could have written.

    :raises StateFileError: naming the file
    """
    if not stat.S_ISREG(status.st_mode):
        raise StateFileError(f"state file {filename} is not a regular file")
    if status.st_uid != os.geteuid():
        raise StateFileError(
            f"state file {filename} is refused: it belongs to user {status.st_uid}, "
            f"not to user {os.geteuid()}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise StateFileError(
            f"state file {filename} is refused: others may write it "
            f"(mode {stat.S_IMODE(status.st_mode):04o}, expected 0600)"
        )


def check_file(filename: str) -> bool:
    """Refuse a file as `check_owner` does, without opening it.

    :return: whether there is one
    :raises StateFileError: naming the file
    """
    try:
        status = os.lstat(filename)
    except FileNotFoundError:
        return False
    except OSError as e:
        raise StateFileError(f"cannot read state file {filename}: {e.strerror}") from e
    check_owner(filename, status)
    return True


def read_bytes(filename: str) -> bytes:
    """The contents of a file that has been checked.

    :raises StateFileError: if it cannot be read
    """
    try:
        with open(filename, "rb") as file:
            return file.read()
    except OSError as e:
        raise StateFileError(f"cannot read state file {filename}: {e.strerror}") from e


def unused_name(filename: str, kind: str = "unreadable") -> str:
    """A name that nothing has, for something to be kept under.

    :param filename: what it is made of
    :param kind: why it is kept
    """
    stem = time.strftime(f"{filename}.{kind}-%Y%m%d-%H%M%S")
    name, attempt = stem, 1
    while os.path.lexists(name):
        attempt += 1
        name = f"{stem}-{attempt}"
    return name


def move_aside(filename: str, kind: str = "unreadable") -> str:
    """Rename a file, with no other file overwritten; gives the new name.

    :raises StateFileError: if that cannot be done
    """
    while True:
        aside = unused_name(filename, kind)
        try:
            # Unlike a rename, a link fails where the name is taken.
            os.link(filename, aside)
        except FileExistsError:
            continue
        except OSError as e:
            raise StateFileError(
                f"state file {filename} cannot be used, nor moved aside: {e.strerror}"
            ) from e
        os.unlink(filename)
        return aside


def move_all_aside(names: list[str], kind: str) -> str:
    """Move files aside, as far as there are any, under one name.

    :param names: files whose names begin with the first of them, which need not exist
    :return: the new name of the first; the others' go on from that
    :raises OSError: if that cannot be done
    """
    first = names[0]
    aside = unused_name(first, kind)
    for name in names:
        with contextlib.suppress(FileNotFoundError):
            os.rename(name, aside + name.removeprefix(first))
    return aside


def copy_aside(names: list[str]) -> str:
    """Copy files, for their owner only, under one name that nothing has.

    :param names: as for `move_all_aside`
    :return: the copy of the first
    :raises OSError: if that cannot be done; no part of a copy is left then
    """
    first = names[0]
    aside = unused_name(first)
    made = []
    try:
        for name in names:
            with contextlib.suppress(FileNotFoundError), open(name, "rb") as source:
                copy = aside + name.removeprefix(first)
                fd = create(copy)
                made.append(copy)
                with os.fdopen(fd, "wb") as target:
                    while block := source.read(1 << 20):
                        target.write(block)
                    target.flush()
                    os.fsync(target.fileno())
        sync_folder_of(first)
    except OSError:
        remove(made)
        raise
    return aside


def create(filename: str) -> int:
    """Make a file that only its owner can use, where there is none; a descriptor.

    :raises OSError: if there is one, or it cannot be made
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    return os.open(filename, flags, 0o600)


def remove(names: list[str]) -> None:
    """Remove files as far as they are there and that can be done."""
    for name in names:
        with contextlib.suppress(OSError):
            os.unlink(name)


def sync_folder_of(filename: str) -> None:
    """Make the names in a file's folder last.

    :raises OSError: if that cannot be done
    """
    folder = os.path.dirname(os.path.abspath(filename))
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
