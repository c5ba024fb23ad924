"""What is usual between devices, grown from its first week to a month, without keeping anybody's readings.

A processor keeps raw data for a week (paper section V-B), and a week is a poor measure of what is usual. So of every
three days that turned out to be sound their statistics are added to those before: offsets by hour of day, a hundred
quantiles of the distances that are left, moments, and the largest window. What they were made from cannot be had back
from these, nor any day of it told from another; after thirty days the older ones fade.

What is added has lain back for as long as the detector needs, and in all that time nobody may have accused the device.
Nor can a drift too slow for that train itself in: the distance from the site may move by half of what is a drift from
where the first week saw it, a sigma's worth may at most double, a limit rise by a quarter above the first week's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.monitor._site import Flags, hourly, level, outside, side_by_side, site_median
from quietfleet.monitor._usual import Usual
from quietfleet.monitor.drift import ATOMS, DRIFTED_PCT, Array, FeatureBaseline
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row
from quietfleet.monitor.peers import (
    FULL_DAYS,
    MINIMUM_DEVICES,
    WINDOWS,
    PeerReference,
    largest,
    like_usual,
    limits_for,
    unit_of,
    where,
    widths,
)

DAY: Final = 86_400.0
STEP: Final = 3 * DAY
"""So much is added at a time: every hour of day thrice."""
SETTLED: Final = WINDOWS[-1]
"""So long it lies back then, the longest window: a fault that began in it would have shown."""
MOVED: Final = DRIFTED_PCT / 200
"""How far a device may move from its first week by growing, in units of what a shift by one sigma shows."""
_WIDER: Final = 2.0
_LOOSER: Final = 1.25
_WORTH: Final = 2 / 3  # of a day among others seen at once, for the limits: what spans two steps is hardly seen
_FILLED: Final = 0.5
_LOOKS: Final = 3 * 3600.0
_LEVELS: Final = (np.arange(ATOMS) + 0.5) / ATOMS


def grow(
    reference: PeerReference,
    readings: Mapping[str, Sequence[Row]],
    *,
    since: float,
    now: float,
    rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
    period: float = 3600.0,
) -> PeerReference:
    """Add `STEP` seconds from `since` on to what is usual, of each device that nobody accused until `now`.

    `readings` are those of sound devices until `now`, from some days before `since` on, which is `SETTLED` + `STEP`
    before `now` or earlier. Channels with less than half of the time, or fewer than three devices, stay as they were.
    """
    until = since + STEP
    ends = np.arange(since + _LOOKS, now + 1.0, max(_LOOKS, period))
    courses = reference.course(readings, ends, period=period)
    devices = {device: dict(channels) for device, channels in reference.devices.items()}
    for channel, course in courses.items():
        accused = (course.percent > course.limit).any(axis=1)
        sound = [device for device, guilty in zip(course.devices, accused, strict=True) if not guilty]
        if len(sound) < MINIMUM_DEVICES:
            continue
        usual = {device: devices[device][channel] for device in sound}
        rows = {device: [row for row in readings[device] if row[0] < until] for device in sound}
        times, grid = side_by_side(rows, channel, period)
        sized, resting = like_usual(grid, usual.values())
        grown = _grown(usual, _Stretch(times, sized, resting, times >= since, period), rules[channel].resolution)
        for device, one in grown.items():
            devices[device][channel] = one
    return PeerReference(devices)


def join(reference: PeerReference, found: PeerReference) -> PeerReference:
    """Add the devices and channels of `found`, learned of all devices together, that the reference does not know.

    A newcomer moves the middle that everybody's distance is from; its own is told from where that was before.
    """
    devices = {device: dict(channels) for device, channels in reference.devices.items()}
    for channel in dict.fromkeys(channel for channels in found.devices.values() for channel in channels):
        known = [
            device for device in devices if channel in devices[device] and channel in found.devices.get(device, {})
        ]
        if known:
            apart = [np.subtract(devices[one][channel].hours, found.devices[one][channel].hours) for one in known]
            moved = np.median(apart, axis=0)
        else:
            moved = np.zeros(24)
        for device, channels in found.devices.items():
            if channel in channels and channel not in devices.get(device, {}):
                one = channels[channel]
                hours = tuple((np.asarray(one.hours) + moved).tolist())
                basis = replace(one.basis, level=where(hours, one.sketch))
                devices.setdefault(device, {})[channel] = replace(one, hours=hours, basis=basis)
    return PeerReference(devices)


@dataclass(frozen=True, slots=True, eq=False)
class _Stretch:
    """One channel of some devices side by side: slot times [t], readings [devices, t], which are at rest, are `new`."""

    times: Array
    grid: Array
    resting: Flags
    new: npt.NDArray[np.bool_]
    period: float

    def known(self, lines: Array) -> Array:
        """Days of the new slots that lines [devices, t] have a value in."""
        days: Array = (np.isfinite(lines) & self.new).sum(axis=1) * self.period / DAY
        return days


def _grown(usual: Mapping[str, Usual], stretch: _Stretch, resolution: float) -> dict[str, Usual]:
    """Add what is new to each device of one channel that has enough of it, and return those."""
    before = [one.hours for one in usual.values()]
    levelled = level(stretch.grid, stretch.times, before)
    beside = levelled - site_median(levelled)
    days = stretch.known(beside)
    shares = [
        added / min(FULL_DAYS, one.basis.days + added) if added * DAY >= _FILLED * STEP else 0.0
        for one, added in zip(usual.values(), days.tolist(), strict=True)
    ]
    moved = [hourly(stretch.times[stretch.new], line[stretch.new]) for line in beside]
    hours = np.asarray(before) + np.asarray(shares)[:, None] * np.asarray(moved)
    levelled = level(stretch.grid, stretch.times, hours.tolist())
    distances = outside(levelled, stretch.resting)
    grown = dict(usual)
    for line, (device, one) in enumerate(usual.items()):
        if shares[line] > 0 and np.isfinite(distances[line][stretch.new]).any():
            grown[device] = _added(
                one, hours[line], shares[line], stretch, levelled, distances[line], line, resolution / one.gain
            )
    limited = _limited(grown, stretch.period)
    return {device: one for device, one in limited.items() if grown[device] is not usual[device]}


def _added(
    one: Usual,
    hours: Array,
    share: float,
    stretch: _Stretch,
    levelled: Array,
    distance: Array,
    line: int,
    resolution: float,
) -> Usual:
    """Mix the new part of a device's distances into the old one, and keep both within what the first week allows."""
    basis = one.basis
    sketch = _mixed(one.sketch, distance[stretch.new], share, resolution)
    reads = stretch.grid[line][stretch.new]
    own = FeatureBaseline.fit(reads, floor=resolution)
    mean, std = _moments((basis.mean, basis.std), (own.mean, own.std), share)
    now = unit_of(levelled[:, stretch.new], line, sketch, std)
    unit = min((1 - share) * one.unit * std / basis.std + share * now, _WIDER * basis.unit)
    apart = where(hours.tolist(), sketch) - basis.level
    hours = hours - (apart - min(max(apart, -MOVED * basis.unit), MOVED * basis.unit))
    faded = 0.5 ** (share if basis.days >= FULL_DAYS else 0.0) * one.unit / unit
    lengths = widths(stretch.period)
    shown = [largest(stretch.times, distance, sketch, unit, width, stretch.period) for width in lengths]
    seen = tuple(max(faded * old, new) for old, new in zip(basis.seen, shown, strict=True))
    days = min(FULL_DAYS, basis.days / (1 - share)) if share < 1 else FULL_DAYS
    grown = replace(basis, days=days, mean=mean, std=std, seen=seen)
    return replace(one, hours=tuple(hours.tolist()), sketch=sketch, unit=unit, basis=grown)


