"""What a relay has opened before: a packet goes through it once."""

from __future__ import annotations

from typing import Final

DEFAULT_CAPACITY: Final = 262_144  # about 30 MB, and 1,400 packets a second for the 180 s a packet can live


class ReplayCache:
    """Tags of spent packets until their coarse expiry (Unix seconds), at most `capacity`.

    It never forgets a packet that could still be opened: when it is full, new packets are refused instead.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._spent: dict[bytes, int] = {}
        self._due: dict[int, list[bytes]] = {}
        self._floor = 0.0

    @property
    def capacity(self) -> int:
        """How many tags there is room for."""
        return self._capacity

    @property
    def crowded(self) -> bool:
        """Whether more than half of the room is taken."""
        return 2 * len(self._spent) > self._capacity

    def seen(self, tag: bytes) -> bool:
        """Tell whether this tag is spent: worth asking before any cryptography."""
        return tag in self._spent

    def spend(self, tag: bytes, expires: int, now: float) -> bool:
        """Take note of a packet that opened; False if it is spent, over, or there is no room: then drop it."""
        self.prune(now)
        if tag in self._spent or expires <= self._floor or len(self._spent) >= self._capacity:
            return False
        self._spent[tag] = expires
        self._due.setdefault(expires, []).append(tag)
        return True

    def prune(self, now: float) -> None:
        """Forget tags that are over. A clock that is set back revives nothing: what was over stays refused."""
        if now <= self._floor:
            return
        self._floor = now
        for expires in [due for due in self._due if due <= now]:
            for tag in self._due.pop(expires):
                del self._spent[tag]

    def __len__(self) -> int:
        return len(self._spent)
