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

from quietfleet.errors import MonitorError
from quietfleet.monitor._site import hourly, leave_one_out, level, side_by_side, site_median
from quietfleet.monitor.drift import DRIFTED_PCT, Array, FeatureBaseline, drift_pct
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row

MINIMUM_DEVICES: Final = 3
MINIMUM_DAYS: Final = 7
FULL_DAYS: Final = 30
"""A reference of so many days needs no allowance for its own sampling error, which shrinks with their root."""

_DAY: Final = 86_400.0
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
    times, grid = side_by_side(readings, channel, period)
    offsets = [hourly(times, line - site_median(grid)) for line in grid]
    residuals = leave_one_out(level(grid, times, offsets))
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
    times, grid = side_by_side(company, channel, period)
    residuals = leave_one_out(level(grid, times, [usual[device].hours for device in company]))
    found: dict[str, PeerDrift] = {}
    for device, residual in zip(company, residuals, strict=True):
        days = [residual[day & np.isfinite(residual)] for day in (times < midnight, times >= midnight)]
        if all(day.size >= _SHARE * _DAY / period for day in days):
            percent = min(drift_pct(day, usual[device].sketch) for day in days)
            found[device] = PeerDrift(percent, usual[device].limit)
    return found
