"""RLP read one level at a time and never by recursion, as the depth of a hostile payload is its sender's choice."""

from __future__ import annotations

from collections.abc import Iterator

from quietfleet.crypto import rlp
from quietfleet.errors import FrameError


def items(data: bytes) -> Iterator[bytes]:
    """Yield the items, each still encoded, of the list `data` begins with; FrameError if there is none.

    Bytes after the list are ignored (EIP-8).
    """
    kind, position, end = _span(data, 0)
    if kind is not list:
        raise FrameError("a string where a list belongs", cause="bad_rlp")
    while position < end:
        _, _, after = _span(data, position)
        if after > end:
            raise FrameError("an item longer than its list", cause="bad_rlp")
        yield data[position:after]
        position = after


def string(item: bytes) -> bytes:
    """Return the content of the string `item` begins with; FrameError if there is none."""
    kind, start, end = _span(item, 0)
    if kind is not bytes:
        raise FrameError("a list where a string belongs", cause="bad_rlp")
    return item[start:end]


def number(item: bytes) -> int:
    """Return the integer `item` begins with, of 8 bytes at most and without leading zeros; FrameError if none."""
    content = string(item)
    if len(content) > 8 or content[:1] == b"\0":  # noqa: PLR2004 -- what Go calls uint64
        raise FrameError("a number too long or padded", cause="bad_rlp")
    return int.from_bytes(content)


def _span(data: bytes, at: int) -> tuple[type, int, int]:
    """Return an item's kind (bytes or list) and where its content starts and ends."""
    try:
        return rlp.span(data, at)
    except rlp.RlpError as error:
        raise FrameError("not RLP", cause="bad_rlp") from error
