"""Dandelion++ as a peer to measure against: a stem without encryption, one relay at a time, then the flood.

A message moves along a stem: each node hands it to one neighbour of its own, until a node that floods. Which neighbour,
and whether a node floods what comes by, is drawn anew each epoch and then stays, so that many messages of one sender
take one way. A node floods in a share `q` of its epochs; its own messages it always hands on. Two neighbours serve as
successors, and each link that messages come by is tied to one of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Final

EPOCH: Final = 600.0  # seconds, as Bitcoin's proposal has it
SUCCESSORS: Final = 2
_SCALE: Final = 1 << 64


def successor(secret: bytes, epoch: int, outbound: Sequence[bytes], came_from: bytes | None, q: float) -> bytes | None:
    """Return the neighbour that a node hands a message to in this epoch; None: it floods it now.

    `secret` is the node's own randomness, `outbound` the ids of the neighbours it dialled, `came_from` the neighbour
    the message came by, None for its own.
    """
    if not outbound or (came_from is not None and _draw(secret, epoch, b"floods") < q * _SCALE):
        return None
    chosen = sorted(outbound, key=lambda peer: _draw(secret, epoch, b"successor", peer))[:SUCCESSORS]
    return chosen[_draw(secret, epoch, b"link", came_from or b"own") % len(chosen)]


def _draw(secret: bytes, epoch: int, *what: bytes) -> int:
    """Return 64 bits that stay the same for a node, an epoch and a purpose."""
    parts = (secret, epoch.to_bytes(8, "big"), *what)
    return int.from_bytes(sha256(b"".join(len(part).to_bytes(2, "big") + part for part in parts)).digest()[:8], "big")
