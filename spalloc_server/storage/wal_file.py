"""What can be told of the write-ahead log of an SQLite database from outside.

SQLite itself drops what a crash has left incomplete at the end, and does not say so.
The format is at https://www.sqlite.org/walformat.html.
"""

from __future__ import annotations

import struct
from typing import Final

# Magic number, version, page size, checkpoint number, two salts, two checksums.
_HEADER: Final = struct.Struct(">8L")
# Page number, pages in the database after a commit, two salts, two checksums.
_FRAME_HEADER: Final = struct.Struct(">6L")

_MAGIC: Final = {0x377F0682, 0x377F0683}


def count_frames(filename: str) -> int:
    """How many frames were begun since the log was last started from the beginning.

    Frames of before have other salts. 0 if there is no log at all.
    """
    try:
        with open(filename, "rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return 0
            magic, _, page_size, _, *salts = _HEADER.unpack(header)[:6]
            if magic not in _MAGIC:
                return 0
            frames = 0
            while header := file.read(_FRAME_HEADER.size):
                if len(header) == _FRAME_HEADER.size:
                    _, _, *frame_salts = _FRAME_HEADER.unpack(header)[:4]
                    if frame_salts != salts:
                        break
                frames += 1
                file.seek(page_size, 1)
            return frames
    except OSError:
        return 0
