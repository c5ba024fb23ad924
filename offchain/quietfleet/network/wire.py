"""The messaging protocol's messages: codes and payloads of `shh/6` (EIP-627).

Decoding walks one level of RLP at a time and never recurses, as the depth of a hostile payload is the sender's choice.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

from quietfleet.crypto import rlp
from quietfleet.errors import WireError
from quietfleet.whisper import BLOOM_SIZE, FULL_BLOOM, Envelope

STATUS, MESSAGES, POW_REQUIREMENT, BLOOM_FILTER = 0, 1, 2, 3
VERSION = 6
MAX_MESSAGE = 1024 * 1024  # bytes: other nodes disconnect a peer that sends a larger message
MAX_CONTENT = MAX_MESSAGE - 4  # the list's own prefix
_FULL_NODE = 0  # the status' last item: we carry everyone's envelopes
_DOUBLE = 8


@dataclass(frozen=True, slots=True)
class Status:
    """A peer's opening words: the least proof of work it takes, and the topics it wants."""

    min_pow: float
    bloom: bytes = FULL_BLOOM

    def encode(self) -> bytes:
        bloom = b"" if self.bloom == FULL_BLOOM else self.bloom
        return rlp.encode([VERSION, _double_bits(self.min_pow), bloom, _FULL_NODE])

    @classmethod
    def decode(cls, payload: bytes) -> Status:
        """Read a status; all after the version may be missing, and whether the peer calls itself light is ignored."""
        version, min_pow, bloom = (*(string(item) for item in islice(iter_list(payload), 3)), b"", b"", b"")[:3]
        if version != bytes([VERSION]):
            raise WireError("not protocol version 6")
        return cls(_to_double(min_pow), _to_bloom(bloom) if bloom else FULL_BLOOM)


def encode_pow(min_pow: float) -> bytes:
    """Encode a proof-of-work requirement: a bare integer holding the bits of a double."""
    return rlp.encode(_double_bits(min_pow))


def encode_bloom(bloom: bytes) -> bytes:
    """Encode a bloom filter: here a full one is written out, as others refuse an empty one."""
    return rlp.encode(bloom)


def decode_pow(payload: bytes) -> float:
    """Read a proof-of-work requirement; raise WireError unless it is a finite number, zero or more."""
    return _to_double(string(payload))


def decode_bloom(payload: bytes) -> bytes:
    """Read a bloom filter: a bare string of 64 bytes."""
    return _to_bloom(string(payload))


def bundles(envelopes: Iterable[Envelope]) -> Iterator[list[Envelope]]:
    """Group envelopes, in order, into as few messages as the size limit allows; lazily, as the peer takes them."""
    room, batch = MAX_CONTENT, list[Envelope]()
    for envelope in envelopes:
        size = len(envelope.encode())
        if batch and size > room:
            yield batch
            room, batch = MAX_CONTENT, []
        batch.append(envelope)
        room -= size
    if batch:
        yield batch


def iter_list(payload: bytes) -> Iterator[bytes]:
    """Yield a list's items, each still encoded; raise WireError where the payload stops being exactly one list.

    Lazy, so that a reader can stop at the first bad ones of a list that holds millions.
    """
    kind, position, end = _span(payload, 0)
    if kind is not list or end != len(payload):
        raise WireError("not a list")
    while position < end:
        _, _, after = _span(payload, position)
        yield payload[position:after]
        position = after


def string(item: bytes) -> bytes:
    """Return a byte string's content; raise WireError unless the item is exactly one string."""
    kind, start, end = _span(item, 0)
    if kind is not bytes or end != len(item):
        raise WireError("not a string")
    return item[start:end]


def _span(payload: bytes, at: int) -> tuple[type, int, int]:
    """Return an item's kind (bytes or list) and where its content starts and ends."""
    try:
        return rlp.span(payload, at)
    except rlp.RlpError as error:
        raise WireError("not RLP") from error


def _to_bloom(content: bytes) -> bytes:
    if len(content) != BLOOM_SIZE:
        raise WireError(f"a bloom filter of {len(content)} bytes")
    return content


def _double_bits(value: float) -> int:
    return int.from_bytes(struct.pack(">d", value))


def _to_double(bits: bytes) -> float:
    if len(bits) > _DOUBLE:
        raise WireError("a number longer than a double")
    value = float(struct.unpack(">d", bits.rjust(_DOUBLE, b"\0"))[0])
    if not math.isfinite(value) or value < 0:
        raise WireError(f"a proof of work of {value}")
    return value
