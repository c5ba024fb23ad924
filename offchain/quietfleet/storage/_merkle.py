"""A Merkle tree over a growing log: that an entry is in it, and that an older tree is the beginning of a newer one.

RFC 6962, section 2.1, over SHA-256: leaves and inner nodes are hashed under different first bytes, and a tree of any
size splits at the largest power of two below it, so that what was proven of a full subtree stays so as the log grows.
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


def consistency(leaves: Sequence[bytes], older: int) -> list[bytes]:
    """Return what shows that the tree over the first `older` leaves is the beginning of this one (RFC 6962, 2.1.2)."""
    if not 0 <= older <= len(leaves):
        raise IndexError(older)
    return _consistency(leaves, older, whole=True) if 0 < older < len(leaves) else []


def continues(older_root: bytes, older: int, root: bytes, size: int, proof: Sequence[bytes]) -> bool:
    """Tell whether a tree of `older` leaves is the beginning of one of `size` leaves (RFC 9162, 2.1.4.2)."""
    if not 0 <= older <= size:
        return False
    if older in (0, size):
        return not proof and older_root == (EMPTY if older == 0 else root)
    way = list(proof)
    if older & (older - 1) == 0:
        way.insert(0, older_root)
    return bool(way) and _both(way, older, size) == (older_root, root)


def _both(way: Sequence[bytes], older: int, size: int) -> tuple[bytes, bytes] | None:
    """Rebuild the roots of both trees from a consistency proof; None when it is too short or too long."""
    place, last = older - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    first = second = way[0]
    for node in way[1:]:
        if last == 0:
            return None
        if place & 1 or place == last:
            first, second = _node(node, first), _node(node, second)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            second = _node(second, node)
        place, last = place >> 1, last >> 1
    return (first, second) if last == 0 else None


def _consistency(leaves: Sequence[bytes], older: int, *, whole: bool) -> list[bytes]:
    if older == len(leaves):
        return [] if whole else [merkle_root(leaves)]
    split = _split(len(leaves))
    if older <= split:
        return [*_consistency(leaves[:split], older, whole=whole), merkle_root(leaves[split:])]
    return [*_consistency(leaves[split:], older - split, whole=False), merkle_root(leaves[:split])]


def _split(size: int) -> int:
    """Return the largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()
