"""Keccak-256 by pycryptodome: seven times slower than pysha3, and there where pysha3 has no wheel."""

from __future__ import annotations

from collections.abc import Callable

from Crypto.Hash import keccak


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest of `data` (the padding Ethereum uses, not SHA3-256)."""
    return keccak.new(digest_bits=256, data=data).digest()


def absorb(prefix: bytes) -> Callable[[bytes], bytes]:
    """Return a function from `suffix` to the digest of `prefix + suffix`; this backend keeps no state between."""

    def digest(suffix: bytes) -> bytes:
        return keccak256(prefix + suffix)

    return digest
