"""How far one device's channel is off, by what its peers read at the same times: an offset, and a gain where it shows.

The measure is the median of at least two others, each with its usual distance from the site taken off, so that fewer
than half of them can move it no further than the honest ones reach, and a device in the shade stays cooler. The offset
is the median distance from it; the gain is sought where the readings' range stands out from their scatter, by Theil-Sen
lines in both directions, whose geometric mean no noise on either side makes flatter (Theil 1950, Sen 1968; Samuelson
1942 for the mean). Errors are counted with the lag-1 autocorrelation of what is left: hours in a row are no independent
witnesses. What is not sure is refused, each for its own reason.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from quietfleet.errors import (
    BeyondLimits,
    ChannelStuck,
    NothingToCorrect,
    PeersDisagree,
    TooFewPeers,
    TooLittleData,
    Unsteady,
)
from quietfleet.monitor._site import WITNESSES, hourly, level, side_by_side
from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import Row
from quietfleet.monitor.recalibration import NONE, Affine, Limits

MOST: Final = 240  # readings are looked at, the newest
LEARNED: Final = 72
"""So many readings beside peers show what a device's usual distance is: each hour of day three times."""
MINIMUM_DEVICES: Final = 3
NO_LEVEL: Final = (0.0,) * 24

_SIGMAS: Final = 3.0
_SURER: Final = 2.0
"""A correction is so many times what the peers are apart: of two, one alone moves their middle by just that."""
_RANGE: Final = 12.0  # scatters that the readings must span for a gain to be told from an offset
_MAD: Final = 1.4826  # of a normal distribution's median deviation, its sigma
_MEDIAN: Final = 1.2533  # the median's error, of the mean's
_CORRELATED: Final = 0.95
_TINY: Final = 1e-12

Levels = Mapping[str, Sequence[float]]
"""By device its usual distance from the site, by hour of day (UTC), in the channel's unit."""


@dataclass(frozen=True, slots=True)
class Demand:
    """How much must speak for a correction: `fewest` readings at the same times, and so many of their scatters."""

    fewest: int
    scatters: float


URGENT: Final = Demand(12, 2.0)
"""Of a device that something was found of."""
ROUTINE: Final = Demand(72, 1.5)
"""Of any device: a front that passes over one before the others is no fault of it."""


@dataclass(frozen=True, slots=True)
class Correction:
    """What makes a channel right: its readings become `gain` times them, plus `offset`.

    `n` readings were held against the peers; they were `before` off (median) and would be `after`. `uncertainty` is one
    standard error of the correction at a usual reading, `scatter` that of a single one around it. All but gain and n in
    the channel's unit.
    """

    channel: str
    offset: float
    gain: float
    n: int
    before: float
    after: float
    uncertainty: float
    scatter: float

    @property
    def affine(self) -> Affine:
        """The map alone."""
        return Affine(self.offset, self.gain)


def estimate(
    channel: str,
    device: Sequence[Row],
    peers: Mapping[str, Sequence[Row]],
    limits: Limits,
    *,
    own: Sequence[float] = NO_LEVEL,
    levels: Levels | None = None,
    in_force: Affine = NONE,
    demand: Demand = URGENT,
    period: float = 3600.0,
) -> Correction:
    """Say what makes `device` read as its peers say it should, `own` above the site by hour of day.

    `in_force` is how its readings are corrected already; the limits hold for both together. Raises a
    `CorrectionRefused`: `TooFewPeers`, `TooLittleData`, `ChannelStuck`, `PeersDisagree`, `Unsteady`,
    `NothingToCorrect`, `BeyondLimits`.
    """
    reads, should, apart = _beside(channel, device, peers, own, levels or {}, period)
    if reads.size < demand.fewest:
        raise TooLittleData(f"{channel}: {reads.size} of {demand.fewest}")
    if np.unique(reads[-URGENT.fewest :]).size <= 1:
        raise ChannelStuck(channel)
    reads, should = _steady(channel, reads, should, limits, demand)
    correction = _fitted(channel, reads, should)
    shift = float(np.median(np.abs(_applied(correction.affine, reads) - reads)))
    if shift < limits.deadband:
        raise NothingToCorrect(f"{channel}: {shift:.2f} ± {correction.uncertainty:.2f}")
    if shift < max(_SIGMAS * correction.uncertainty, demand.scatters * correction.scatter):
        raise Unsteady(f"{channel}: {shift:.2f} ± {correction.uncertainty:.2f}, scattered by {correction.scatter:.2f}")
    if apart > limits.agreement or shift < _SURER * apart:
        raise PeersDisagree(f"{channel}: {apart:.2f} apart, to correct {shift:.2f}")
    if not limits.allow(in_force.then(correction.affine)):
        raise BeyondLimits(f"{channel}: by {correction.offset:+.2f}, times {correction.gain:.3f}")
    return correction


