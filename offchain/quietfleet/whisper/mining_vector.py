"""Proof of work on vectors: eight nonces at a time, compiled by numba to what this machine's vector unit does best.

The permutation is written in LLVM's own vector types, as numba does not find them in a loop: ten times faster. Python's
lock is free while it runs. Keccak-f[1600] is FIPS 202, its padding Ethereum's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from quietfleet.crypto import keccak256
from quietfleet.whisper.pow import leading_zeros

_LANES: Final = 8
_CHUNK: Final = 1 << 16  # nonces between two questions whether to go on: 3 ms on a fast machine
_RATE: Final = 136  # bytes of the sponge that a block fills
_RATE_WORDS: Final = _RATE // 8
_STATE_WORDS: Final = 25
_NONCE_SIZE: Final = 8
_ROUNDS: Final = 24
_WORD_BITS: Final = 64
_VECTOR: Final = ir.VectorType(ir.IntType(_WORD_BITS), _LANES)
_INDEX: Final = ir.IntType(32)
_emit: Any = cgutils
_compiled: Callable[[Callable[..., Any]], Any] = njit(nogil=True, cache=True)


def search_vector(rlp: bytes, start: int, stop: int, wanted: int, cancelled: Callable[[], bool]) -> tuple[int, int]:
    """Return what `search_plain` does, asking `cancelled` every 65,536 nonces; sees 64 bits, more than anyone mines."""
    whole = len(rlp) // _RATE * _RATE
    state, rest = _absorb(np.frombuffer(rlp[:whole], np.uint64), _ROUND_CONSTANTS), len(rlp) - whole
    blocks = _padded(rlp[whole:])
    state[:_RATE_WORDS] ^= blocks[:_RATE_WORDS]
    limit = np.uint64((1 << max(_WORD_BITS - wanted, 0)) - 1)
    best, lowest = start, np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    for at in range(start, stop, _CHUNK):
        if cancelled():
            break
        count = min(stop - at, _CHUNK)
        place, value = _sweep(state, blocks[_RATE_WORDS:], rest, np.uint64(at), count, limit, _ROUND_CONSTANTS)
        if value < lowest:
            best, lowest = at + place, value
        if value <= limit:
            break
    return best, leading_zeros(keccak256(rlp + best.to_bytes(_NONCE_SIZE, "big"))) if stop > start else 0


def _padded(rest: bytes) -> Any:
    """Return the last block or two as words: what is left of the RLP, eight bytes for the nonce, the padding."""
    size = len(rest) + _NONCE_SIZE
    block = bytearray(size // _RATE * _RATE + _RATE)
    block[: len(rest)] = rest
    block[size] |= 0x01
    block[-1] |= 0x80
    return np.frombuffer(bytes(block), np.uint64)


def _round_constants() -> Any:
    """Return iota's constants, from the shift register that defines them."""
    register, constants = 1, []
    for _ in range(_ROUNDS):
        constant = 0
        for power in range(7):
            constant |= (register & 1) << ((1 << power) - 1)
            register = register << 1 ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return np.array(constants, np.uint64)


def _rotations() -> dict[tuple[int, int], int]:
    """Return rho's rotation of each word, by its column and row."""
    rotations, place = {(0, 0): 0}, (1, 0)
    for step in range(_ROUNDS):
        rotations[place] = (step + 1) * (step + 2) // 2 % _WORD_BITS
        place = place[1], (2 * place[0] + 3 * place[1]) % 5
    return rotations


_ROUND_CONSTANTS: Final = _round_constants()
_ROTATIONS: Final = _rotations()


