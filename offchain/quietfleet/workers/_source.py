"""Where a sensor's readings come from: here, a recording played against the data clock."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from quietfleet.clock import Clock
from quietfleet.errors import SettingsError

Reading = tuple[float, dict[str, float]]


class Source(Protocol):
    """Anything that measures."""

    def due(self) -> list[Reading]:
        """Return what was measured since the last call, as (data time, value by field)."""
        ...

    def recalibrate(self) -> None:
        """Try to measure right again."""
        ...


@dataclass(slots=True)
class Replay:
    """A recording, played from `played` (data time) on; what a stopped sensor slept through is not measured."""

    rows: list[Reading]
    clock: Clock
    played: float

    def due(self) -> list[Reading]:
        until = max(self.clock.now(), self.played)
        first, last = (bisect_right(self.rows, moment, key=lambda row: row[0]) for moment in (self.played, until))
        self.played = until
        return self.rows[first:last]

    def recalibrate(self) -> None:
        """A recording cannot be recalibrated."""


def open_replay(path: Path, clock: Clock) -> Replay:
    """Open a CSV with the columns time (Unix seconds) and one a field; raises `SettingsError`."""
    try:
        with path.open(newline="") as file:
            rows = [_reading(row) for row in csv.DictReader(file)]
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"[sensor] replay: {error}") from error
    return Replay(rows, clock, clock.now())


def _reading(row: dict[str, str]) -> Reading:
    return float(row.pop("time")), {field: float(value) for field, value in row.items() if value != ""}
