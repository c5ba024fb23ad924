"""The envelope: all that a relay sees of a message (EIP-627, go-ethereum's Whisper v6).

On the wire it is RLP of [expiry u32, ttl u32, topic 4 bytes, data bytes, nonce u64].
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from quietfleet.crypto import keccak256, rlp
from quietfleet.errors import EnvelopeError
from quietfleet.whisper._rlp import big_endian, integer, take

TOPIC_SIZE: Final = 4
HEADER_SIZE: Final = 20  # what geth counts for everything but the data
_MAX_U32: Final = (1 << 32) - 1
_MAX_U64: Final = (1 << 64) - 1
_U32_SIZE: Final = 4
_U64_SIZE: Final = 8
_FIELDS: Final = 5
_STRING_OFFSET: Final = 0x80


@dataclass(frozen=True, slots=True)
class Envelope:
    """One sealed message on its way: `expiry` in Unix seconds, `ttl` in seconds, `nonce` the proof of work."""

    expiry: int
    ttl: int
    topic: bytes
    data: bytes
    nonce: int
    _raw: bytes = field(default=b"", init=False, repr=False, compare=False)
    _hash: bytes = field(default=b"", init=False, repr=False, compare=False)
    _work: tuple[int, int] = field(default=(0, 0), init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not (0 <= self.expiry <= _MAX_U32 and 0 <= self.ttl <= _MAX_U32 and 0 <= self.nonce <= _MAX_U64):
            raise EnvelopeError("expiry and ttl have 32 bits, the nonce 64")
        if len(self.topic) != TOPIC_SIZE:
            raise EnvelopeError(f"a topic is {TOPIC_SIZE} bytes, not {len(self.topic)}")

    @property
    def sent(self) -> int:
        """When the sender says it was sent, in Unix seconds; negative if its ttl is longer than time itself."""
        return self.expiry - self.ttl

    @property
    def size(self) -> int:
        """The size in bytes that limits and geth's target formula count: 20 + data."""
        return HEADER_SIZE + len(self.data)

    @property
    def hash(self) -> bytes:
        """Keccak-256 of the RLP: the envelope's id on the network."""
        if not self._hash:
            object.__setattr__(self, "_hash", keccak256(self.encode()))
        return self._hash

    def encode(self) -> bytes:
        """Return the RLP; remembered, since a relay sends the same envelope to every peer."""
        if not self._raw:
            object.__setattr__(self, "_raw", rlp.encode([*self._fields(), big_endian(self.nonce)]))
        return self._raw

    @property
    def work(self) -> tuple[int, int]:
        """The leading zero bits its nonce achieves, and the length in bytes of the RLP they were sought for."""
        if not self._work[1]:
            prefix = self.encode_without_nonce()
            digest = keccak256(prefix + self.nonce.to_bytes(_U64_SIZE, "big"))
            bits = 8 * len(digest) - int.from_bytes(digest, "big").bit_length()
            object.__setattr__(self, "_work", (bits, len(prefix)))
        return self._work

    def encode_without_nonce(self) -> bytes:
        """Return the RLP of the first four fields: what the proof of work is done over."""
        if not self._raw:
            return rlp.encode(self._fields())
        begin, end = take(self._raw, 0, len(self._raw), list)
        size = (self.nonce.bit_length() + 7) // 8
        fields = self._raw[begin : end - size - (not 0 < self.nonce < _STRING_OFFSET)]
        return rlp.enlist(fields)

    def _fields(self) -> list[bytes]:
        return [big_endian(self.expiry), big_endian(self.ttl), self.topic, self.data]


def decode_envelope(raw: bytes, digest: bytes = b"") -> Envelope:
    """Read one envelope; EnvelopeError for anything but its one canonical RLP. `digest` is its hash, where known."""
    at, end = take(raw, 0, len(raw), list)
    fields = []
    for _ in range(_FIELDS):
        begin, at = take(raw, at, end, bytes)
        fields.append(raw[begin:at])
    if not at == end == len(raw):
        raise EnvelopeError("more than five fields, or something after them")
    expiry, ttl, topic, data, nonce = fields
    envelope = Envelope(integer(expiry, _U32_SIZE), integer(ttl, _U32_SIZE), topic, data, integer(nonce, _U64_SIZE))
    object.__setattr__(envelope, "_raw", raw)
    object.__setattr__(envelope, "_hash", digest)
    return envelope


def encode_bundle(envelopes: Iterable[Envelope]) -> bytes:
    """Encode a `messages` packet: an RLP list of envelopes."""
    return rlp.enlist(b"".join(envelope.encode() for envelope in envelopes))


def split_bundle(raw: bytes) -> list[bytes]:
    """Return the encoded envelopes of a `messages` packet, each to be decoded (and refused) alone."""
    at, end = take(raw, 0, len(raw), list)
    if end != len(raw):
        raise EnvelopeError("something follows the bundle")
    parts = []
    while at < end:
        begin, (_, at) = at, take(raw, at, end, list)
        parts.append(raw[begin:at])
    return parts
