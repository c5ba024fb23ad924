"""Blooms: 512 bits with which a node says which topics it wants without saying which.

A topic sets three bits: bit j is topic[j], plus 256 if bit j of topic[3] is set (EIP-627).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from quietfleet.crypto import derive
from quietfleet.errors import BloomError

BLOOM_SIZE: Final = 64
BLOOM_BITS: Final = 8 * BLOOM_SIZE
FULL_BLOOM: Final = b"\xff" * BLOOM_SIZE
TOPIC_ENTROPY: Final = 13  # bytes `topic_within` consumes: four for each bit, so that none is favoured, and one more
_PICK_SIZE: Final = 4


def read_bloom(raw: bytes) -> bytes:
    """Check a bloom that a peer announced: 64 bytes, or none for everything; BloomError otherwise."""
    if len(raw) not in (0, BLOOM_SIZE):
        raise BloomError(f"a bloom is {BLOOM_SIZE} bytes, not {len(raw)}")
    return raw or FULL_BLOOM


def topic_bloom(topic: bytes) -> bytes:
    """Return the 64-byte bloom of one topic, as EIP-627 says: its three bits together."""
    bloom = bytearray(BLOOM_SIZE)
    for bit in topic_bits(topic):
        bloom[bit >> 3] |= 1 << (bit & 7)
    return bytes(bloom)


def geth_topic_bloom(topic: bytes) -> bytes:
    """Return the bloom as geth makes it: a bit overwrites an earlier one in the same byte (its bug, on the wire)."""
    bloom = bytearray(BLOOM_SIZE)
    for bit in topic_bits(topic):
        bloom[bit >> 3] = 1 << (bit & 7)
    return bytes(bloom)


def topic_bits(topic: bytes) -> tuple[int, int, int]:
    """Return the topic's three bit positions, 0 to 511; they need not differ."""
    high = topic[3]
    return topic[0] | (high & 1) << 8, topic[1] | (high & 2) << 7, topic[2] | (high & 4) << 6


def aggregate(blooms: Iterable[bytes]) -> bytes:
    """Return the bloom of everything the given ones want; nothing for none."""
    total = 0
    for bloom in blooms:
        total |= int.from_bytes(bloom, "big")
    return total.to_bytes(BLOOM_SIZE, "big")


def matches(bloom: bytes, wanted: bytes) -> bool:
    """Say whether every bit of `wanted` is in `bloom`."""
    return int.from_bytes(wanted, "big") & ~int.from_bytes(bloom, "big") == 0


def admits(bloom: bytes, topic: bytes) -> bool:
    """Say whether `bloom` wants the topic; the same as matching its bloom, without building it."""
    return all(bloom[bit >> 3] >> (bit & 7) & 1 for bit in topic_bits(topic))


def bloom_mask(bloom: bytes) -> int:
    """Return a bloom as a number whose bit `i` is the bloom's: what is asked often is asked in one operation."""
    return int.from_bytes(bloom, "little")


def topic_mask(topic: bytes) -> int:
    """Return the topic's bits alike: `bloom` wants the topic where `topic_mask(topic) & ~bloom_mask(bloom)` is 0."""
    one, two, three = topic_bits(topic)
    return 1 << one | 1 << two | 1 << three


def topic_within(bloom: bytes, entropy: bytes) -> bytes:
    """Return a topic whose bits all lie in `bloom`, chosen by 13 random or pseudo-random bytes.

    Each message to a receiver gets its own, so that its topics link to nothing but its bloom. BloomError if `bloom`
    is empty.
    """
    if len(entropy) != TOPIC_ENTROPY:
        raise BloomError(f"a topic takes {TOPIC_ENTROPY} bytes of entropy")
    positions = _positions(bloom)
    if not positions:
        raise BloomError("an empty bloom has no topic")
    bits = [positions[pick % len(positions)] for pick in _picks(entropy[:-1])]
    free = entropy[-1] & 0b1111_1000
    return bytes(bit & 0xFF for bit in bits) + bytes((free | sum((bit >> 8) << j for j, bit in enumerate(bits)),))


def bloom_bits(bloom: bytes) -> list[int]:
    """Return the positions set in a bloom, in order."""
    return [bit for bit in range(BLOOM_BITS) if bloom[bit >> 3] >> (bit & 7) & 1]


def draw_bloom(seed: bytes, bits: int = 64) -> bytes:
    """Draw the bloom a receiver announces: `bits` positions of the 512, the same for the same seed.

    More bits attract more strangers' traffic to hide in, and cost that bandwidth.
    """
    if not 1 <= bits <= BLOOM_BITS:
        raise BloomError(f"a bloom has 1 to {BLOOM_BITS} bits")
    positions = list(range(BLOOM_BITS))
    bloom = bytearray(BLOOM_SIZE)
    for pick in _picks(derive(seed, "bloom", length=_PICK_SIZE * bits)):
        bit = positions.pop(pick % len(positions))
        bloom[bit >> 3] |= 1 << (bit & 7)
    return bytes(bloom)


@lru_cache(maxsize=1024)
def _positions(bloom: bytes) -> tuple[int, ...]:
    return tuple(bloom_bits(bloom))


def _picks(entropy: bytes) -> list[int]:
    return [int.from_bytes(entropy[at : at + _PICK_SIZE], "big") for at in range(0, len(entropy), _PICK_SIZE)]
