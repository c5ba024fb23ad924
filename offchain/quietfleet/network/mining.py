"""Proof of work beside the event loop: in one thread, which makes way for the loop and stops when nobody waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from quietfleet.whisper import Envelope, Search, fastest_search, mine

_SLICE = 1e-3  # seconds of holding Python's lock, after which the loop gets its turn
_REST = 5e-5


class Mining:
    """Seeks nonces for one envelope after the other, so that they never take more than one core.

    `search` is the fastest this machine has unless given; it is looked for, and compiled, when first needed.
    """

    def __init__(self, *, search: Search | None = None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._search, self._monotonic = search, monotonic
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="mining")
        self._closed = threading.Event()
        self._waiting = 0

    @property
    def waiting(self) -> int:
        """How many envelopes are being worked on or wait for it."""
        return self._waiting

    async def work(self, draft: Envelope, target: float, budget: float) -> Envelope:
        """Return `draft` with the first nonce, from its own on, whose proof of work is at least `target`.

        Raise PowTargetMissed after `budget` seconds of work. Cancelling stops the work within milliseconds.
        """
        if target <= 0:  # any nonce will do
            return draft
        given_up = threading.Event()
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, self._mine, draft, target, budget, given_up)
        finally:
            self._waiting -= 1
            given_up.set()

    def close(self) -> None:
        """End all work, without waiting for it: whoever awaits it is told that it missed its target or is cancelled."""
        self._closed.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _mine(self, draft: Envelope, target: float, budget: float, given_up: threading.Event) -> Envelope:
        self._search = self._search or fastest_search()
        pace = _Pace(self._monotonic, budget)
        return mine(
            draft.expiry,
            draft.ttl,
            draft.topic,
            draft.data,
            target,
            start=draft.nonce,
            cancelled=lambda: pace.used_up() or given_up.is_set() or self._closed.is_set(),
            search=self._search,
        )


class _Pace:
    """The time one piece of work may take, and its rests."""

    def __init__(self, monotonic: Callable[[], float], budget: float) -> None:
        self._monotonic = monotonic
        self._worked_from = monotonic()
        self._end = self._worked_from + budget

    def used_up(self) -> bool:
        """Rest when it is time to, and say whether the budget is used up."""
        now = self._monotonic()
        if now - self._worked_from >= _SLICE:
            time.sleep(_REST)  # or the loop would wait five milliseconds for the lock, each time it wakes
            self._worked_from = self._monotonic()
        return now >= self._end
