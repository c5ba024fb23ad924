"""Keccak-256 by pysha3: the fast one, and the only one whose state can be copied."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import repeat
from typing import cast

import sha3

from quietfleet.crypto._running import RunningKeccak


def keccak256(data: bytes) -> bytes:
    """Return the 32-byte Keccak-256 digest of `data` (the padding Ethereum uses, not SHA3-256)."""
    return cast("bytes", sha3.keccak_256(data).digest())


def keccak256_each(prefix: bytes, suffixes: Sequence[bytes]) -> list[bytes]:
    """Return the digest of `prefix` with each suffix; the prefix is hashed once, and no bytecode runs between two."""
    copies = list(map(sha3.keccak_256.copy, repeat(sha3.keccak_256(prefix), len(suffixes))))
    deque(map(sha3.keccak_256.update, copies, suffixes), maxlen=0)
    return list(map(sha3.keccak_256.digest, copies))


def running_keccak(start: bytes) -> RunningKeccak:
    """Return a state that absorbed `start` and shows its digest at any time without ending."""
    return cast("RunningKeccak", sha3.keccak_256(start))
