"""How well the deployed model does, next to the forecast that costs nothing: "as it is now" (persistence).

A constant error limit blames the model for a stormy week; persistence suffers the same week.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Performance:
    """Errors over the window, in the target's unit; negative skill means worse than persistence, which is free."""

    n: int
    rmse: float
    persistence_rmse: float

    @property
    def skill(self) -> float:
        """What the model adds over persistence, as a share."""
        return 1.0 - self.rmse / self.persistence_rmse if self.persistence_rmse > 0 else 0.0


def combined(those: Iterable[Performance]) -> Performance | None:
    """Return the errors over all of several; None if nothing was compared."""
    found = list(those)
    n = sum(one.n for one in found)
    if n == 0:
        return None
    model = math.fsum(one.n * one.rmse**2 for one in found)
    free = math.fsum(one.n * one.persistence_rmse**2 for one in found)
    return Performance(n, math.sqrt(model / n), math.sqrt(free / n))
