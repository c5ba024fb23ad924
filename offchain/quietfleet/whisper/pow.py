"""Proof of work: what a sender spends so that flooding costs something.

Since go-ethereum 1.9 (and here) the work is the leading zero bits of keccak256(RLP without nonce ‖ nonce as 8 bytes),
and pow = 2^bits / (length of that RLP x ttl): long and long-lived envelopes must work more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from quietfleet.crypto import keccak256, keccak256_each
from quietfleet.errors import PowTargetMissed
from quietfleet.whisper._envelope import HEADER_SIZE, Envelope

_NONCE_SIZE: Final = 8
_NONCES: Final = 1 << 64
_BLOCK: Final = 256
_BYTES: Final = tuple(bytes((value,)) for value in range(_BLOCK))
_DIGEST_BITS: Final = 256

Search = Callable[[bytes, int, int, int, Callable[[], bool]], tuple[int, int]]
"""How nonces are tried: `search_plain`, or what `fastest_search` finds."""


def pow_of(envelope: Envelope, extra_ttl: int = 0) -> float:
    """Return the envelope's proof of work, as geth >= 1.9 counts it; infinite for a ttl of 0, as there.

    `extra_ttl` seconds are added to its ttl: geth's price for an envelope from the future.
    """
    bits, size = envelope.work
    return _value(bits, size, envelope.ttl + extra_ttl)


def legacy_pow_of(envelope: Envelope) -> float:
    """Return the proof of work as geth 1.8 counted it: trailing zero bits, a double hash, 20 + data as the size."""
    inner = keccak256(envelope.encode_without_nonce())
    digest = keccak256(inner.ljust(56, b"\x00") + envelope.nonce.to_bytes(_NONCE_SIZE, "big"))
    number = int.from_bytes(digest, "big")
    return _value((number & -number).bit_length() - 1, envelope.size, envelope.ttl)


def target_bits(target: float, data_size: int, ttl: int) -> int:
    """Return how many zero bits geth's miner looks for: ceil(log2(target x (20 + data) x ttl)), at least 1."""
    work = target * (HEADER_SIZE + data_size) * ttl
    return max(1, math.ceil(math.log2(work))) if work > 0 else 1


def mine(
    expiry: int,
    ttl: int,
    topic: bytes,
    data: bytes,
    target: float,
    *,
    start: int = 0,
    max_iterations: int = _NONCES,
    cancelled: Callable[[], bool] = lambda: False,
    search: Search | None = None,
) -> Envelope:
    """Return the envelope with the first nonce from `start` whose proof of work is at least `target`.

    Tries `max_iterations` nonces, asking `cancelled` every millisecond or so; then raises PowTargetMissed with the best
    nonce. Every `search` finds the same one.
    """
    draft = Envelope(expiry, ttl, topic, data, start)
    rlp = draft.encode_without_nonce()
    wanted = _wanted_bits(target, len(rlp), draft)
    nonce, bits = (search or search_plain)(rlp, start, min(start + max_iterations, _NONCES), wanted, cancelled)
    if bits < wanted:
        raise PowTargetMissed(nonce, bits, wanted)
    return Envelope(expiry, ttl, topic, data, nonce)


def search_plain(rlp: bytes, start: int, stop: int, wanted: int, cancelled: Callable[[], bool]) -> tuple[int, int]:
    """Return the first nonce in [start, stop) with the `wanted` zero bits and its bits, or the best one found.

    Needs no compiler. The RLP and the nonce's seven high bytes are hashed once for 256 nonces, after which it asks
    `cancelled`; where a few nonces will do, it tries a few at a time.
    """
    best, bound, at = start, b"\xff" * 32, start
    step = min(2 << wanted, _BLOCK)
    while at < stop and not cancelled():
        count = min(step, _BLOCK - at % _BLOCK, stop - at)
        digests = keccak256_each((rlp + at.to_bytes(_NONCE_SIZE, "big"))[:-1], _BYTES[at % _BLOCK :][:count])
        lowest = min(digests)
        if leading_zeros(lowest) >= wanted:
            return next((at + i, bits) for i, each in enumerate(digests) if (bits := leading_zeros(each)) >= wanted)
        if lowest < bound:
            best, bound = at + digests.index(lowest), lowest
        at += count
    return best, leading_zeros(bound)


def _wanted_bits(target: float, rlp_size: int, draft: Envelope) -> int:
    """Return geth's target, or more where its size formula falls short of what it will then check."""
    bits = target_bits(target, len(draft.data), draft.ttl)
    return bits if _value(bits, rlp_size, draft.ttl) >= target else bits + 1


def leading_zeros(digest: bytes) -> int:
    """Return how many zero bits a digest begins with."""
    return _DIGEST_BITS - int.from_bytes(digest, "big").bit_length()


def _value(bits: int, size: int, ttl: int) -> float:
    return 2.0**bits / size / ttl if ttl else math.inf
