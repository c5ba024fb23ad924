"""A year of real weather from three neighbouring stations: what the testbed's sensors measure.

The file keeps the source's units and flaws (see `data/README.md`); units become SI here, flaws stay for the
pipeline and the monitors to find.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable
from importlib.resources import files
from typing import Final

Reading = tuple[float, dict[str, float]]
"""Unix seconds and the channels measured then; a channel that was missing is absent."""


def _celsius(fahrenheit: float) -> float:
    return (fahrenheit - 32.0) / 1.8


def _metres_per_second(miles_per_hour: float) -> float:
    return miles_per_hour * 0.44704


def _millimetres(inches: float) -> float:
    return inches * 25.4


def _unchanged(value: float) -> float:
    return value


_CHANNELS: Final[dict[str, Callable[[float], float]]] = {
    "temp": _celsius,
    "dewp": _celsius,
    "humid": _unchanged,
    "wind_speed": _metres_per_second,
    "precip": _millimetres,
    "pressure": _unchanged,
}


def load_weather() -> dict[str, list[Reading]]:
    """Read every station's hourly readings in order of time: °C, %, m/s, mm, hPa."""
    packed = files("quietfleet.testbed").joinpath("data/weather.csv.gz").read_bytes()
    stations: dict[str, list[Reading]] = {}
    for row in csv.DictReader(io.StringIO(gzip.decompress(packed).decode())):
        stations.setdefault(row["station"], []).append((float(row["time"]), _channels(row)))
    return stations


def _channels(row: dict[str, str]) -> dict[str, float]:
    return {name: round(to_si(float(row[name])), 3) for name, to_si in _CHANNELS.items() if row[name]}
