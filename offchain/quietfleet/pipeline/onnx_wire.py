"""The protocol-buffer encoding of an ONNX file, walked without a library and without copying it.

Devices have no `onnx` package. Field numbers are those of onnx.proto3.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from typing import Final

from quietfleet.errors import ModelRejected

_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_NAME, _FLOAT, _INT, _STRING, _FLOATS, _INTS, _STRINGS, _TYPE = 1, 2, 3, 4, 7, 8, 9, 20
_SIGN: Final = 1 << 63

MOST_VALUES: Final = 1 << 18
"""The most that an attribute lists: more than any forest of 8 MiB has nodes. A byte there is eight in memory here."""
_MOST_TEXT: Final = 256
_MOST_KINDS: Final = 8  # different strings in an attribute


class Attribute:
    """A node's attribute: its name, and what it holds of numbers and strings; `odd` if of anything else."""

    def __init__(self, message: memoryview) -> None:
        self.name = ""
        self.ints, self.floats = array("q"), array("f")
        self.strings: list[bytes] = []
        self._kinds: dict[bytes, bytes] = {}
        self.odd = False
        for field, value in fields(message):
            if field == _NAME:
                self.name = text_of(value)
            elif field in (_INT, _INTS):
                self._take_ints(value)
            elif field in (_FLOAT, _FLOATS):
                self._take_floats(value)
            elif field in (_STRING, _STRINGS):
                self._take_string(nested(value))
            elif field != _TYPE:
                self.odd = True
            if max(len(self.ints), len(self.floats), len(self.strings)) > MOST_VALUES:
                raise _too_many()

    def _take_string(self, value: memoryview) -> None:
        """Keep each kind of string once, however often it stands there."""
        one = bytes(_short(value))
        self.strings.append(self._kinds.setdefault(one, one))
        if len(self._kinds) > _MOST_KINDS:
            raise ModelRejected(f"more than {_MOST_KINDS} kinds of strings in an attribute")

    def _take_ints(self, value: memoryview | int) -> None:
        if isinstance(value, int):
            self.ints.append(_signed(value))
            return
        at = 0
        while at < len(value):
            number, at = varint(value, at)
            self.ints.append(_signed(number))
            if len(self.ints) > MOST_VALUES:
                raise _too_many()

    def _take_floats(self, value: memoryview | int) -> None:
        packed = nested(value)
        if len(packed) % 4:
            raise ModelRejected("not an ONNX file: half a number")
        if len(packed) // 4 > MOST_VALUES:
            raise _too_many()
        self.floats.frombytes(packed)


def fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Walk a message's fields: number, and bytes or integer."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        if key & 7 == _VARINT:
            number, at = varint(message, at)
            yield key >> 3, number
        else:
            size, at = _size(message, at, key & 7)
            if at + size > len(message):
                raise ModelRejected("not an ONNX file: it ends early")
            yield key >> 3, message[at : at + size]
            at += size


def text(message: memoryview, wanted: int) -> str:
    """Read a string field; the last one counts, as in every protocol-buffer reader."""
    found = ""
    for field, value in fields(message):
        if field == wanted:
            found = text_of(value)
    return found


def text_of(value: memoryview | int) -> str:
    """Return a field's bytes as text."""
    return bytes(_short(nested(value))).decode("utf-8", errors="replace")


def nested(value: memoryview | int) -> memoryview:
    """Return a field's bytes."""
    if isinstance(value, int):
        raise ModelRejected("not an ONNX file: a number stands where a message belongs")
    return value


def varint(message: memoryview, at: int) -> tuple[int, int]:
    """Read a number; return it and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        value |= (message[at] & 0x7F) << shift
        at += 1
        if message[at - 1] < 0x80:  # noqa: PLR2004 -- the continuation bit
            return value & ((1 << 64) - 1), at
    raise ModelRejected("not an ONNX file: a number without end")


def _short(value: memoryview) -> memoryview:
    if len(value) > _MOST_TEXT:
        raise ModelRejected(f"a name or string of {len(value)} bytes, at most {_MOST_TEXT} are allowed")
    return value


def _too_many() -> ModelRejected:
    return ModelRejected(f"an attribute lists more than {MOST_VALUES} values")


def _signed(number: int) -> int:
    return number - (1 << 64) if number & _SIGN else number


def _size(message: memoryview, at: int, wire_type: int) -> tuple[int, int]:
    if wire_type == _DELIMITED:
        return varint(message, at)
    if wire_type in (_FIXED64, _FIXED32):
        return (8 if wire_type == _FIXED64 else 4), at
    raise ModelRejected("not an ONNX file: unknown wire type")
