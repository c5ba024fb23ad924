"""Strict reading of RLP where it lies, over the `rlp` package's prefix reader.

`rlp.decode` reads whatever nesting a stranger sends and copies all of it; an envelope has one shape, known here.
"""

from __future__ import annotations

from rlp.codec import consume_length_prefix
from rlp.exceptions import DecodingError

from quietfleet.errors import EnvelopeError


def take(raw: bytes, at: int, limit: int, kind: type[bytes | list[bytes]]) -> tuple[int, int]:
    """Return where the content of the item at `at` begins and ends; EnvelopeError if it is no `kind` before `limit`."""
    try:
        _, found, length, begin = consume_length_prefix(raw, at)
    except (DecodingError, IndexError) as error:
        raise EnvelopeError("not canonical RLP") from error
    if found is not kind or begin + length > limit:
        raise EnvelopeError("cut short, or a list where a string belongs")
    return begin, begin + length


def integer(raw: bytes, max_size: int) -> int:
    """Read a big-endian integer of at most `max_size` bytes; EnvelopeError if it begins with zero."""
    if len(raw) > max_size or raw[:1] == b"\x00":
        raise EnvelopeError(f"not an integer of at most {max_size} bytes")
    return int.from_bytes(raw, "big")


def big_endian(value: int) -> bytes:
    """Write an integer without leading zeros: zero is the empty string."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")
