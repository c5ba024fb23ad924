"""The package's four readers of RLP, against each other and against the `rlp` package."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import rlp
from harness import target
from rlp.exceptions import DecodingError

from quietfleet.devp2p._rlp import items as link_items
from quietfleet.devp2p._rlp import number as link_number
from quietfleet.devp2p._rlp import string as link_string
from quietfleet.errors import EnvelopeError, FrameError, WireError
from quietfleet.network.wire import iter_list, string
from quietfleet.whisper import split_bundle


def whole(data: bytes) -> Any:
    """Read it with the `rlp` package, strictly; None if it refuses."""
    try:
        return rlp.decode(data)
    except (DecodingError, RecursionError):  # the package follows every nesting
        return None


def outcome(read: Callable[[bytes], Any], data: bytes) -> Any:
    """Return what a reader gives; None for its own error."""
    with suppress(FrameError, WireError, EnvelopeError):
        return read(data)
    return None


def _seeds() -> Iterator[bytes]:
    yield from (b"\x80", b"\xc0", b"\x00", b"\x81\x80", b"\x83dog", b"\xf8\x38" + b"\x80" * 56, b"\xb8\x38" + bytes(56))
    yield bytes(rlp.encode([b"a", [b"", [b"nested"]], b"x" * 60]))
    yield bytes(rlp.encode([[b"1", b"2"], [b"3"]]))
    yield b"\xc1" * 40 + b"\xc0"
    yield from (b"\xbf" + b"\xff" * 8, b"\xff" + b"\xff" * 8, b"\xf8\x00", b"\xc1\xf8")


@target(_seeds)
def rlp_readers(data: bytes) -> None:
    expected = whole(data)
    link, wire = outcome(lambda raw: list(link_items(raw)), data), outcome(lambda raw: list(iter_list(raw)), data)
    text, link_text = outcome(string, data), outcome(link_string, data)
    if isinstance(expected, list):
        encoded = [bytes(rlp.encode(item)) for item in expected]
        assert wire == link == encoded
        assert text is link_text is None
    elif expected is not None:
        assert text == link_text == expected
        assert wire is link is None
    if wire is not None:
        assert b"".join(wire) == data[-len(b"".join(wire)) :] * bool(wire)
        assert wire == link
        bundle = outcome(split_bundle, data)
        assert bundle in (None, wire)
        assert (bundle is None) == any(item[0] < 0xC0 for item in wire)
    _check_number(data, link_text)


def _check_number(data: bytes, text: bytes | None) -> None:
    number = outcome(link_number, data)
    if number is not None:
        assert text is not None
        assert number.to_bytes((number.bit_length() + 7) // 8) == text
