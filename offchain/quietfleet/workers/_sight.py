"""What a worker sees of the chain: in words for its operator, and in the audit trail when that begins and ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from quietfleet.chain.endpoints import Endpoints
from quietfleet.chain.types import Head
from quietfleet.chain.watch import Watch
from quietfleet.clock import Clock
from quietfleet.workers._state import State

if TYPE_CHECKING:
    from quietfleet.workers._host import Host

SETTLE: Final = 5.0  # seconds after a start in which an old block is no news: newer ones are being read
_STALE: Final = "chain stale"


class Sight:
    """Whether the newest block is young enough, and if not, what is probably the matter."""

    def __init__(self, host: Host, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._host = host
        self._max_age = host.settings.chain.max_age
        self._state = State(host.database)
        self._drift = _Drift(host.clock, monotonic)
        self._began = host.clock.now()
        self.watch: Watch | None = None
        self.endpoints: Endpoints | None = None

    def tick(self) -> None:
        """Enter once that the chain went out of sight, and once that it came back, also across restarts."""
        stale, known = self._host.registry.stale, self._state.get(_STALE, default=False)
        if not stale:
            self._drift.settle()
        if stale == known or (stale and not self._settled):
            return
        self._state.set(_STALE, stale or None)
        head = self._host.replica.head
        why = {"why": self.words} if stale else {}
        self._host.note("chain-stale" if stale else "chain-fresh", **_place(head, self._host.clock.now()), **why)

    @property
    def words(self) -> str:
        """One sentence: what is seen, or why nothing is and what to do."""
        head, now = self._host.replica.head, self._host.clock.now()
        if head is None:
            return self._unseen("no block was read yet")
        age = now - head.timestamp
        if not self._host.registry.stale:
            return f"block {head.number}, {age:.0f} s old"
        jump = self._drift.seconds
        if abs(jump) > self._max_age / 2:
            return f"this machine's clock jumped by {jump:+.0f} s since the chain was last in sight: set it right"
        if age < 0:
            return f"block {head.number} is {-age:.0f} s ahead of this machine's clock: set the clock right"
        return self._unseen(f"block {head.number} is {age:.0f} s old, the limit is {self._max_age:.0f}")

    def status(self) -> dict[str, Any]:
        """What `quietfleet status` shows; endpoints by their place, as their addresses may hold keys."""
        if self.endpoints is None:
            return {"chain": self.words}
        used = {"in_use": self.endpoints.in_use, "resting": self.endpoints.resting, "switches": self.endpoints.switches}
        return {"chain": self.words, "endpoints": used}

    @property
    def _settled(self) -> bool:
        return abs(self._host.clock.now() - self._began) >= SETTLE

    def _unseen(self, seen: str) -> str:
        failing = self.watch is not None and self.watch.failing
        error = self.watch.last_error if self.watch else None
        if failing and error is not None:
            return f"{seen}. {type(error).__doc__}"
        return f"{seen}: the endpoint lags, the chain stands still, or this machine's clock is fast"


class _Drift:
    """How far the machine's clock has moved apart from its steady timer since things were last in order."""

    def __init__(self, clock: Clock, monotonic: Callable[[], float]) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self.settle()

    def settle(self) -> None:
        self._apart = self._clock.now() - self._monotonic()

    @property
    def seconds(self) -> float:
        return self._clock.now() - self._monotonic() - self._apart


def _place(head: Head | None, now: float) -> dict[str, Any]:
    return {"block": head.number, "age": round(now - head.timestamp)} if head else {"block": None, "age": None}
