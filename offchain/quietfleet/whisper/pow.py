"""Proof of work: what a sender spends so that flooding costs something.

Since go-ethereum 1.9 (and here) the work is the leading zero bits of keccak256(RLP without nonce ‖ nonce as 8 bytes),
and pow = 2^bits / (length of that RLP x ttl): long and long-lived envelopes must work more.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from quietfleet.crypto import absorb, keccak256
from quietfleet.errors import PowTargetMissed
from quietfleet.whisper._envelope import HEADER_SIZE, Envelope

_NONCE_SIZE: Final = 8
_NONCES: Final = 1 << 64
_BLOCK: Final = 256
_BYTES: Final = tuple(bytes((value,)) for value in range(_BLOCK))
_DIGEST_BITS: Final = 256


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
) -> Envelope:
    """Return the envelope with the first nonce from `start` whose proof of work is at least `target`.

    Tries `max_iterations` nonces, asking `cancelled` every 256; then raises PowTargetMissed with the best nonce.
    """
    draft = Envelope(expiry, ttl, topic, data, start)
    rlp = draft.encode_without_nonce()
    wanted = _wanted_bits(target, len(rlp), draft)
    nonce, bits = _search(rlp, start, min(start + max_iterations, _NONCES), wanted, cancelled)
    if bits < wanted:
        raise PowTargetMissed(nonce, bits, wanted)
    return Envelope(expiry, ttl, topic, data, nonce)


def _search(rlp: bytes, start: int, stop: int, wanted: int, cancelled: Callable[[], bool]) -> tuple[int, int]:
    """Return the first nonce in [start, stop) with the `wanted` zero bits and its bits, or the best one found.

    The RLP and the nonce's seven high bytes are absorbed once for 256 nonces: that makes it three times geth's speed.
    """
    best, bound = start, b"\xff" * 32
    for high in range(start >> 8, -(-stop >> 8)):
        if cancelled():
            break
        digest_of = absorb(rlp + high.to_bytes(_NONCE_SIZE - 1, "big"))
        base = high << 8
        for low in range(max(start - base, 0), min(stop - base, _BLOCK)):
            digest = digest_of(_BYTES[low])
            if digest < bound:
                best, bound = base + low, digest
                if _leading_zeros(digest) >= wanted:
                    return best, _leading_zeros(digest)
    return best, _leading_zeros(bound)


def _wanted_bits(target: float, rlp_size: int, draft: Envelope) -> int:
    """Return geth's target, or more where its size formula falls short of what it will then check."""
    bits = target_bits(target, len(draft.data), draft.ttl)
    return bits if _value(bits, rlp_size, draft.ttl) >= target else bits + 1


def _leading_zeros(digest: bytes) -> int:
    return _DIGEST_BITS - int.from_bytes(digest, "big").bit_length()


def _value(bits: int, size: int, ttl: int) -> float:
    return 2.0**bits / size / ttl if ttl else math.inf
