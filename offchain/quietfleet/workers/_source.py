"""Where a sensor's readings come from: here, a recording played against the data clock."""

from __future__ import annotations

import csv
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from quietfleet.actuators.drivers import Driver, Simulated
from quietfleet.clock import Clock
from quietfleet.errors import SettingsError
from quietfleet.monitor.recalibration import Affine

if TYPE_CHECKING:
    from quietfleet.storage import Database

Reading = tuple[float, dict[str, float]]


class Source(Protocol):
    """Anything that measures."""

    def due(self) -> list[Reading]:
        """Return what was measured since the last call, as (data time, value by field)."""
        ...

    def recalibrate(self) -> None:
        """Check itself, and try to measure right again."""
        ...


class Recording:
    """Readings by column, nine bytes a value: as dictionaries, a thousand would take a third of a megabyte."""

    def __init__(self, names: Sequence[str]) -> None:
        self.times = array("d")
        self._columns = {name: (array("d"), bytearray()) for name in names if name != "time"}

    def add(self, row: Mapping[str, str]) -> None:
        """Add a row of text; an empty text is no value. KeyError or ValueError if it is no reading."""
        if None in row or None in row.values():  # as `csv` says so
            raise ValueError("a row has more values than columns, or fewer")
        self.times.append(float(row["time"]))
        for name, (values, there) in self._columns.items():
            values.append(float(row[name] or 0.0))
            there.append(row[name] != "")

    def between(self, first: int, last: int) -> list[Reading]:
        """Return readings by their places, `last` excluded."""
        return [
            (self.times[place], {name: of[place] for name, (of, there) in self._columns.items() if there[place]})
            for place in range(first, last)
        ]


@dataclass(slots=True)
class Replay:
    """A recording, played from `played` (data time) on; what a stopped sensor slept through is not measured."""

    recording: Recording
    clock: Clock
    played: float

    def due(self) -> list[Reading]:
        until = max(self.clock.now(), self.played)
        first, last = (bisect_right(self.recording.times, moment) for moment in (self.played, until))
        self.played = until
        return self.recording.between(first, last)

    def recalibrate(self) -> None:
        """A recording cannot be recalibrated."""


class Felt:
    """A source whose readings feel simulated actuators."""

    def __init__(self, source: Source, simulated: Sequence[Simulated]) -> None:
        self._source = source
        self._simulated = simulated

    @classmethod
    def by(cls, drivers: Mapping[str, Driver], source: Source) -> Source:
        """Return a source that feels those of the drivers that are simulated; itself where none is."""
        simulated = [one for one in drivers.values() if isinstance(one, Simulated)]
        return cls(source, simulated) if simulated else source

    def due(self) -> list[Reading]:
        return [(at, self._feel(at, dict(fields))) for at, fields in self._source.due()]

    def _feel(self, at: float, fields: dict[str, float]) -> dict[str, float]:
        for one in self._simulated:
            if one.channel in fields:
                fields[one.channel] += one.felt(at)
        return fields

    def recalibrate(self) -> None:
        self._source.recalibrate()


_CORRECTIONS: Final = [
    "CREATE TABLE corrections (channel TEXT PRIMARY KEY, shift REAL NOT NULL, gain REAL NOT NULL) STRICT"
]


class Corrected:
    """A source whose readings are corrected as the database says; what is corrected how changes with its transactions.

    Nothing is kept in memory of it, so that a step that is undone undoes its corrections too.
    """

    def __init__(self, source: Source, database: Database) -> None:
        self._source = source
        self._database = database
        self.newest: float | None = None  # data time of the newest reading that was handed out
        database.migrate("corrections", _CORRECTIONS)

    @property
    def in_force(self) -> dict[str, Affine]:
        """How each channel is corrected."""
        rows = self._database.execute("SELECT channel, shift, gain FROM corrections ORDER BY channel").fetchall()
        return {channel: Affine(shift, gain) for channel, shift, gain in rows}

    def correct(self, corrections: Mapping[str, Affine]) -> None:
        """Correct these channels so from the next reading on, in the caller's transaction."""
        for channel, one in corrections.items():
            row = (channel, one.offset, one.gain)
            self._database.execute("INSERT OR REPLACE INTO corrections VALUES (?, ?, ?)", row)

    def due(self) -> list[Reading]:
        readings = self._source.due()
        if not readings:
            return readings
        self.newest = max(at for at, _ in readings)
        in_force = self.in_force
        return [
            (at, {name: in_force[name](value) if name in in_force else value for name, value in fields.items()})
            for at, fields in readings
        ]

    def recalibrate(self) -> None:
        self._source.recalibrate()


def open_replay(path: Path, clock: Clock) -> Replay:
    """Open a CSV with the columns time (Unix seconds) and one a field; raises `SettingsError`."""
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            recording = Recording(rows.fieldnames or ())
            for row in rows:
                recording.add(row)
    except (OSError, ValueError, KeyError) as error:
        raise SettingsError(f"[sensor] replay: {error}") from error
    return Replay(recording, clock, clock.now())
