"""Where a sensor's readings come from: here, a recording replayed against the clock."""

from __future__ import annotations

import csv
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from quietfleet.errors import SettingsError
from quietfleet.settings import SensorSection

Reading = tuple[float, dict[str, float]]


class Source(Protocol):
    """Anything that measures."""

    def due(self, now: float) -> list[Reading]:
        """Return what was measured since the last call, as (data time, value by field)."""
        ...

    def recalibrate(self) -> None:
        """Try to measure right again."""
        ...


@dataclass(slots=True)
class Replay:
    """A recording played from `start` (data time) at `epoch` (real time), `speed` times as fast."""

    rows: list[Reading]
    start: float
    epoch: float
    speed: float
    _played: float

    def due(self, now: float) -> list[Reading]:
        until = self.data_time(now)
        first, last = (bisect_right(self.rows, moment, key=lambda row: row[0]) for moment in (self._played, until))
        self._played = max(until, self._played)
        return self.rows[first:last]

    def recalibrate(self) -> None:
        """A recording cannot be recalibrated."""

    def data_time(self, now: float) -> float:
        """The data time that `now` stands for."""
        return self.start + max(0.0, now - self.epoch) * self.speed


def open_replay(section: SensorSection, path: Path, now: float, *, resumed: bool) -> Replay:
    """Open the recording a sensor's settings name; a resumed one goes on at the present, what it slept through is lost.

    Raises `SettingsError` when the file or the date cannot be read.
    """
    try:
        start = datetime.fromisoformat(section.data_start).replace(tzinfo=UTC).timestamp()
        rows = _read(path)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"[sensor] replay: {error}") from error
    replay = Replay(rows, start, section.replay_epoch or now, section.speed, start)
    if resumed:
        replay.due(now)
    return replay


def _read(path: Path) -> list[Reading]:
    with path.open(newline="") as file:
        return [
            (float(row.pop("time")), {field: float(value) for field, value in row.items() if value != ""})
            for row in csv.DictReader(file)
        ]
