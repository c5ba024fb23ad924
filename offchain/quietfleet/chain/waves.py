"""Waves of a release: a Merkle tree over who belongs to which, so that each device can show its own and no other's.

Leaves and inner nodes are hashed under different first bytes, so that neither can pass for the other (RFC 6962).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from quietfleet.crypto import keccak256

_LEAF: Final = b"\x00"
_NODE: Final = b"\x01"
_EMPTY: Final = bytes(32)
"""What stands beside the last leaves: no leaf is known to hash to it."""


class Place(msgspec.Struct, frozen=True):
    """A device's place in a release: what it is called there alone, its wave from 1, what it gets, and a random salt.

    Pseudonym, manifest hash and salt are 32 bytes; without the salt, a leaf could be guessed.
    """

    pseudonym: bytes
    wave: int
    manifest_hash: bytes
    salt: bytes

    @property
    def leaf(self) -> bytes:
        """The 32 bytes that stand for it in the tree."""
        return keccak256(_LEAF + self.pseudonym + bytes([self.wave]) + self.manifest_hash + self.salt)


class WaveProof(msgspec.Struct, frozen=True):
    """How a device shows its place: its leaf, where that is, and the way from its neighbour up to below the root."""

    pseudonym: bytes
    wave: int
    manifest_hash: bytes
    salt: bytes
    index: int
    siblings: tuple[bytes, ...]


def group_root(places: Sequence[Place]) -> bytes:
    """Return the root over these places, at least one, padded to a power of two."""
    return _levels(places)[-1][0]


def wave_proof(places: Sequence[Place], index: int) -> WaveProof:
    """Return the proof of the place at `index`."""
    siblings = [level[(index >> height) ^ 1] for height, level in enumerate(_levels(places)[:-1])]
    own = places[index]
    return WaveProof(own.pseudonym, own.wave, own.manifest_hash, own.salt, index, tuple(siblings))


def proof_root(proof: WaveProof) -> bytes:
    """Return the root a proof leads to, as the contract does; an index beyond the tree leads to none."""
    node = Place(proof.pseudonym, proof.wave, proof.manifest_hash, proof.salt).leaf
    index = proof.index
    for sibling in proof.siblings:
        left, right = (sibling, node) if index & 1 else (node, sibling)
        node = keccak256(_NODE + left + right)
        index >>= 1
    return bytes(32) if index else node


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, at least one, padded to a power of two."""
    return _tree(leaves)[-1][0]


def _levels(places: Sequence[Place]) -> list[list[bytes]]:
    return _tree([place.leaf for place in places])


def _tree(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """Return the tree from its leaves up."""
    width = 1 << (len(leaves) - 1).bit_length()
    levels = [[*leaves, *[_EMPTY] * (width - len(leaves))]]
    while len(levels[-1]) > 1:
        below = levels[-1]
        levels.append([keccak256(_NODE + below[at] + below[at + 1]) for at in range(0, len(below), 2)])
    return levels
