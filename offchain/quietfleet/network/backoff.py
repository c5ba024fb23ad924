"""How long to wait before dialling again."""

from __future__ import annotations

import random
from dataclasses import dataclass, field


@dataclass(slots=True)
class Backoff:
    """Exponential with jitter, so that a fleet does not return to a restarted relay all at once."""

    rng: random.Random
    first: float = 0.5
    ceiling: float = 60.0
    _failures: int = field(default=0, init=False)

    def pause_after(self, lasted: float) -> float:
        """Return the seconds to wait after a connection of `lasted` seconds: within half and all of a doubling span.

        Only a connection that outlived the longest pause makes pauses short again: a peer that accepts and hangs up
        at once is no better than one that is away.
        """
        if lasted >= self.ceiling:
            self._failures = 0
        span = min(self.ceiling, self.first * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return self.rng.uniform(span / 2, span)
