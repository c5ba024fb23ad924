"""Reads ABI-encoded data, as strictly as eth_abi does and without its 20 MB: sensors read events and send nothing.

A type's reader is made once from its spelling; what a stranger encoded only decides values, never how deep we go. Each
reader takes the whole data and a place, and returns the value and where the next one stands. (Solidity: ABI spec.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple

from quietfleet.errors import AbiError

WORD: Final = 32
_BYTE: Final = 8
_ADDRESS: Final = 20
_ARRAY: Final = re.compile(r"(.+)\[(\d*)\]", re.DOTALL)
_PLAIN: Final = re.compile(r"(uint|int|bytes)(\d*)|address|bool|string")


class Reader(NamedTuple):
    """How to read one type: `head` bytes stand in its place, a pointer to the rest if it is `dynamic`."""

    dynamic: bool
    head: int
    read: Callable[[bytes, int], Any]


def decode(types: Sequence[str], data: bytes) -> tuple[Any, ...]:
    """Return the values in order: integers, bool, bytes, text, `0x…` for an address, tuples for lists and structs.

    Text that is no UTF-8 is read with replacements: a contract takes any bytes for a string, and they must not stop
    whoever reads its events. Raises AbiError where `data` is no encoding of these types.
    """
    found: tuple[Any, ...] = _sequence(tuple(types)).read(data, 0)
    return found


@lru_cache(256)
def _reader(kind: str) -> Reader:
    if array := _ARRAY.fullmatch(kind):
        item = _reader(array[1])
        return _sized([item] * int(array[2])) if array[2] else _counted(item)
    if kind.startswith("(") and kind.endswith(")"):
        return _sequence(tuple(_split(kind[1:-1])))
    plain = _PLAIN.fullmatch(kind)
    if plain is None:
        raise AbiError(f"no type {kind}")
    return _plain(plain[1] or kind, int(plain[2] or 0))


def _plain(family: str, size: int) -> Reader:
    match family:
        case "uint" | "int":
            return Reader(False, WORD, _integer(size or 8 * WORD, signed=family == "int"))
        case "bool":
            return Reader(False, WORD, lambda data, at: bool(_number(data, at, 1)))
        case "address":
            return Reader(False, WORD, lambda data, at: f"0x{_number(data, at, _BYTE * _ADDRESS):040x}")
        case "bytes" if size:
            return Reader(False, WORD, lambda data, at: _padded(_take(data, at, WORD), size))
        case "bytes":
            return Reader(True, WORD, _bytes)
        case _:
            return Reader(True, WORD, lambda data, at: _bytes(data, at).decode("utf-8", "replace"))


def _integer(bits: int, *, signed: bool) -> Callable[[bytes, int], int]:
    if not signed:
        return lambda data, at: _number(data, at, bits)
    half = 1 << (bits - 1)

    def read(data: bytes, at: int) -> int:
        value = int.from_bytes(_take(data, at, WORD), "big", signed=True)
        if not -half <= value < half:
            raise AbiError(f"no int{bits}")
        return value

    return read


def _number(data: bytes, at: int, bits: int) -> int:
    value = int.from_bytes(_take(data, at, WORD), "big")
    if value >> bits:
        raise AbiError(f"a number of more than {bits} bits")
    return value


def _bytes(data: bytes, at: int) -> bytes:
    size = _number(data, at, 8 * WORD)
    if size > len(data):
        raise AbiError("cut short")
    return _padded(_take(data, at + WORD, -(-size // WORD) * WORD), size)


def _padded(content: bytes, size: int) -> bytes:
    if any(content[size:]):
        raise AbiError("what pads it is not zero")
    return content[:size]


def _take(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise AbiError("cut short")
    return data[at : at + size]


@lru_cache(256)
def _sequence(types: tuple[str, ...]) -> Reader:
    return _sized([_reader(kind) for kind in types])


def _sized(parts: list[Reader]) -> Reader:
    """Read so many values in a row: a struct, an array of a fixed length, or everything there is."""
    dynamic = any(part.dynamic for part in parts)
    width = sum(part.head for part in parts)
    return Reader(dynamic, WORD if dynamic else width, lambda data, at: _row(parts, width, data, at))


def _counted(item: Reader) -> Reader:
    def read(data: bytes, at: int) -> tuple[Any, ...]:
        count = _number(data, at, 8 * WORD)
        if count * max(item.head, 1) > len(data):  # before anything is made of what a stranger counted
            raise AbiError("cut short")
        return _row([item] * count, item.head * count, data, at + WORD)

    return Reader(True, WORD, read)


def _row(parts: Sequence[Reader], width: int, data: bytes, start: int) -> tuple[Any, ...]:
    """Read values whose heads stand side by side from `start` on; what is pointed to lies behind all heads."""
    values, at = [], start
    for part in parts:
        place = at
        if part.dynamic:
            offset = _number(data, at, 8 * WORD)
            if offset < width or start + offset >= len(data):
                raise AbiError("it points to nowhere")
            place = start + offset
        values.append(part.read(data, place))
        at += part.head
    return tuple(values)


def _split(text: str) -> list[str]:
    """Split a struct's types at the commas that are its own."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign == "(") - (sign == ")")
        if sign == "," and not depth:
            parts.append("")
        else:
            parts[-1] += sign
    return parts if text else []
