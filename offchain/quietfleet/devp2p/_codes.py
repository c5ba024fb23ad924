"""A frame's message code: an RLP integer before the payload."""

from __future__ import annotations

from typing import Final

from quietfleet.errors import FrameError

_SHORT: Final = 0x80  # the smallest code that needs a prefix; as a byte, the code 0
_LONGEST: Final = 8


def encode_code(code: int) -> bytes:
    if code == 0:
        return bytes([_SHORT])
    raw = code.to_bytes((code.bit_length() + 7) // 8)
    return raw if code < _SHORT else bytes([_SHORT + len(raw)]) + raw


def decode_code(content: memoryview) -> tuple[int, int]:
    """Return the code a frame's content begins with and how many bytes it takes; FrameError if there is none."""
    first = content[0]
    if 0 < first < _SHORT:
        return first, 1
    if first == _SHORT:
        return 0, 1
    length = first - _SHORT
    code = int.from_bytes(content[1 : 1 + length]) if 0 < length <= _LONGEST else 0
    if encode_code(code) != content[: 1 + length]:
        raise FrameError("a code that is no number", cause="bad_code")
    return code, 1 + length
