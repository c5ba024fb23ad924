"""Quotas: how much one link may bring into the network."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` saved up; full at first."""

    rate: float
    burst: float
    _tokens: float = 0.0
    _since: float | None = None

    def take(self, now: float, amount: float = 1.0) -> bool:
        """Take tokens at `now` (seconds of any steady clock); tell whether there were enough."""
        self._refill(now)
        if self._tokens < amount:
            return False
        self._tokens -= amount
        return True

    def owe(self, now: float, amount: float) -> float:
        """Take tokens, on credit if need be; return the seconds until the debt is paid."""
        self._refill(now)
        self._tokens -= amount
        return max(0.0, -self._tokens / self.rate)

    def _refill(self, now: float) -> None:
        if self._since is None:
            self._tokens, self._since = self.burst, now
        self._tokens = min(self.burst, self._tokens + max(0.0, now - self._since) * self.rate)
        self._since = now


@dataclass(slots=True)
class Fading:
    """A sum of which half is forgotten every `half_life` seconds."""

    half_life: float = 60.0
    _sum: float = 0.0
    _since: float = 0.0

    def add(self, now: float, amount: float) -> None:
        """Add to it at `now`, in seconds of any steady clock."""
        self._sum, self._since = self.at(now) + amount, now

    def at(self, now: float) -> float:
        """Return what is left of it."""
        return self._sum * math.exp2((self._since - now) / self.half_life)
