"""How well the deployed model does, next to the forecast that costs nothing: "as it is now" (persistence).

A constant error limit blames the model for a stormy week; persistence suffers the same week.
"""

from __future__ import annotations

import math
from collections import deque
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


class RollingPerformance:
    """Collects forecast, persistence and truth as the truth comes in, over the last `window` seconds of data time."""

    def __init__(self, window: float = 7 * 86_400.0) -> None:
        self._window = window
        self._errors: deque[tuple[float, float, float]] = deque()

    def add(self, time: float, *, forecast: float, persistence: float, actual: float) -> None:
        """Note what was forecast for `time` and what it was; times come in ascending order."""
        self._errors.append((time, (forecast - actual) ** 2, (persistence - actual) ** 2))
        while self._errors[0][0] <= time - self._window:
            self._errors.popleft()

    def current(self) -> Performance | None:
        """Return the window's errors; None before the first truth."""
        if not self._errors:
            return None
        n = len(self._errors)
        model = math.fsum(error for _, error, _ in self._errors)
        free = math.fsum(error for _, _, error in self._errors)
        return Performance(n, math.sqrt(model / n), math.sqrt(free / n))
