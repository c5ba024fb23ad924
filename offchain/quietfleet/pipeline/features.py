"""The forecast task: temperature three hours ahead from the last day; the one definition both ends share.

A device builds one row from its latest readings; the trainer builds all rows of a dataset at once. Both see the
same numbers, and `feature_schema_hash()` inside the manifest proves it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Row = tuple[float, Mapping[str, float]]
"""Unix seconds and the channels read then (°C, %, m/s)."""
Floats = npt.NDArray[np.float64]

PERIOD: Final = 3600
HORIZON_HOURS: Final = 3
TARGET: Final = "temp"
CHANNELS: Final = ("temp", "dewp", "humid", "wind_speed")
LAGS: Final = (1, 2, 3, 6, 12, 24)
FEATURES: Final = (*CHANNELS, *(f"temp_lag_{lag}h" for lag in LAGS), "hour_sin", "hour_cos")
_HOURS: Final = 24


def feature_schema_hash() -> str:
    """SHA-256 (hex) of everything that gives a feature row its meaning."""
    schema = {"features": FEATURES, "target": TARGET, "horizon_h": HORIZON_HOURS, "period_s": PERIOD, "type": "float32"}
    return hashlib.sha256(json.dumps(schema, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def feature_row(history: Sequence[Row]) -> npt.NDArray[np.float32] | None:
    """Build the row [1, features] for the newest of a device's readings, which come in order of time.

    None when a channel is missing now or one of the lagged hours has no temperature.
    """
    if not history:
        return None
    time, latest = history[-1]
    slot = _slot(time)
    temperatures = {_slot(at): values[TARGET] for at, values in history if TARGET in values}
    values = [latest.get(name) for name in CHANNELS] + [temperatures.get(slot - lag) for lag in LAGS]
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return np.array([[*known, *_clock(slot)]], dtype=np.float32)


def feature_table(times: npt.NDArray[np.int64], columns: Mapping[str, Floats]) -> tuple[Floats, Floats, Floats]:
    """Build every row of one device from its columns [n] in order of time.

    Returns rows [m, features] (float32), targets [m] in °C and the rows' times [m] in s, for the hours whose past
    and future are both complete.
    """
    slots = (times // PERIOD).astype(np.int64)
    first, hours = (int(slots[0]), int(slots[-1] - slots[0]) + 1) if slots.size else (0, 0)
    grid = {name: _on_grid(slots - first, columns[name], hours) for name in CHANNELS}
    lagged = [_shift(grid[TARGET], lag) for lag in LAGS]
    target = _shift(grid[TARGET], -HORIZON_HOURS)
    clock = _clock(np.arange(first, first + hours))
    rows = np.column_stack([*grid.values(), *lagged, *clock]).astype(np.float32)
    complete = np.isfinite(rows).all(axis=1) & np.isfinite(target)
    at: Any = (np.flatnonzero(complete) + first) * float(PERIOD)
    return rows[complete], target[complete], at


def _slot(time: float) -> int:
    return int(time // PERIOD)


def _clock(slot: Any) -> tuple[Any, Any]:
    """Place the hour of day (UTC) on a circle, so that 23:00 and 00:00 are neighbours."""
    angle = (slot % _HOURS) * (2 * np.pi / _HOURS)
    return np.sin(angle), np.cos(angle)


def _on_grid(places: npt.NDArray[np.int64], values: Floats, hours: int) -> Floats:
    line = np.full(hours, np.nan)
    line[places] = values
    return line


def _shift(line: Floats, hours: int) -> Floats:
    """Move a line into the future (`hours` > 0: a lag) or the past, filling with NaN."""
    moved = np.full_like(line, np.nan)
    if hours > 0:
        moved[hours:] = line[:-hours]
    else:
        moved[:hours] = line[-hours:]
    return moved
