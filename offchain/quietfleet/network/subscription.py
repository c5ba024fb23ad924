"""From the network's loop to a reader that may be slower."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable

from quietfleet.whisper import Envelope


class Subscription(AsyncIterator[Envelope]):
    """A bounded queue: a reader that falls behind loses the oldest envelopes, and `on_overflow` counts each."""

    def __init__(self, limit: int, on_overflow: Callable[[], None]) -> None:
        self._limit, self._on_overflow = limit, on_overflow
        self._queue: deque[Envelope] = deque()
        self._changed = asyncio.Event()
        self._open = True

    def put(self, envelope: Envelope) -> None:
        if len(self._queue) >= self._limit:
            self._queue.popleft()
            self._on_overflow()
        self._queue.append(envelope)
        self._changed.set()

    @property
    def waiting(self) -> int:
        """How many envelopes the reader has not taken yet."""
        return len(self._queue)

    def take(self, most: int) -> list[Envelope]:
        """Take what waits at this moment, up to so many, oldest first."""
        return [self._queue.popleft() for _ in range(min(most, len(self._queue)))]

    def close(self) -> None:
        """End the iteration once the queue is empty."""
        self._open = False
        self._changed.set()

    async def __anext__(self) -> Envelope:
        while not self._queue:
            if not self._open:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()
        return self._queue.popleft()