def learn_levels(
    channel: str, readings: Mapping[str, Sequence[Row]], known: Levels, *, period: float = 3600.0
) -> dict[str, list[float]]:
    """Learn how far each device usually is from its site by hour of day; those in `known` stay as they are.

    A newcomer is held against the devices whose distance is known, so that everybody's is from the same middle. One
    with fewer than `LEARNED` readings beside two others is left out, as all are of fewer than three devices.
    """
    names = list(readings)
    if len(names) < MINIMUM_DEVICES:
        return {}
    times, grid = side_by_side(readings, channel, period)
    settled = [name for name in names if name in known]
    measure = settled if len(settled) >= WITNESSES else names
    rows = [names.index(name) for name in measure]
    middle = _middle(level(grid[rows], times, [known.get(name, NO_LEVEL) for name in measure]))
    found = {name: grid[names.index(name)] - middle for name in names if name not in settled}
    return {name: hourly(times, line) for name, line in found.items() if np.isfinite(line).sum() >= LEARNED}


def _beside(
    channel: str,
    device: Sequence[Row],
    peers: Mapping[str, Sequence[Row]],
    own: Sequence[float],
    levels: Levels,
    period: float,
) -> tuple[Array, Array, float]:
    """What the device read and should have read at the same times, and how far apart its peers are."""
    moving = {name: rows for name, rows in peers.items() if _moves(channel, rows)}
    if len(moving) < WITNESSES:
        raise TooFewPeers(f"{channel}: {len(moving)}")
    times, grid = side_by_side({"": device} | {f"/{name}": rows for name, rows in moving.items()}, channel, period)
    others = level(grid[1:], times, [levels.get(name, NO_LEVEL) for name in moving])
    middle = _middle(others)
    common = np.flatnonzero(np.isfinite(grid[0]) & np.isfinite(middle))[-MOST:]
    if not common.size:
        raise TooLittleData(f"{channel}: none")
    should = level(middle[None, :], times, [[-hour for hour in own]])[0]
    spread = np.nanmedian(np.abs(others[:, common] - middle[common]), axis=0)
    return grid[0][common], should[common], float(np.median(spread))


def _moves(channel: str, rows: Sequence[Row]) -> bool:
    return len({values[channel] for _, values in rows if channel in values}) > 1


def _middle(grid: Array) -> Array:
    """The median of every slot in which at least two have a value, NaN elsewhere."""
    middle = np.full(grid.shape[1], np.nan)
    enough = np.isfinite(grid).sum(axis=0) >= WITNESSES
    if enough.any():
        middle[enough] = np.nanmedian(grid[:, enough], axis=0)
    return middle


def _steady(channel: str, reads: Array, should: Array, limits: Limits, demand: Demand) -> tuple[Array, Array]:
    """The newest stretch over which one correction holds: all, or the later half of it, and so on."""
    while True:
        rest = should - _applied(_line(reads, should), reads)
        half = rest.size // 2
        early, late = rest[:half], rest[half:]
        moved = abs(float(np.median(late) - np.median(early)))
        if moved <= max(limits.deadband, _SIGMAS * math.hypot(_error(early), _error(late))):
            return reads, should
        if late.size < demand.fewest:
            raise Unsteady(f"{channel}: moved by {moved:.2f}")
        reads, should = reads[half:], should[half:]


def _line(reads: Array, should: Array) -> Affine:
    """The gain where it shows, else 1; and the offset that goes with it."""
    plain = Affine(float(np.median(should - reads)), 1.0)
    slope = _slope(reads, should)
    if slope is None:
        return plain
    rest = should - slope * reads
    span = float(np.ptp(np.quantile(reads, (0.05, 0.95))))
    error = _error(rest) / (_MEDIAN * max(float(np.std(reads)), _TINY))
    if span < _RANGE * _scatter(rest) or abs(slope - 1.0) <= _SIGMAS * error:
        return plain
    return Affine(float(np.median(rest)), slope)


def _applied(line: Affine, reads: Array) -> Array:
    corrected: Array = line.gain * reads + line.offset
    return corrected


def _fitted(channel: str, reads: Array, should: Array) -> Correction:
    line = _line(reads, should)
    rest = should - _applied(line, reads)
    return Correction(
        channel,
        round(line.offset, 6),
        round(line.gain, 6),
        int(reads.size),
        float(np.median(np.abs(should - reads))),
        float(np.median(np.abs(rest))),
        _error(rest),
        _scatter(rest),
    )


def _slope(reads: Array, should: Array) -> float | None:
    """Return the geometric mean of the Theil-Sen slopes in both directions; None if there is none that rises."""
    there, back = _theil_sen(reads, should), _theil_sen(should, reads)
    return math.sqrt(there / back) if there > 0 and back > 0 else None


def _theil_sen(x: Array, y: Array) -> float:
    first, second = np.triu_indices(x.size, 1)
    run = x[second] - x[first]
    apart = run != 0
    return float(np.median((y[second] - y[first])[apart] / run[apart])) if apart.any() else 0.0


def _scatter(values: Array) -> float:
    return _MAD * float(np.median(np.abs(values - np.median(values))))


def _error(rest: Array) -> float:
    """One standard error of the median of these, as so many witnesses as they are independent."""
    centred = rest - np.median(rest)
    power = float(np.dot(centred, centred))
    lag = float(np.dot(centred[1:], centred[:-1])) / power if power > 0 else 0.0
    lag = min(max(lag, 0.0), _CORRELATED)
    independent = max(2.0, rest.size * (1 - lag) / (1 + lag))
    return _MEDIAN * _scatter(rest) / math.sqrt(independent)
