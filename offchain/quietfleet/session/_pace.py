"""How fast one direction of a session has been of late, by size class: what a ghost goes on with."""

from __future__ import annotations

import math
from typing import Final

import msgspec

RECENT: Final = 300.0  # seconds: the time constant of the average
YOUNG: Final = 30.0  # seconds a session counts as old at least, so that its first words make no high rate


class Pace(msgspec.Struct, array_like=True):
    """Envelopes counted by size class; each weighs less the longer ago it was, as of `at`."""

    at: float = 0.0
    counts: list[float] = []

    def count(self, size: int, now: float) -> None:
        """Count an envelope of a size class."""
        counts = self._faded(now, size + 1)
        counts[size] += 1.0
        self.at, self.counts = now, counts

    def rates(self, since: float, now: float, classes: int) -> list[float]:
        """Envelopes a second by size class, of a direction that began at `since`."""
        whole = RECENT * -math.expm1(-max(now - since, YOUNG) / RECENT)
        return [count / whole for count in self._faded(now, classes)[:classes]]

    def _faded(self, now: float, length: int) -> list[float]:
        fade = math.exp(-max(0.0, now - self.at) / RECENT)
        return [count * fade for count in self.counts] + [0.0] * (length - len(self.counts))
