"""Who may log in: a file of names and salted hashes of passwords."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import logging
import os
import re
import secrets
from typing import Final, NamedTuple

logger = logging.getLogger(__name__)

LONGEST_NAME: Final = 100
LONGEST_PASSWORD: Final = 1024

COST: Final = 2**15
BLOCK: Final = 8
PARALLEL: Final = 1
"""What scrypt is to cost: about 0.1 s and 32 MiB. They are stored with each hash."""

MAX_MEMORY: Final = 256 * 1024 * 1024
"""What a hash in the file may cost at most, in bytes."""

_NAME = re.compile(rf"[^\s#\x00-\x1f\x7f][^\s\x00-\x1f\x7f]{{0,{LONGEST_NAME - 1}}}")
_HASH = re.compile(r"scrypt\$(\d{1,9})\$(\d{1,3})\$(\d{1,3})\$([\w+/=]+)\$([\w+/=]+)")


class UsersError(Exception):
    """The file of users cannot be used; the message says why, in one line."""


class Password(NamedTuple):
    """What is kept of a password."""

    cost: int
    block: int
    parallel: int
    salt: bytes
    digest: bytes

    @classmethod
    def of(cls, password: str) -> Password:
        """Hash a password with a salt of its own."""
        salt = secrets.token_bytes(16)
        blank = cls(COST, BLOCK, PARALLEL, salt, b"")
        return blank._replace(digest=blank.digest_of(password))

    def digest_of(self, password: str) -> bytes:
        """What a password comes to with this salt. Takes about 0.1 s."""
        return hashlib.scrypt(
            password.encode("utf-8", "replace"),
            salt=self.salt,
            n=self.cost,
            r=self.block,
            p=self.parallel,
            maxmem=MAX_MEMORY,
            dklen=32,
        )

    def is_for(self, password: str) -> bool:
        """Is this the password? Takes about 0.1 s."""
        return hmac.compare_digest(self.digest_of(password), self.digest)

    @property
    def stamp(self) -> bytes:
        """Four bytes that change with the password."""
        return hashlib.sha256(self.salt + self.digest).digest()[:4]

    def __str__(self) -> str:
        salt, digest = (base64.b64encode(b).decode() for b in (self.salt, self.digest))
        return f"scrypt${self.cost}${self.block}${self.parallel}${salt}${digest}"


NOBODY: Final = Password(COST, BLOCK, PARALLEL, b"nobody's salt", b"")
"""Takes as long to check as a real one, and is never right."""


def is_name(name: str) -> bool:
    """Can a user have this name?"""
    return _NAME.fullmatch(name) is not None and name.isprintable()


def check_name(name: str) -> str:
    """A name that a user can have.

    :raises UsersError: if it is none
    """
    if not is_name(name):
        raise UsersError(
            f"a user's name has from 1 to {LONGEST_NAME} characters that can be seen, "
            "and does not begin with #"
        )
    return name


class Users:
    """The users in a file, which is read again whenever it has changed."""

    def __init__(self, path: str) -> None:
        """Read the file.

        :raises UsersError: if it cannot be read
        """
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._passwords: dict[str, Password] = {}
        self._passwords = _read(path)
        self._seen = self._look()

    def find(self, name: str) -> Password | None:
        """The password of a user; None if there is no such user."""
        seen = self._look()
        if seen is not None and seen != self._seen:
            self._seen = seen
            try:
                passwords = _read(self._path)
                # An editor may just be writing it.
                if not passwords and self._passwords:
                    raise UsersError(f"{self._path}: there is nobody in it")
                self._passwords = passwords
            except UsersError as e:
                logger.error("The users stay as they were: %s", e)
        return self._passwords.get(name)

    def _look(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_size, status.st_ino


def _read(path: str) -> dict[str, Password]:
    try:
        with open(path, encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_mode & 0o077:
                raise UsersError(
                    f"{path}: others may read or write it; its mode should be 0600"
                )
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError) as e:
        problem = getattr(e, "strerror", None) or "it is not UTF-8"
        raise UsersError(f"{path}: {problem}") from None
    passwords = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, text = line.rstrip().partition(" ")
        password = _parse(text.strip())
        if password is None or not is_name(name):
            raise UsersError(f"{path}: line {number} is no user with a password")
        if name in passwords:
            raise UsersError(f"{path}: line {number}: there is another {name}")
        passwords[name] = password
    return passwords


def _parse(text: str) -> Password | None:
    match = _HASH.fullmatch(text)
    if match is None:
        return None
    cost, block, parallel = (int(number) for number in match.groups()[:3])
    if (
        cost < 2
        or cost & (cost - 1)
        or not block
        or not parallel
        or 128 * block * (cost + parallel + 2) > MAX_MEMORY
    ):
        return None
    try:
        salt, digest = (base64.b64decode(part) for part in match.groups()[3:])
    except ValueError:
        return None
    return Password(cost, block, parallel, salt, digest)


def add_user(path: str, name: str, password: str) -> bool:
    """Write a user to the file, which is made if there is none.

    :return: is that user a new one, rather than one with a new password?
    :raises UsersError: if that cannot be
    """
    check_name(name)
    if not 1 <= len(password) <= LONGEST_PASSWORD:
        raise UsersError(f"a password has from 1 to {LONGEST_PASSWORD} characters")
    is_new = name not in (_read(path) if os.path.lexists(path) else {})
    lines = []
    with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        lines = file.read().splitlines()
    entry = f"{name} {Password.of(password)}"
    if is_new:
        lines.append(entry)
    else:
        lines = [entry if ln.partition(" ")[0] == name else ln for ln in lines]
    # Beside it, so that nobody ever reads half of it.
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.new"
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
        with open(os.open(temporary, flags, 0o600), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as e:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise UsersError(f"{path}: {e.strerror}") from None
    return is_new
