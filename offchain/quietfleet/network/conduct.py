"""When a peer's faults are too many to be accidents."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Conduct:
    """A leaky bucket of faults: `allowed` at once are forgiven, and one more every `forgiven_every` seconds."""

    allowed: int = 8
    forgiven_every: float = 30.0
    _level: float = 0.0
    _since: float = 0.0

    def fault(self, now: float) -> bool:
        """Note a fault; tell whether it was one too many."""
        leaked = (now - self._since) / self.forgiven_every
        self._level = max(0.0, self._level - leaked) + 1
        self._since = now
        return self._level > self.allowed
