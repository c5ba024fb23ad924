"""A device against its neighbours: its distance from the median of the others, hour of day by hour of day.

Weather, seasons and site-wide changes cancel out in that residual; a fault of one device does not. Each device's
usual offset is taken off first, so that a neighbour may drop out without moving the others. Needs at least three
co-located devices. The limit is each device's own: never under the paper's 70 %, above whatever its reference
already showed in windows of one day, and wider the shorter that reference was. A device has left its peers when it
is beyond the limit two days in a row.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from quietfleet.errors import MonitorError
from quietfleet.monitor.drift import DRIFTED_PCT, Array, FeatureBaseline, drift_pct
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row

MINIMUM_DEVICES: Final = 3
MINIMUM_DAYS: Final = 7
FULL_DAYS: Final = 30
"""A reference of so many days needs no allowance for its own sampling error, which shrinks with their root."""

_DAY: Final = 86_400.0
_HOURS: Final = 24
_MADS: Final = 6.0
_MARGIN: Final = 1.2
_SHARE: Final = 0.5  # of a day's slots, for the day to count
_FILLED: Final = 0.9


@dataclass(frozen=True, slots=True)
class PeerDrift:
    """A residual's drift and the device's own limit for it, both in percent of the residual's sigma."""

    percent: float
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether the device left its peers."""
        return self.percent > self.limit

    @property
    def severity(self) -> float:
        """How many times over its limit the device is."""
        return self.percent / self.limit


@dataclass(frozen=True, slots=True)
class Usual:
    """One device's usual distance from its site in one channel: offsets by hour (UTC), spread around them, limit."""

    hours: tuple[float, ...]
    sketch: FeatureBaseline
    limit: float

    def to_plain(self) -> dict[str, Any]:
        return {"hours": list(self.hours), "sketch": self.sketch.to_plain(), "limit": self.limit}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild what `to_plain` made."""
        return cls(tuple(plain["hours"]), FeatureBaseline.from_plain(plain["sketch"]), float(plain["limit"]))


@dataclass(frozen=True, slots=True)
class PeerReference:
    """How every device of a site usually differs from the others: device → channel → usual distance."""

    devices: Mapping[str, Mapping[str, Usual]]

    @classmethod
    def fit(
        cls,
        readings: Mapping[str, Sequence[Row]],
        channels: Sequence[str],
        *,
        rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
        period: float = 3600.0,
    ) -> Self:
        """Learn from a sound site's readings, `FULL_DAYS` if they exist; `MonitorError` under `MINIMUM_DAYS`."""
        if len(readings) < MINIMUM_DEVICES:
            raise MonitorError(f"peers need {MINIMUM_DEVICES} devices, not {len(readings)}")
        devices: dict[str, dict[str, Usual]] = {device: {} for device in readings}
        for channel in channels:
            for device, usual in _learn(readings, channel, rules[channel].resolution, period).items():
                devices[device][channel] = usual
        return cls(devices)

    def drift(
        self, readings: Mapping[str, Sequence[Row]], *, now: float, period: float = 3600.0
    ) -> dict[str, dict[str, PeerDrift]]:
        """Compare the two days before `now`; a device or channel without reference or enough company is left out.

        One faulty device shifts the median of its peers too. So only the one furthest out is accused, and the
        others are compared again without it.
        """
        known = {
            device: [row for row in rows if now - 2 * _DAY <= row[0] < now]
            for device, rows in readings.items()
            if device in self.devices
        }
        found: dict[str, dict[str, PeerDrift]] = {}
        for channel in dict.fromkeys(channel for device in known for channel in self.devices[device]):
            usual = {device: self.devices[device][channel] for device in known if channel in self.devices[device]}
            for device, drift in _accuse(known, usual, channel, now - _DAY, period).items():
                found.setdefault(device, {})[channel] = drift
        return found

    def to_plain(self) -> dict[str, Any]:
        return {
            device: {channel: usual.to_plain() for channel, usual in channels.items()}
            for device, channels in self.devices.items()
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild what `to_plain` made."""
        return cls(
            {
                device: {channel: Usual.from_plain(usual) for channel, usual in channels.items()}
                for device, channels in plain.items()
            }
        )


def _learn(readings: Mapping[str, Sequence[Row]], channel: str, resolution: float, period: float) -> dict[str, Usual]:
    times, grid = _grid(readings, channel, period)
    offsets = [_hourly(times, line - _median(grid)) for line in grid]
    residuals = _leave_one_out(_level(grid, times, offsets))
    return {
        device: _usual(times, residual, hours, resolution, period)
        for device, residual, hours in zip(readings, residuals, offsets, strict=True)
    }


def _usual(times: Array, residual: Array, hours: Sequence[float], resolution: float, period: float) -> Usual:
    known = np.isfinite(residual)
    days = float(known.sum()) * period / _DAY
    if days < MINIMUM_DAYS * _FILLED:
        raise MonitorError(f"peers need {MINIMUM_DAYS} days of common readings, not {days:.1f}")
    sketch = FeatureBaseline.fit(residual, floor=resolution)
    allowance = math.sqrt(max(1.0, FULL_DAYS / days))
    return Usual(tuple(hours), sketch, round(allowance * _limit(times[known], residual[known], sketch, period), 1))


def _limit(times: Array, residual: Array, sketch: FeatureBaseline, period: float) -> float:
    """Place the limit above every one-day window of the reference itself, stepping six hours."""
    steps = np.arange(times[0] + _DAY, times[-1] + period, _DAY / 4)
    windows = [residual[(times >= end - _DAY) & (times < end)] for end in steps]
    seen = np.array([drift_pct(window, sketch) for window in windows if window.size >= _SHARE * _DAY / period])
    middle = float(np.median(seen))
    spread = float(np.median(np.abs(seen - middle)))
    return max(DRIFTED_PCT, middle + _MADS * spread, _MARGIN * float(seen.max()))


def _accuse(
    recent: Mapping[str, Sequence[Row]], usual: Mapping[str, Usual], channel: str, midnight: float, period: float
) -> dict[str, PeerDrift]:
    """Take the worst offender out until the rest agrees or is too small to tell."""
    accused: dict[str, PeerDrift] = {}
    company = {device: recent[device] for device in usual}
    while len(company) >= MINIMUM_DEVICES:
        drifts = _compare(company, usual, channel, midnight, period)
        worst = max(drifts, key=lambda device: drifts[device].severity, default=None)
        if worst is None or not drifts[worst].exceeded:
            return accused | drifts
        accused[worst] = drifts[worst]
        del company[worst]
    return accused


def _compare(
    company: Mapping[str, Sequence[Row]], usual: Mapping[str, Usual], channel: str, midnight: float, period: float
) -> dict[str, PeerDrift]:
    times, grid = _grid(company, channel, period)
    residuals = _leave_one_out(_level(grid, times, [usual[device].hours for device in company]))
    found: dict[str, PeerDrift] = {}
    for device, residual in zip(company, residuals, strict=True):
        days = [residual[day & np.isfinite(residual)] for day in (times < midnight, times >= midnight)]
        if all(day.size >= _SHARE * _DAY / period for day in days):
            percent = min(drift_pct(day, usual[device].sketch) for day in days)
            found[device] = PeerDrift(percent, usual[device].limit)
    return found


def _grid(readings: Mapping[str, Sequence[Row]], channel: str, period: float) -> tuple[Array, Array]:
    """Lay readings side by side: slot times [t] in s and values [devices, t], NaN where there is none."""
    slots = sorted({int(time // period) for rows in readings.values() for time, values in rows if channel in values})
    place = {slot: index for index, slot in enumerate(slots)}
    grid = np.full((len(readings), len(slots)), np.nan)
    for line, rows in enumerate(readings.values()):
        for time, values in rows:
            if channel in values:
                grid[line, place[int(time // period)]] = values[channel]
    return np.array(slots, dtype=np.float64) * period, grid


def _level(grid: Array, times: Array, offsets: Sequence[Sequence[float]]) -> Array:
    """Take every device's usual offset off its readings."""
    levelled: Array = grid - np.asarray(offsets, dtype=np.float64)[:, _hour(times)]
    return levelled


def _leave_one_out(grid: Array) -> Array:
    """Subtract from every device the median of the others; NaN where fewer than two others have a value."""
    residuals = np.full_like(grid, np.nan)
    for line in range(grid.shape[0]):
        others = np.delete(grid, line, axis=0)
        enough = np.isfinite(others).sum(axis=0) >= MINIMUM_DEVICES - 1
        residuals[line, enough] = grid[line, enough] - np.nanmedian(others[:, enough], axis=0)
    return residuals


def _median(grid: Array) -> Array:
    """Median over the devices of every slot, NaN where too few have a value to speak for the site."""
    middle = np.full(grid.shape[1], np.nan)
    enough = np.isfinite(grid).sum(axis=0) >= MINIMUM_DEVICES
    middle[enough] = np.nanmedian(grid[:, enough], axis=0)
    return middle


def _hourly(times: Array, distance: Array) -> list[float]:
    """Median distance by hour of day; 0 for an hour never seen."""
    hour = _hour(times)
    known = np.isfinite(distance)
    seen = [distance[known & (hour == h)] for h in range(_HOURS)]
    return [float(np.median(values)) if values.size else 0.0 for values in seen]


def _hour(times: Array) -> npt.NDArray[np.intp]:
    hours: npt.NDArray[np.intp] = (times % _DAY // (_DAY / _HOURS)).astype(np.intp)
    return hours
