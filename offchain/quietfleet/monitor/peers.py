"""A device against its neighbours: its value minus the median of the others, hour of day by hour of day.

Weather, seasons and site-wide changes cancel out in that residual; a fault of one device does not. Needs at least
three co-located devices. The limit is each device's own: never under the paper's 70 %, and above whatever its
reference period already showed in windows of one day, so that a sunny wall is not a fault.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from quietfleet.errors import MonitorError
from quietfleet.monitor.drift import DRIFTED_PCT, Array, FeatureBaseline, drift_pct
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row

MINIMUM_DEVICES: Final = 3
MINIMUM_DAYS: Final = 5
_DAY: Final = 86_400.0
_HOURS: Final = 24
_MADS: Final = 6.0
_MARGIN: Final = 1.2
_SHARE: Final = 0.5  # of a day's slots, for the day to count


@dataclass(frozen=True, slots=True)
class PeerDrift:
    """A residual's drift and the device's own limit for it, both in percent of the residual's sigma."""

    percent: float
    limit: float

    @property
    def exceeded(self) -> bool:
        """Whether the device left its peers."""
        return self.percent > self.limit


@dataclass(frozen=True, slots=True)
class _Residual:
    """One device's usual distance from its peers in one channel."""

    hours: tuple[float, ...]
    sketch: FeatureBaseline
    limit: float


@dataclass(frozen=True, slots=True)
class PeerReference:
    """How every device of a site usually differs from the others; device → channel → residual."""

    devices: Mapping[str, Mapping[str, _Residual]]

    @classmethod
    def fit(
        cls,
        readings: Mapping[str, Sequence[Row]],
        channels: Sequence[str],
        *,
        rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
        period: float = 3600.0,
    ) -> Self:
        """Learn from readings of a sound site over `MINIMUM_DAYS` or more; `MonitorError` when there are too few."""
        if len(readings) < MINIMUM_DEVICES:
            raise MonitorError(f"peers need {MINIMUM_DEVICES} devices, not {len(readings)}")
        devices: dict[str, dict[str, _Residual]] = {device: {} for device in readings}
        for channel in channels:
            for device, (times, values) in residuals(readings, channel, period=period).items():
                devices[device][channel] = _learn(times, values, rules[channel].resolution, period)
        return cls(devices)

    def drift(
        self, readings: Mapping[str, Sequence[Row]], *, now: float, period: float = 3600.0
    ) -> dict[str, dict[str, PeerDrift]]:
        """Compare the day before `now`; a device or channel without reference or enough company is left out."""
        recent = {device: [row for row in rows if now - _DAY <= row[0] <= now] for device, rows in readings.items()}
        found: dict[str, dict[str, PeerDrift]] = {}
        for channel in {channel for usual in self.devices.values() for channel in usual}:
            for device, (times, values) in residuals(recent, channel, period=period).items():
                usual = self.devices.get(device, {}).get(channel)
                if usual is not None and values.size >= _SHARE * _DAY / period:
                    percent = drift_pct(_centre(times, values, usual.hours), usual.sketch)
                    found.setdefault(device, {})[channel] = PeerDrift(percent, usual.limit)
        return found

    def to_plain(self) -> dict[str, Any]:
        return {
            device: {
                channel: {"hours": list(usual.hours), "sketch": usual.sketch.to_plain(), "limit": usual.limit}
                for channel, usual in channels.items()
            }
            for device, channels in self.devices.items()
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """Rebuild what `to_plain` made."""
        return cls(
            {
                device: {
                    channel: _Residual(
                        tuple(usual["hours"]), FeatureBaseline.from_plain(usual["sketch"]), float(usual["limit"])
                    )
                    for channel, usual in channels.items()
                }
                for device, channels in plain.items()
            }
        )


def residuals(
    readings: Mapping[str, Sequence[Row]], channel: str, *, period: float = 3600.0
) -> dict[str, tuple[Array, Array]]:
    """Value minus the median of at least two others, per device: slot times (s) and residuals, gaps left out."""
    slots = sorted({int(time // period) for rows in readings.values() for time, values in rows if channel in values})
    place = {slot: index for index, slot in enumerate(slots)}
    grid = np.full((len(readings), len(slots)), np.nan)
    for line, rows in enumerate(readings.values()):
        for time, values in rows:
            if channel in values:
                grid[line, place[int(time // period)]] = values[channel]
    times = np.array(slots, dtype=np.float64) * period
    return {device: _against_others(grid, line, times) for line, device in enumerate(readings)}


def _against_others(grid: Array, line: int, times: Array) -> tuple[Array, Array]:
    others = np.delete(grid, line, axis=0)
    usable = np.isfinite(grid[line]) & (np.isfinite(others).sum(axis=0) >= MINIMUM_DEVICES - 1)
    if not usable.any():
        return times[usable], times[usable]
    return times[usable], grid[line, usable] - np.nanmedian(others[:, usable], axis=0)


def _learn(times: Array, values: Array, resolution: float, period: float) -> _Residual:
    if values.size < MINIMUM_DAYS * _SHARE * _DAY / period:
        raise MonitorError(f"peers need {MINIMUM_DAYS} days of common readings")
    hour = _hour(times)
    hours = tuple(float(np.median(values[hour == h])) if (hour == h).any() else 0.0 for h in range(_HOURS))
    centred = _centre(times, values, hours)
    sketch = FeatureBaseline.fit(centred, floor=resolution)
    return _Residual(hours, sketch, _limit(times, centred, sketch, period))


def _limit(times: Array, centred: Array, sketch: FeatureBaseline, period: float) -> float:
    """Place the limit above every one-day window of the reference itself, stepping six hours."""
    steps = np.arange(times[0] + _DAY, times[-1] + period, _DAY / 4)
    windows = [centred[(times >= end - _DAY) & (times < end)] for end in steps]
    usual = np.array([drift_pct(window, sketch) for window in windows if window.size >= _SHARE * _DAY / period])
    if usual.size == 0:
        return DRIFTED_PCT
    middle = float(np.median(usual))
    spread = float(np.median(np.abs(usual - middle)))
    return max(DRIFTED_PCT, middle + _MADS * spread, _MARGIN * float(usual.max()))


def _centre(times: Array, values: Array, hours: Sequence[float]) -> Array:
    centred: Array = values - np.asarray(hours)[_hour(times)]
    return centred


def _hour(times: Array) -> npt.NDArray[np.intp]:
    hours: npt.NDArray[np.intp] = (times % _DAY // (_DAY / _HOURS)).astype(np.intp)
    return hours
