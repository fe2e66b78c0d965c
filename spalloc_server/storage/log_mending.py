"""Mend SQLite's log, which it drops from the first wrong bit on without a word.

A log is a header and *frames*, each of which has a page as it is after some commit. The
checksum of each goes on from that of the one before it, and so says of every frame by
itself whether it is what it was. What is, is put together again as a log that SQLite
reads; whether it makes sense is for those to say who know the rows and their checksums.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">8I")
"""Magic number, version, size of a page, number of the log, two salts, checksum."""

_FRAME: Final = struct.Struct(">6I")
"""Number of the page, pages after a commit (else 0), two salts, checksum."""

_MAGIC: Final = 0x377F0682
"""Of logs whose checksums take words with the low byte first."""

_VERSION: Final = 3007000

_LOOKED_AT: Final = 5
"""Of so many frames at the beginning most have the right salts."""

_Checksum = tuple[int, int]


class _Frame(NamedTuple):
    head: bytes
    """The part of its header that its checksum covers."""
    salts: tuple[int, int]
    checksum: _Checksum
    page: bytes


def mend_log(filename: str, page_bytes: int) -> None:
    """Leave only those frames in a log that are undamaged.

    :param filename: of the log: a copy, of which nothing is lost
    :param page_bytes: the length of a page
    :raises OSError: if it cannot be read or written
    """
    path = Path(filename)
    log = path.read_bytes()
    frames = list(_frames(log, page_bytes))
    if frames:
        salts = _salts_of(log, frames)
        path.write_bytes(_written(_undamaged(log, frames, salts), salts, page_bytes))


def _frames(log: bytes, page_bytes: int) -> Iterator[_Frame]:
    step = _FRAME.size + page_bytes
    for begin in range(_HEADER.size, len(log) - step + 1, step):
        _, _, *salts, first, second = _FRAME.unpack_from(log, begin)
        yield _Frame(
            log[begin : begin + 8],
            (salts[0], salts[1]),
            (first, second),
            log[begin + _FRAME.size : begin + step],
        )


def _salts_of(log: bytes, frames: list[_Frame]) -> tuple[int, int]:
    """The salts of the log in force. Frames of one before it may come after it."""
    seen = Counter([(_HEADER.unpack_from(log)[4], _HEADER.unpack_from(log)[5])])
    seen.update(frame.salts for frame in frames[:_LOOKED_AT])
    return max(seen, key=lambda salts: seen[salts])


def _undamaged(
    log: bytes, frames: list[_Frame], salts: tuple[int, int]
) -> Iterator[_Frame]:
    header = _HEADER.unpack_from(log)
    before = header[6], header[7]
    # Where it is the header that is wrong, the rows have to tell of the first frame.
    is_known = before == _checksum((0, 0), log[: _HEADER.size - 8])
    is_kept = True
    for frame in frames:
        is_right = frame.checksum == _checksum(before, frame.head + frame.page)
        # The salts may be what is wrong; but not those of two.
        is_kept = (is_right and (is_kept or frame.salts == salts)) or not is_known
        if is_kept:
            yield frame
        before = frame.checksum
        is_known = True


def _checksum(before: _Checksum, data: bytes) -> _Checksum:
    """Go on with SQLite's checksum."""
    first, second = before
    words = struct.unpack(f"<{len(data) // 4}I", data)
    for even, odd in zip(words[::2], words[1::2], strict=True):
        first = (first + even + second) & 0xFFFFFFFF
        second = (second + odd + first) & 0xFFFFFFFF
    return first, second


def _written(
    frames: Iterable[_Frame], salts: tuple[int, int], page_bytes: int
) -> bytes:
    """A log of some frames."""
    head = struct.pack(">6I", _MAGIC, _VERSION, page_bytes, 0, *salts)
    checksum = _checksum((0, 0), head)
    log = [head, struct.pack(">2I", *checksum)]
    for frame in frames:
        checksum = _checksum(checksum, frame.head + frame.page)
        log += [frame.head, struct.pack(">4I", *salts, *checksum), frame.page]
    return b"".join(log)
