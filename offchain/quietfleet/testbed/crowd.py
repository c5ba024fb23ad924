"""Many sensors from a few: the real weather of three stations, as so many imperfect instruments would read it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.testbed.weather import load_weather

CHANNELS: Final = ("temp", "dewp", "humid", "wind_speed")
_HOUR: Final = 3600
_OFFSETS: Final = {"temp": 1.5, "dewp": 1.0, "humid": 3.0, "wind_speed": 0.0}
_GAINS: Final = {"temp": 0.05, "dewp": 0.05, "humid": 0.03, "wind_speed": 0.2}
_NOISE: Final = {"temp": 0.2, "dewp": 0.2, "humid": 0.8, "wind_speed": 0.2}
_RANGES: Final = {"humid": (0.0, 100.0), "wind_speed": (0.0, 75.0)}


@dataclass(frozen=True, slots=True, eq=False)
class Sensor:
    """One instrument beside a station: hourly `times` [n] in Unix s and a line [n] for each of `CHANNELS`."""

    name: str
    site: str
    times: npt.NDArray[np.int64]
    columns: dict[str, npt.NDArray[np.float64]]

    def readings(self) -> Iterator[tuple[str, float, dict[str, float]]]:
        """The same, as an engineer's data has it."""
        for place, time in enumerate(self.times.tolist()):
            yield self.name, float(time), {name: float(line[place]) for name, line in self.columns.items()}


def crowd(count: int, *, seed: int, since: float, days: int) -> Iterator[Sensor]:
    """Yield so many sensors, each with an offset, a gain and noise of its own, over the same days."""
    random = np.random.default_rng(seed)
    stations = [(site, *_hours(rows, since, days)) for site, rows in sorted(load_weather().items())]
    for number in range(count):
        site, times, lines = stations[number % len(stations)]
        yield Sensor(f"sensor-{number:05}", site, times, {name: _read(random, name, lines[name]) for name in CHANNELS})


def _hours(
    rows: list[tuple[float, dict[str, float]]], since: float, days: int
) -> tuple[npt.NDArray[np.int64], dict[str, npt.NDArray[np.float64]]]:
    kept = {
        int(at // _HOUR) * _HOUR: values
        for at, values in rows
        if since <= at < since + days * 86_400 and all(name in values for name in CHANNELS)
    }
    lines = {name: np.array([values[name] for values in kept.values()]) for name in CHANNELS}
    return np.array(list(kept), dtype=np.int64), lines


def _read(random: np.random.Generator, name: str, line: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    gain, offset = 1 + random.normal(0, _GAINS[name]), random.normal(0, _OFFSETS[name])
    read = gain * line + offset + random.normal(0, _NOISE[name] * random.uniform(0.2, 1.8), line.size)
    return np.clip(read, *_RANGES.get(name, (-np.inf, np.inf)))
