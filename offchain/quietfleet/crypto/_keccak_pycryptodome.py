"""Keccak-256 by pycryptodome: seven times slower than pysha3, and there where pysha3 has no wheel."""

from __future__ import annotations

from collections.abc import Sequence

from Crypto.Hash import keccak

from quietfleet.crypto._running import RunningKeccak


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest of `data` (the padding Ethereum uses, not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


def keccak256_each(prefix: bytes, suffixes: Sequence[bytes]) -> list[bytes]:
    """Return the digest of `prefix` with each suffix; this backend hashes the prefix every time."""
    return [keccak256(prefix + suffix) for suffix in suffixes]


def running_keccak(start: bytes) -> RunningKeccak:
    """Return a state that absorbed `start` and shows its digest at any time without ending."""
    return keccak.new(digest_bits=256, data=start, update_after_digest=True)
