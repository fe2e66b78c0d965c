"""Each input is replayed whole, by line, by byte and cut at random places."""

from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spalloc_server.wire.framing import LineFramer, LineTooLongError


def whole(data: bytes) -> Iterator[bytes]:
    yield data


def by_line(data: bytes) -> Iterator[bytes]:
    yield from data.splitlines(keepends=True)


def by_byte(data: bytes) -> Iterator[bytes]:
    for i in range(len(data)):
        yield data[i : i + 1]


def lines_of(chunks: Iterator[bytes], max_line_bytes: int = 20) -> list[bytes]:
    """Everything that a framer makes of the chunks; b"TOO LONG" for the error."""
    framer = LineFramer(max_line_bytes)
    lines = []
    for chunk in chunks:
        framer.feed(chunk)
    while framer.has_line():
        try:
            line = framer.next_line()
        except LineTooLongError:
            lines.append(b"TOO LONG")
            break
        assert line is not None
        lines.append(line)
    else:
        assert framer.next_line() is None
    return lines


CASES = [
    (b"", []),
    (b"a", []),
    (b"a\n", [b"a"]),
    (b"a\nb", [b"a"]),
    (b"a\nb\n", [b"a", b"b"]),
    (b"\n\n \na\r\n\r\n", [b" ", b"a\r", b"\r"]),
    (b"\xc3\xa9\n", [b"\xc3\xa9"]),
    (b"x" * 20 + b"\n", [b"x" * 20]),
    (b"x" * 21 + b"\n", [b"TOO LONG"]),
    (b"x" * 21, [b"TOO LONG"]),
    (b"x" * 20, []),
    (b"a\n" + b"x" * 21 + b"\nb\n", [b"a", b"TOO LONG"]),
    (b"a\n" + b"\0" * 5 + b"\n" + b"x" * 1000, [b"a", b"\0" * 5, b"TOO LONG"]),
]


@pytest.mark.parametrize("cut", [whole, by_line, by_byte])
@pytest.mark.parametrize(("data", "expected"), CASES)
def test_lines(
    data: bytes, expected: list[bytes], cut: Callable[[bytes], Iterator[bytes]]
) -> None:
    assert lines_of(cut(data)) == expected


@given(
    st.lists(st.sampled_from([b"a", b"bc" * 9, b"x" * 21, b"\n", b"\r\n", b" "])),
    st.data(),
)
def test_where_the_input_is_cut_does_not_matter(
    parts: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    edges = [0, *cuts, len(stream)]
    chunks = (stream[a:b] for a, b in pairwise(edges))
    assert lines_of(chunks) == lines_of(whole(stream))


def test_the_error_names_the_limit_and_stays() -> None:
    framer = LineFramer(5)
    framer.feed(b"123456")
    for _ in range(2):
        with pytest.raises(LineTooLongError, match="longer than 5 bytes"):
            framer.next_line()


def test_nothing_is_kept_after_a_line_that_is_too_long() -> None:
    framer = LineFramer(5)
    for _ in range(3):
        framer.feed(b"x" * 1000)
    framer.feed(b"\nhello\n")
    assert framer._unfinished is None
    with pytest.raises(LineTooLongError):
        framer.next_line()


def test_the_default_limit_is_64_kib() -> None:
    framer = LineFramer()
    framer.feed(b"x" * 65536 + b"\n")
    assert framer.next_line() == b"x" * 65536
    framer.feed(b"x" * 65537)
    with pytest.raises(LineTooLongError):
        framer.next_line()


def test_a_line_can_be_put_back() -> None:
    framer = LineFramer()
    framer.feed(b"a\nb\n")
    for _ in range(2):
        assert framer.next_line() == b"a"
        framer.put_back(b"a")
    assert [framer.next_line() for _ in range(3)] == [b"a", b"b", None]
    framer.put_back(b"b")
    assert framer.has_line()
    assert [framer.next_line() for _ in range(2)] == [b"b", None]
