"""Keccak-256 by pysha3: the fast one, and the only one whose state can be copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import sha3


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest of `data` (the padding Ethereum uses, not SHA3-256)."""
    return cast("bytes", sha3.keccak_256(data).digest())


def absorb(prefix: bytes) -> Callable[[bytes], bytes]:
    """Return a function from `suffix` to the digest of `prefix + suffix` that hashes the prefix only once."""
    copy = sha3.keccak_256(prefix).copy

    def digest(suffix: bytes) -> bytes:
        state = copy()
        state.update(suffix)
        return cast("bytes", state.digest())

    return digest
