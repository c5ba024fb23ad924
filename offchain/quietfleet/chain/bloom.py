"""A header's logs bloom (Ethereum Yellow Paper, section 4.3.1): it may name an address too many, never one too few."""

from __future__ import annotations

from quietfleet.crypto import keccak256


def bloom_of(value: bytes) -> int:
    """Return the three bits an address or topic sets among 2048."""
    digest = keccak256(value)
    bits = 0
    for place in (0, 2, 4):
        bits |= 1 << (int.from_bytes(digest[place : place + 2], "big") & 2047)
    return bits


def may_contain(bloom: int, value: bytes) -> bool:
    """Whether the block may have a log by this address or with this topic."""
    bits = bloom_of(value)
    return bloom & bits == bits
