"""What waits to be sent to one peer, each envelope until its own moment."""

from __future__ import annotations

import heapq


class Outbox:
    """Envelope hashes by the time they are due; when full, the one due first, so usually the oldest, is given up."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, bytes]] = []
        self._count = 0

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def next_due(self) -> float | None:
        """When the next hash is due, or None when nothing waits."""
        return self._heap[0][0] if self._heap else None

    def put(self, digest: bytes, due: float) -> bool:
        """Add a hash; tell whether another had to be dropped for it."""
        self._count += 1
        item = (due, self._count, digest)
        if len(self._heap) < self._limit:
            heapq.heappush(self._heap, item)
            return False
        heapq.heapreplace(self._heap, item)
        return True

    def take(self, now: float) -> list[bytes]:
        """Remove and return every hash that is due, in the order due."""
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(heapq.heappop(self._heap)[2])
        return due
