"""The address that a Swarm node gives to bytes: a tree of chunks, each of which is a binary Merkle tree of segments.

A chunk holds up to 4,096 bytes. Padded with zeros to 128 segments of 32 bytes, its segments are hashed in pairs, seven
times (Keccak-256), and the root once more with the chunk's span before it: how many bytes of the file lie below, as 64
bits, little endian. Up to 128 addresses fill a chunk of the next level; one alone at a level's end goes up as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from quietfleet.crypto import keccak256, keccak256_each

ADDRESS_SIZE: Final = 32
CHUNK_SIZE: Final = 4096
BRANCHES: Final = CHUNK_SIZE // ADDRESS_SIZE

_PAIR: Final = 2 * ADDRESS_SIZE
_LEVELS: Final = 7
_SPAN_SIZE: Final = 8


def _zeros() -> tuple[bytes, ...]:
    found = [bytes(ADDRESS_SIZE)]
    while len(found) < _LEVELS:
        found.append(keccak256(2 * found[-1]))
    return tuple(found)


_ZEROS: Final = _zeros()
"""The root of nothing but zeros, by its height."""


def chunk_address(payload: bytes, span: int) -> bytes:
    """Return the 32-byte address of a chunk of up to 4,096 bytes that stands for `span` bytes of a file."""
    nodes = payload + bytes(-len(payload) % ADDRESS_SIZE) if payload else _ZEROS[0]
    for zero in _ZEROS:
        if len(nodes) % _PAIR:
            nodes += zero
        nodes = b"".join(keccak256_each(b"", [nodes[at : at + _PAIR] for at in range(0, len(nodes), _PAIR)]))
    return keccak256(span.to_bytes(_SPAN_SIZE, "little") + nodes)


class Tree:
    """Takes the chunks' addresses of a file in order; never holds more than 127 of a level."""

    def __init__(self) -> None:
        self._levels: list[list[tuple[bytes, int]]] = [[]]

    def add(self, address: bytes, span: int, level: int = 0) -> None:
        """Take the next chunk of a level, which closes the one above when it is the 128th."""
        if level == len(self._levels):
            self._levels.append([])
        chunks = self._levels[level]
        chunks.append((address, span))
        if len(chunks) == BRANCHES:
            self.add(*_above(chunks), level + 1)
            chunks.clear()

    def root(self, last: Sequence[tuple[bytes, int]] = ()) -> bytes:
        """Return the address of everything so far and `last`, up to one chunk; of at least one chunk in all."""
        below = list(last)
        for chunks in self._levels:
            level = chunks + below
            below = [_above(level)] if len(level) > 1 else level
        return below[0][0]


class SwarmHash:
    """Computes the address of bytes as they come, in memory that does not grow with them."""

    def __init__(self) -> None:
        self._tree = Tree()
        self._rest = bytearray()
        self._began = False

    def update(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._rest += data
        whole = len(self._rest) // CHUNK_SIZE * CHUNK_SIZE
        for at in range(0, whole, CHUNK_SIZE):
            self._tree.add(chunk_address(bytes(self._rest[at : at + CHUNK_SIZE]), CHUNK_SIZE), CHUNK_SIZE)
        self._began |= whole > 0
        del self._rest[:whole]

    def digest(self) -> bytes:
        """Return the 32-byte address of everything so far; more may follow."""
        if self._began and not self._rest:
            return self._tree.root()
        return self._tree.root([(chunk_address(bytes(self._rest), len(self._rest)), len(self._rest))])


def swarm_address(data: bytes) -> bytes:
    """Return the 32-byte address of bytes."""
    whole = SwarmHash()
    whole.update(data)
    return whole.digest()


def _above(chunks: list[tuple[bytes, int]]) -> tuple[bytes, int]:
    span = sum(span for _, span in chunks)
    return chunk_address(b"".join(address for address, _ in chunks), span), span
