"""Messages that came before their turn: kept for a while, and never more than a little.

Nothing depends on what is kept here. A message that waits is not acknowledged, so its sender says it again; this only
saves the time until then.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from quietfleet.session._codec import Packet

HELD = 32  # messages of a peer that wait
HELD_BYTES = 512 << 10  # and the bytes of their bodies
HOLD = 60.0  # seconds


@dataclass(frozen=True, slots=True)
class Early:
    """A message before its turn, and the session it came in."""

    peer: str
    session: bytes
    packet: Packet
    body: Any
    at: float


class Waiting:
    """Early messages by peer and id."""

    def __init__(self) -> None:
        self._early: dict[str, dict[bytes, Early]] = {}

    def clear(self) -> None:
        """Forget all: the database was rolled back."""
        self._early.clear()

    def hold(self, early: Early) -> bool:
        """Keep a message, in place of an earlier copy; False when its peer has too many waiting."""
        mine = self._early.setdefault(early.peer, {})
        mine.pop(early.packet.id, None)
        taken = sum(len(one.packet.body) for one in mine.values())
        if len(mine) >= HELD or taken + len(early.packet.body) > HELD_BYTES:
            return False
        mine[early.packet.id] = early
        return True

    def after(self, peer: str, message_id: bytes) -> list[Early]:
        """Take out what waits for a message, in the order it came."""
        mine = self._early.get(peer, {})
        freed = [one for one in mine.values() if one.packet.after == message_id]
        for one in freed:
            del mine[one.packet.id]
        return freed

    def drop(self, peer: str, message_id: bytes) -> None:
        """Forget a message that was given up, or has come again in its turn."""
        self._early.get(peer, {}).pop(message_id, None)

    def drop_peers(self, peers: AbstractSet[str]) -> None:
        """Forget all of some peers'."""
        for peer in peers & self._early.keys():
            del self._early[peer]

    def forget(self, now: float) -> None:
        """Forget what has waited too long."""
        kept = {p: {m: one for m, one in mine.items() if one.at >= now - HOLD} for p, mine in self._early.items()}
        self._early = {peer: mine for peer, mine in kept.items() if mine}
