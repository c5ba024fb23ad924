"""Our envelopes that may still wait inside our own node, by whom they are for, so that they can be withdrawn.

The node keeps them for the next packet that is due, or for another try where one was lost on its way. An owner's switch
may come meanwhile, and then nothing of it may leave any more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from quietfleet.whisper import Envelope


class UnderWay:
    """Hashes and expiries by peer; for the peer "" it is what is for everyone, or for nobody."""

    def __init__(self) -> None:
        self._left: dict[str, dict[bytes, float]] = {}
        self._order: deque[tuple[float, str, bytes]] = deque()

    def __len__(self) -> int:
        return len(self._order)

    def note(self, peer: str, envelope: Envelope, now: float) -> None:
        """Remember what the node was given."""
        self._forget(now)
        self._left.setdefault(peer, {})[envelope.hash] = envelope.expiry
        self._order.append((envelope.expiry, peer, envelope.hash))

    def take(self, peers: Iterable[str]) -> dict[bytes, float]:
        """Return the hashes and expiries of what was for these peers, once."""
        return {digest: expiry for peer in peers for digest, expiry in self._left.pop(peer, {}).items()}

    def take_all(self) -> dict[bytes, float]:
        """Return those of everything."""
        return self.take(list(self._left))

    def _forget(self, now: float) -> None:
        while self._order and self._order[0][0] < now:
            _, peer, digest = self._order.popleft()
            mine = self._left.get(peer, {})
            mine.pop(digest, None)
            if not mine:
                self._left.pop(peer, None)
