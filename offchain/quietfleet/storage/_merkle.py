"""A Merkle tree over a growing log, to show that an entry is in it.

RFC 6962, section 2.1, over SHA-256: leaves and inner nodes are hashed under different first bytes, and a tree of any
size splits at the largest power of two below it, so that full subtrees stay as they are while the log grows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Final

EMPTY: Final = hashlib.sha256().digest()
"""The root over nothing."""

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"


def leaf_hash(entry: bytes) -> bytes:
    """Return the 32 bytes that stand for an entry in the tree."""
    return hashlib.sha256(_LEAF + entry).digest()


class GrowingTree:
    """Takes leaf hashes one by one and tells the root at any time; keeps the full subtrees alone."""

    def __init__(self) -> None:
        self._peaks: list[tuple[int, bytes]] = []  # their sizes fall

    def add(self, leaf: bytes) -> None:
        """Take the next leaf."""
        size, node = 1, leaf
        while self._peaks and self._peaks[-1][0] == size:
            node = _node(self._peaks.pop()[1], node)
            size *= 2
        self._peaks.append((size, node))

    @property
    def root(self) -> bytes:
        """The root over all leaves so far."""
        nodes = [node for _, node in self._peaks]
        return reduce(lambda right, left: _node(left, right), reversed(nodes)) if nodes else EMPTY


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes."""
    tree = GrowingTree()
    for leaf in leaves:
        tree.add(leaf)
    return tree.root


def inclusion(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Return the way from the leaf at `index` to the root: its neighbours, from below (RFC 6962, 2.1.1)."""
    if not 0 <= index < len(leaves):
        raise IndexError(index)
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion(leaves[:split], index), merkle_root(leaves[split:])]
    return [*inclusion(leaves[split:], index - split), merkle_root(leaves[:split])]


def includes(root: bytes, size: int, index: int, leaf: bytes, way: Sequence[bytes]) -> bool:
    """Tell whether `way` leads from a leaf to the root of a tree of `size` leaves (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, place, last = leaf, index, size - 1
    for sibling in way:
        if last == 0:
            return False
        if place & 1 or place == last:
            node = _node(sibling, node)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            node = _node(node, sibling)
        place, last = place >> 1, last >> 1
    return last == 0 and node == root


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
