"""Packets that wait at a relay for their moment, in bounded memory."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class Holding:
    """At most `limit` bytes: when there are more, what would wait longest is dropped.

    So who fills it with packets that wait for long loses those, and not the packets of others. It never lets one go
    early, which would show which came in together.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._numbers = count()
        self._waiting: dict[int, tuple[int, asyncio.TimerHandle]] = {}  # bytes, and what lets it go
        self._latest: list[tuple[float, int]] = []  # a heap, some of whose entries are gone already
        self.size = 0

    def put(self, size: int, delay: float, let_go: Callable[[], None]) -> int:
        """Call `let_go` in `delay` seconds; return how many packets, this one perhaps, had to be dropped."""
        loop, number = asyncio.get_running_loop(), next(self._numbers)
        due = loop.time() + delay
        self._waiting[number] = size, loop.call_at(due, self._go, number, let_go)
        heapq.heappush(self._latest, (-due, number))
        self.size += size
        return self._make_room()

    def __len__(self) -> int:
        return len(self._waiting)

    def _go(self, number: int, let_go: Callable[[], None]) -> None:
        self._forget(number)
        if len(self._latest) > 2 * len(self._waiting) + 64:
            self._latest = [entry for entry in self._latest if entry[1] in self._waiting]
            heapq.heapify(self._latest)
        let_go()

    def _make_room(self) -> int:
        dropped = 0
        while self.size > self._limit:
            _, number = heapq.heappop(self._latest)
            if number in self._waiting:
                self._forget(number).cancel()
                dropped += 1
        return dropped

    def _forget(self, number: int) -> asyncio.TimerHandle:
        size, handle = self._waiting.pop(number)
        self.size -= size
        return handle
