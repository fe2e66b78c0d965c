"""A secret that two programs share: a file that only their user can read."""

from __future__ import annotations

import os
import secrets
import stat
from typing import Final

SECRET_BYTES: Final = 32
"""How long a secret is that is made here."""

LONGEST_SECRET: Final = 4096
"""The most that is read of a file."""


def read_secret(path: str) -> bytes:
    """Read a secret.

    :raises OSError: where there is none, or others may read it; the message names it
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as e:
        raise _problem(e.errno, path, e.strerror) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise _problem(None, path, "is not a file")
        if status.st_mode & 0o077:
            raise _problem(
                None, path, "others may read or write it; its mode should be 0600"
            )
        secret = os.read(descriptor, LONGEST_SECRET).strip()
    finally:
        os.close(descriptor)
    if len(secret) < SECRET_BYTES:
        raise _problem(None, path, f"has less than {SECRET_BYTES} characters")
    return secret


def read_or_make_secret(path: str) -> bytes:
    """Read a secret, which is made if there is none.

    :raises OSError: as `read_secret`, or where it cannot be made
    """
    made = secrets.token_hex(SECRET_BYTES).encode() + b"\n"
    temporary = f"{path}.{os.getpid()}.new"
    try:
        if not os.path.lexists(path):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            try:
                with open(os.open(temporary, flags, 0o600), "wb") as file:
                    file.write(made)
                    file.flush()
                    os.fsync(file.fileno())
                # Where another program was faster, its secret stays.
                os.link(temporary, path)
            finally:
                if os.path.lexists(temporary):
                    os.unlink(temporary)
    except FileExistsError:
        pass
    except OSError as e:
        raise _problem(e.errno, path, e.strerror) from None
    return read_secret(path)


def _problem(number: int | None, path: str, what: str | None) -> OSError:
    return OSError(number, f"secret file {path}: {what}")
