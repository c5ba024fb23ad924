"""A device against its neighbours: how far it lies outside of the middle of the others, hour of day by hour of day.

Weather, seasons and site-wide changes cancel out in that distance; a fault of one device does not. Each device's usual
offset is taken off first, so that a neighbour may drop out without moving the others. Needs three co-located devices.

How far it left them is told in percent, 100 being what a shift of its own readings by one sigma would show: W1 between
a window of distances and the reference's, of the middle half of both alone, so that neither a storm nor a spike is a
drift. Of the windows that end now, the short ones see large shifts soon and the long ones see small shifts at all. The
limit is each device's and each window's own: never under what a model hardly feels, nearly twice what the reference
ever showed, and wider the shorter that reference was.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt

from quietfleet.errors import MonitorError
from quietfleet.monitor._gains import gains
from quietfleet.monitor._site import (
    Flags,
    at_rest,
    comparable,
    hourly,
    level,
    outside,
    rest_of,
    side_by_side,
    site_median,
    windows,
)
from quietfleet.monitor._usual import Basis, Usual
from quietfleet.monitor.drift import ATOMS, CEILING_PCT, DRIFTED_PCT, Array, FeatureBaseline
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row

MINIMUM_DEVICES: Final = 3
MINIMUM_DAYS: Final = 7
FULL_DAYS: Final = 30
"""A reference of so many days, or windows of a slow sensor, needs no allowance for what it has not seen."""
_DAY: Final = 86_400.0
WINDOWS: Final = (_DAY, 3 * _DAY)
"""Seconds; `SAMPLES` readings if those take longer, and a window of so many besides if they take less."""
SAMPLES: Final = 24
MATERIAL_PCT: Final = (DRIFTED_PCT, 50.0)
"""The least limit, of windows shorter than the longest of `WINDOWS` and of that one."""

_MARGIN: Final = 1.9
_UNSEEN: Final = 0.35  # how what a shorter reference may yet show grows with its shortness
_UNSURE: Final = 0.15  # and the least limit
_FEWEST: Final = 3  # windows that tell how they differ
_TELLING: Final = SAMPLES / 4  # readings of a window, for it to say anything of a channel that rests
_SHARE: Final = 0.5  # of a window's slots, for it to count
_FILLED: Final = 0.9
_LEAST: Final = 1e-9  # a channel that never moved: any change of it is one
_LEAST_SHOWN: Final = 0.2  # of a shift, however much the site disagrees
_STEPS: Final = 24  # so many windows of the reference begin within the length of one
_MIDDLE: Final = slice(ATOMS // 4, ATOMS - ATOMS // 4)
_LEVELS: Final = ((np.arange(ATOMS) + 0.5) / ATOMS)[_MIDDLE]


@dataclass(frozen=True, slots=True)
class PeerDrift:
    """How far a device drifted from what is usual, and its own limit for that, both in percent of a sigma."""

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


@dataclass(frozen=True, slots=True, eq=False)
class Course:
    """One channel of a site over time: percent and limit, both [devices, ends], NaN where nothing can be compared."""

    devices: tuple[str, ...]
    percent: Array
    limit: Array

    def at(self, end: int) -> dict[str, PeerDrift]:
        """What there is to say at one of the ends."""
        said = zip(self.devices, self.percent[:, end].tolist(), self.limit[:, end].tolist(), strict=True)
        return {device: PeerDrift(percent, limit) for device, percent, limit in said if not math.isnan(percent)}


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
        """Learn from a sound site's readings, `FULL_DAYS` of them if they exist.

        Leaves out devices that do not have a channel for `least_days` together with others, and a channel that fewer
        than `MINIMUM_DEVICES` have; `MonitorError` when no channel is left, or there are fewer devices.
        """
        if len(readings) < MINIMUM_DEVICES:
            raise MonitorError(f"peers need {MINIMUM_DEVICES} devices, not {len(readings)}")
        devices: dict[str, dict[str, Usual]] = {device: {} for device in readings}
        most = 0.0
        for channel in channels:
            learned, days = _learn(readings, channel, rules[channel], period)
            most = max(most, days)
            for device, usual in learned.items():
                devices[device][channel] = usual
        if not any(devices.values()):
            raise MonitorError(f"peers need {least_days(period):g} days of common readings, not {most:.1f}")
        return cls(devices)

    def drift(
        self, readings: Mapping[str, Sequence[Row]], *, now: float, period: float = 3600.0
    ) -> dict[str, dict[str, PeerDrift]]:
        """Compare the days before `now`; a device or channel without reference or enough company is left out."""
        reach = now - max(widths(period))
        recent = {device: [row for row in rows if reach <= row[0] < now] for device, rows in readings.items()}
        found: dict[str, dict[str, PeerDrift]] = {}
        for channel, course in self.course(recent, np.array([now]), period=period).items():
            for device, drift in course.at(0).items():
                found.setdefault(device, {})[channel] = drift
        return found

    def course(
        self, readings: Mapping[str, Sequence[Row]], ends: Array, *, period: float = 3600.0
    ) -> dict[str, Course]:
        """Compare the days before each of the ends [e] (Unix seconds), as `drift` does at one, channel by channel.

        One faulty device may shift what is the middle for its peers. So only the one furthest out is accused, and the
        others are compared again without it.
        """
        known = {device: rows for device, rows in readings.items() if device in self.devices}
        found = {}
        for channel in dict.fromkeys(channel for device in known for channel in self.devices[device]):
            usual = {device: self.devices[device][channel] for device in known if channel in self.devices[device]}
            times, grid = side_by_side({device: known[device] for device in usual}, channel, period)
            if len(usual) >= MINIMUM_DEVICES and times.size:
                sized, resting = like_usual(grid, usual.values())
                site = _Site(level(sized, times, [one.hours for one in usual.values()]), resting)
                found[channel] = Course(
                    tuple(usual), *_accuse(times, site, tuple(usual.values()), np.asarray(ends), period)
                )
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


@dataclass(frozen=True, slots=True, eq=False)
class _Site:
    """Levelled readings of one channel [devices, t], and which of them are those of a channel at rest."""

    grid: Array
    resting: Flags

    def of(self, devices: npt.NDArray[np.intp]) -> _Site:
        """Some of the devices alone."""
        return _Site(self.grid[devices], self.resting[devices])


def like_usual(grid: Array, usual: Iterable[Usual]) -> tuple[Array, Flags]:
    """Bring readings [devices, t] of one channel to the size in which their usual distances were learned.

    Returns them, and which of them are those of a channel at rest.
    """
    known = list(usual)
    turn, rest = (known[0].turn, known[0].rest) if known else (0.0, None)
    return comparable(grid, np.array([one.gain for one in known]), turn), at_rest(grid, rest)


def least_days(period: float) -> float:
    """Of how many days peers are learned at least: `MINIMUM_DAYS`, or a few windows of a slow sensor."""
    return max(float(MINIMUM_DAYS), _FEWEST * _slow(period))


def _slow(period: float) -> float:
    """How many days the shortest window takes, one at least."""
    return max(1.0, SAMPLES * period / _DAY)


def widths(period: float) -> tuple[float, ...]:
    """Return the lengths of the windows that are looked at, in seconds, shortest first."""
    least = SAMPLES * period
    return tuple(sorted({least, *(max(width, least) for width in WINDOWS)}))


def _learn(
    readings: Mapping[str, Sequence[Row]], channel: str, rule: ChannelRules, period: float
) -> tuple[dict[str, Usual], float]:
    """What is usual in a channel, if there is enough of it, and of how many days."""
    times, grid = side_by_side(readings, channel, period)
    rest = rest_of(grid)
    resting = at_rest(grid, rest)
    follows = np.ones(len(grid)) if rule.turn else gains(times, grid)
    grid = comparable(grid, follows, rule.turn)
    offsets = [hourly(times, line - site_median(grid)) for line in grid]
    levelled = level(grid, times, offsets)
    distances = outside(levelled, resting)
    days = (~np.isnan(distances)).sum(axis=1) * period / _DAY
    span = (times[-1] - times[0] + period) / _DAY if times.size else 0.0
    enough = (days >= least_days(period) * _SHARE) & (np.isfinite(distances).sum(axis=1) >= SAMPLES)
    if span < least_days(period) * _FILLED or enough.sum() < MINIMUM_DEVICES:
        return {}, min(float(days.max(initial=0.0)), span)
    if not enough.all():
        having = {device: rows for (device, rows), has in zip(readings.items(), enough, strict=True) if has}
        return _learn(having, channel, rule, period)
    steps = (rule.resolution / follows).tolist()
    sketches = [FeatureBaseline.fit(line, floor=step) for line, step in zip(distances, steps, strict=True)]
    sigmas = [max(float(np.nanstd(line)), step, _LEAST) for line, step in zip(grid, steps, strict=True)]
    units = [unit_of(levelled, line, sketch, sigmas[line]) for line, sketch in enumerate(sketches)]
    lengths = widths(period)
    known = zip(distances, sketches, units, strict=True)
    seen = np.array([[largest(times, *one, width, period) for width in lengths] for one in known])
    limits = limits_for(seen, days, period)
    learned = {}
    for line, device in enumerate(readings):
        hours, sketch, unit = tuple(offsets[line]), sketches[line], units[line]
        basis = Basis(
            days=float(days[line]),
            mean=float(np.nanmean(grid[line])),
            std=sigmas[line],
            seen=tuple(seen[line].tolist()),
            level=where(hours, sketch),
            unit=unit,
            limits=limits[line],
        )
        learned[device] = Usual(hours, sketch, unit, limits[line], basis, float(follows[line]), rule.turn, rest)
    return learned, float(days.min())


def where(hours: Sequence[float], sketch: FeatureBaseline) -> float:
    """How far a device usually is from its site."""
    return float(np.mean(hours) + np.mean(sketch.quantiles[_MIDDLE]))


def unit_of(grid: Array, line: int, sketch: FeatureBaseline, sigma: float) -> float:
    """How far from the usual distances those would be if the device had read one sigma more, or less."""
    apart = []
    for shift in (sigma, -sigma):
        shifted = grid.copy()
        shifted[line] += shift
        apart.append(float(_apart(outside(shifted)[line][None], sketch)[0]))
    return max(min(apart), _LEAST_SHOWN * sigma)


def largest(times: Array, distance: Array, sketch: FeatureBaseline, unit: float, width: float, period: float) -> float:
    """What the worst window of a stretch itself showed, of so many that none is missed by much.

    Windows that reach back beyond it count where half of their slots are there.
    """
    ends = np.arange(times[0] + _SHARE * width, times[-1] + 2 * period, max(period, width / _STEPS))
    percent = _percent(windows(times, distance, ends, width), sketch, unit, width / period)
    return float(np.nanmax(percent, initial=0.0))


def limits_for(seen: Array, days: Array, period: float) -> list[tuple[float, ...]]:
    """Place the limits [devices][windows] well above what the reference showed, of each device and of the middle one.

    A device that happened to keep between its peers for a month would else be allowed nothing.
    """
    material = [MATERIAL_PCT[width >= WINDOWS[-1]] for width in widths(period)]
    short = np.maximum(1.0, FULL_DAYS * _slow(period) / days)[:, None]
    shown = short**_UNSEEN * _MARGIN * np.maximum(seen, np.median(seen, axis=0))
    least = np.maximum(short**_UNSURE * material, shown)
    return [tuple(line) for line in least.round(1).tolist()]


def _percent(cut: Array, sketch: FeatureBaseline, unit: float, slots: float) -> Array:
    """Drift of windows [..., samples] from a sketch in percent of a unit; NaN where half of the slots are missing.

    None where nearly all of a window was spent at rest, by all.
    """
    percent: Array = np.minimum(100.0 * _apart(cut, sketch) / unit, CEILING_PCT)
    told = np.where(np.isfinite(cut).sum(axis=-1) >= min(_TELLING, _SHARE * slots), percent, 0.0)
    return np.where((~np.isnan(cut)).sum(axis=-1) >= max(_SHARE * slots, 1.0), told, np.nan)


def _apart(cut: Array, sketch: FeatureBaseline) -> Array:
    """W1 between the middle half of samples [..., samples], NaN where there is none, and that of a sketch."""
    if cut.shape[-1] == 0:
        return np.full(cut.shape[:-1], np.nan)
    ordered = np.sort(cut, axis=-1)  # NaN last
    filled = np.isfinite(cut).sum(axis=-1)
    picked = np.take_along_axis(ordered, np.floor(filled[..., None] * _LEVELS).astype(np.intp), axis=-1)
    apart: Array = np.abs(picked - np.asarray(sketch.quantiles)[_MIDDLE]).mean(axis=-1)
    return apart


def _compare(times: Array, site: _Site, usual: Sequence[Usual], ends: Array, period: float) -> tuple[Array, Array]:
    """Return percent and limit [devices, ends] of the window that says the most against each."""
    distances = outside(site.grid, site.resting)
    percent = np.full((len(usual), ends.size), np.nan)
    limit = np.full_like(percent, np.nan)
    for place, width in enumerate(widths(period)):
        cut = windows(times, distances, ends, width)
        for line, one in enumerate(usual):
            seen = _percent(cut[line], one.sketch, one.unit, width / period)
            worse = ~(seen / one.limits[place] <= percent[line] / limit[line]) & np.isfinite(seen)
            percent[line, worse], limit[line, worse] = seen[worse], one.limits[place]
    return percent, limit


def _accuse(times: Array, site: _Site, usual: Sequence[Usual], ends: Array, period: float) -> tuple[Array, Array]:
    """Take the worst offender out until the rest agrees or is too small to tell."""
    percent, limit = _compare(times, site, usual, ends, period)
    severity = np.where(np.isfinite(percent), percent / limit, 0.0)
    worst = severity.argmax(axis=0)
    guilty = severity.max(axis=0) > 1
    for line in np.unique(worst[guilty]):
        places = np.flatnonzero(guilty & (worst == line))
        rest = np.delete(np.arange(len(usual)), line)
        again = np.full((2, rest.size, places.size), np.nan)
        if rest.size >= MINIMUM_DEVICES:
            company = [usual[other] for other in rest]
            again[:] = _accuse(times, site.of(rest), company, ends[places], period)
        percent[np.ix_(rest, places)], limit[np.ix_(rest, places)] = again
    return percent, limit
