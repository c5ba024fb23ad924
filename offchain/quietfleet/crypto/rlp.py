"""Ethereum's RLP, as far as the wire needs it: writing whole items, and reading where one lies.

Our own, because the library of that name brings 14 MB of others into a sensor's memory. Reading never recurses and
never copies: the depth and the size of a hostile payload are its sender's choice. (Yellow paper, appendix B)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

Item: TypeAlias = "bytes | str | int | Sequence[Item]"

_STRING: Final = 0x80
_LIST: Final = 0xC0
_SHORT: Final = 55  # the longest content whose length stands in the first byte


class RlpError(ValueError):
    """No RLP in its one canonical form."""


def encode(item: Item) -> bytes:
    """Encode bytes, text (UTF-8), an integer (big-endian, zero is empty) or a list of such; ValueError if negative."""
    if isinstance(item, int):
        if item < 0:
            raise ValueError("RLP has no negative integers")
        item = item.to_bytes((item.bit_length() + 7) // 8, "big")
    elif isinstance(item, str):
        item = item.encode()
    if isinstance(item, bytes | bytearray | memoryview):
        content = bytes(item)
        return content if len(content) == 1 and content[0] < _STRING else length_prefix(len(content)) + content
    return enlist(b"".join(map(encode, item)))


def enlist(body: bytes) -> bytes:
    """Make a list of items that are encoded already and stand one behind the other."""
    return length_prefix(len(body), _LIST) + body


def length_prefix(length: int, offset: int = _STRING) -> bytes:
    """Return what stands before content of `length` bytes: of a string, or with `offset` 0xc0 of a list."""
    if length <= _SHORT:
        return bytes([offset + length])
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([offset + _SHORT + len(size)]) + size


def span(data: bytes, at: int) -> tuple[type, int, int]:
    """Return the kind (`bytes` or `list`) of the item at `at`, and where its content starts and ends.

    RlpError if there is none, its prefix is not the shortest, or the data ends before it does.
    """
    if not 0 <= at < len(data):
        raise RlpError("nothing is there")
    first = data[at]
    if first < _STRING:
        return bytes, at, at + 1
    kind, length = (list, first - _LIST) if first >= _LIST else (bytes, first - _STRING)
    start = at + 1
    if length > _SHORT:
        start, length = _long(data, start, length - _SHORT)
    if start + length > len(data):
        raise RlpError("cut short")
    if first == _STRING + 1 and data[start] < _STRING:
        raise RlpError("a byte that needs no prefix")
    return kind, start, start + length


def _long(data: bytes, at: int, size: int) -> tuple[int, int]:
    """Read a length that has bytes of its own; return where the content starts, and the length."""
    digits = data[at : at + size]
    length = int.from_bytes(digits, "big")
    if len(digits) < size or digits[0] == 0 or length <= _SHORT:
        raise RlpError("a length that is cut short or longer than needed")
    return at + size, length