def _limited(usual: Mapping[str, Usual], period: float) -> dict[str, Usual]:
    """Place the limits anew, none far above those of the first week."""
    bases = [one.basis for one in usual.values()]
    days = _WORTH * np.array([one.days for one in bases])
    limits = limits_for(np.array([one.seen for one in bases]), days, period)
    return {
        device: replace(
            one, limits=tuple(min(new, _LOOSER * first) for new, first in zip(line, one.basis.limits, strict=True))
        )
        for (device, one), line in zip(usual.items(), limits, strict=True)
    }


def _mixed(old: FeatureBaseline, values: Array, share: float, resolution: float) -> FeatureBaseline:
    """Return the sketch of what an old one and new values are together, the new ones with a share of the weight."""
    new = values[np.isfinite(values)]
    both = np.concatenate([old.quantiles, new])
    weights = np.concatenate([np.full(ATOMS, (1 - share) / ATOMS), np.full(new.size, share / new.size)])
    order = np.argsort(both, kind="stable")
    reached = np.cumsum(weights[order]) - weights[order] / 2
    quantiles = np.interp(_LEVELS, reached, both[order]).round(5)
    mean, std = _moments((old.mean, old.std), (float(new.mean()), float(new.std())), share)
    return FeatureBaseline(mean, max(std, resolution), old.n + new.size, tuple(quantiles.tolist()))


def _moments(old: tuple[float, float], new: tuple[float, float], share: float) -> tuple[float, float]:
    """Mean and sigma of two samples together."""
    mean = (1 - share) * old[0] + share * new[0]
    square = (1 - share) * (old[1] ** 2 + old[0] ** 2) + share * (new[1] ** 2 + new[0] ** 2)
    return mean, math.sqrt(max(square - mean**2, 0.0))