def _emit_permute(_context: Any, lanes: Any, constants: Any) -> Any:
    """Apply Keccak-f[1600] in place to the eight states of `lanes`, uint64 of shape (25, 8)."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data, table = (
            _emit.create_struct_proxy(kind)(context, builder, value).data
            for kind, value in zip(signature.args, arguments, strict=True)
        )
        places = [builder.gep(builder.bitcast(data, _VECTOR.as_pointer()), [_INDEX(i)]) for i in range(_STATE_WORDS)]
        words = [_emit.alloca_once_value(builder, builder.load(place, align=8)) for place in places]
        with _emit.for_range(builder, _INDEX(_ROUNDS)) as loop:
            constant = builder.load(builder.gep(table, [loop.index]))
            for word, value in zip(
                words, _round(builder, [builder.load(word) for word in words], constant), strict=True
            ):
                builder.store(value, word)
        for word, place in zip(words, places, strict=True):
            builder.store(builder.load(word), place, align=8)
        return context.get_dummy_value()

    return types.void(lanes, constants), generate


_permute: Any = intrinsic(_emit_permute)


def _round(builder: Any, a: list[Any], constant: Any) -> list[Any]:
    """Emit one round: theta, rho and pi, chi, iota; the word of column x and row y is a[x + 5y]."""
    parity = [_xor(builder, *a[x::5]) for x in range(5)]
    mixed = [builder.xor(parity[(x + 4) % 5], _rotate(builder, parity[(x + 1) % 5], 1)) for x in range(5)]
    b = {
        (y, (2 * x + 3 * y) % 5): _rotate(builder, builder.xor(a[x + 5 * y], mixed[x]), rotation)
        for (x, y), rotation in _ROTATIONS.items()
    }
    words = [
        builder.xor(b[x, y], builder.and_(builder.not_(b[(x + 1) % 5, y]), b[(x + 2) % 5, y]))
        for y in range(5)
        for x in range(5)
    ]
    words[0] = builder.xor(words[0], _broadcast(builder, constant))
    return words


def _xor(builder: Any, first: Any, *others: Any) -> Any:
    for other in others:
        first = builder.xor(first, other)
    return first


def _rotate(builder: Any, word: Any, by: int) -> Any:
    if not by:
        return word
    left, right = (_VECTOR([count] * _LANES) for count in (by, _WORD_BITS - by))
    return builder.or_(builder.shl(word, left), builder.lshr(word, right))


def _broadcast(builder: Any, word: Any) -> Any:
    vector = builder.insert_element(_VECTOR(ir.Undefined), word, _INDEX(0))
    return builder.shuffle_vector(vector, _VECTOR(ir.Undefined), ir.VectorType(_INDEX, _LANES)([0] * _LANES))


@_compiled
def _absorb(words: Any, constants: Any) -> Any:
    """Return the state after whole blocks: 17 little-endian words each."""
    lanes = np.zeros((_STATE_WORDS, _LANES), np.uint64)
    for block in range(len(words) // _RATE_WORDS):
        for i in range(_RATE_WORDS):
            lanes[i, 0] ^= words[block * _RATE_WORDS + i]
        _permute(lanes, constants)
    return lanes[:, 0].copy()


@_compiled
def _sweep(state: Any, more: Any, rest: int, start: Any, count: int, limit: Any, constants: Any) -> Any:
    """Try `count` nonces from `start`: return the place and value of the first at most `limit`, or of the lowest.

    `state` holds the block in which the nonce begins at byte `rest`; `more` is the block after it, if there is one. A
    value is the digest's first 64 bits.
    """
    lanes = np.empty((_STATE_WORDS, _LANES), np.uint64)
    best, lowest = 0, np.uint64(0xFFFF_FFFF_FFFF_FFFF)
    for at in range(0, count, _LANES):
        _load(lanes, state, rest, start + np.uint64(at))
        _permute(lanes, constants)
        if len(more):
            _load_more(lanes, more, rest, start + np.uint64(at))
            _permute(lanes, constants)
        for lane in range(min(_LANES, count - at)):
            value = _swap(lanes[0, lane])
            if value < lowest:
                best, lowest = at + lane, value
                if value <= limit:
                    return best, lowest
    return best, lowest


@_compiled
def _load(lanes: Any, state: Any, rest: int, first: Any) -> None:
    """Give each lane the state and its nonce, from byte `rest` on as far as the block goes."""
    word, shift = rest // 8, np.uint64(rest % 8 * 8)
    for i in range(_STATE_WORDS):
        for lane in range(_LANES):
            lanes[i, lane] = state[i]
    for lane in range(_LANES):
        nonce = _swap(first + np.uint64(lane))
        lanes[word, lane] ^= nonce << shift
        if shift and word + 1 < _RATE_WORDS:
            lanes[word + 1, lane] ^= nonce >> (np.uint64(_WORD_BITS) - shift)


@_compiled
def _load_more(lanes: Any, more: Any, rest: int, first: Any) -> None:
    """Add the block after it, with what did not fit of the nonce."""
    shift = np.uint64(rest % 8 * 8)
    for lane in range(_LANES):
        for i in range(_RATE_WORDS):
            lanes[i, lane] ^= more[i]
        if shift:
            lanes[0, lane] ^= _swap(first + np.uint64(lane)) >> (np.uint64(_WORD_BITS) - shift)


@_compiled
def _swap(word: Any) -> Any:
    """Return the word with its bytes reversed."""
    swapped = np.uint64(0)
    for _ in range(8):
        swapped = (swapped << np.uint64(8)) | (word & np.uint64(0xFF))
        word = word >> np.uint64(8)
    return swapped
