"""Strict reading of RLP where it lies.

`rlp.decode` reads whatever nesting a stranger sends and copies all of it; an envelope has one shape, known here.
"""

from __future__ import annotations

from typing import Final

from quietfleet.errors import EnvelopeError

_STRING: Final = 0x80
_LIST: Final = 0xC0
_SHORT: Final = 55  # the longest content whose length stands in the first byte


def take(raw: bytes, at: int, limit: int, kind: type[bytes | list[bytes]]) -> tuple[int, int]:
    """Return where the content of the item at `at` begins and ends; EnvelopeError if it is no `kind` before `limit`."""
    if at >= limit:
        raise EnvelopeError("an item is missing")
    first = raw[at]
    found: type[object] = list if first >= _LIST else bytes
    if first < _STRING:
        begin, end = at, at + 1
    else:
        begin, end = _measure(raw, at + 1, first - (_LIST if first >= _LIST else _STRING))
        if first == _STRING + 1 and raw[begin:end] < b"\x80":
            raise EnvelopeError("a byte that needed no prefix")
    if found is not kind or end > limit:
        raise EnvelopeError("cut short, or a list where a string belongs")
    return begin, end


def _measure(raw: bytes, at: int, length: int) -> tuple[int, int]:
    """Return where content begins and ends whose first byte said `length`: the length, or that of the length."""
    if length <= _SHORT:
        return at, at + length
    begin = at + length - _SHORT
    size = int.from_bytes(raw[at:begin], "big")
    if size <= _SHORT or raw[at] == 0:
        raise EnvelopeError("a length longer than needed")
    return begin, begin + size


def integer(raw: bytes, max_size: int) -> int:
    """Read a big-endian integer of at most `max_size` bytes; EnvelopeError if it begins with zero."""
    if len(raw) > max_size or raw[:1] == b"\x00":
        raise EnvelopeError(f"not an integer of at most {max_size} bytes")
    return int.from_bytes(raw, "big")


def big_endian(value: int) -> bytes:
    """Write an integer without leading zeros: zero is the empty string."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
