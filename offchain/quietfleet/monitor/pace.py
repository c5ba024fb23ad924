"""How fast time goes for the monitors: a recording of hours is watched as if it were weeks.

What they count in days and weeks is settled on sensors that are read for months. Of a shorter recording the same
numbers hold in its own terms: its length is what four weeks are, so that its first half is the reference, and a day is
a twenty-eighth of it. What is said of it is told in its own time again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from quietfleet.monitor.integrity import Finding, Row

DAY: Final = 86_400.0
SHORT: Final = 8 * DAY
LENGTH: Final = 14 * DAY


class Pace(NamedTuple):
    """So many seconds for the monitors in each second since then (Unix seconds)."""

    since: float
    times: float

    @classmethod
    def of(cls, since: float, until: float) -> Pace:
        """Return the pace of a recording: its own, unless it is short."""
        return cls(since, LENGTH / (until - since) if until - since < SHORT else 1.0)

    @property
    def day(self) -> float:
        """How many seconds of the recording are a day to the monitors."""
        return DAY / self.times

    def there(self, readings: Mapping[str, Sequence[Row]]) -> Mapping[str, Sequence[Row]]:
        """Return readings in the monitors' time."""
        if self.times == 1.0:
            return readings
        return {device: [(self.stretch(at), values) for at, values in rows] for device, rows in readings.items()}

    def stretch(self, moment: float) -> float:
        """A moment of the recording in the monitors' time."""
        return self.since + (moment - self.since) * self.times

    def back(self, moment: float) -> float:
        """A moment of the monitors' time in the recording's."""
        return self.since + (moment - self.since) / self.times

    def found(self, finding: Finding) -> Finding:
        """A finding in the recording's time."""
        return replace(finding, since=self.back(finding.since), until=self.back(finding.until))
