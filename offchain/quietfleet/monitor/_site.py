"""The readings of one site laid side by side, so that devices can be compared slot by slot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import Row

WITNESSES: Final = 2
"""So many others must have a value before they say anything."""
Flags = npt.NDArray[np.bool_]
_DAY: Final = 86_400.0
_HOURS: Final = 24
_RESTS: Final = 0.2
"""Share of one value from which on a channel rests there; and how much of the time it has to do something else."""


def side_by_side(readings: Mapping[str, Sequence[Row]], channel: str, period: float) -> tuple[Array, Array]:
    """Lay readings side by side: slot times [t] in s and values [devices, t], NaN where there is none."""
    slots = sorted({int(time // period) for rows in readings.values() for time, values in rows if channel in values})
    place = {slot: index for index, slot in enumerate(slots)}
    grid = np.full((len(readings), len(slots)), np.nan)
    for line, rows in enumerate(readings.values()):
        for time, values in rows:
            if channel in values:
                grid[line, place[int(time // period)]] = values[channel]
    return np.array(slots, dtype=np.float64) * period, grid


def comparable(grid: Array, gains: Array, turn: float = 0.0) -> Array:
    """Bring readings [devices, t] to one size: divided by gains [devices]; angles that begin anew at `turn` unwound.

    An angle is unwound to within half a turn of the one that is nearest to all others of its slot.
    """
    if not turn:
        divided: Array = grid / gains[:, None]
        return divided
    apart = np.stack([np.nansum(np.abs(_wound(grid - line, turn)), axis=0) for line in grid])
    total = np.where(np.isfinite(grid), apart, np.inf)
    middle = np.take_along_axis(grid, total.argmin(axis=0)[None, :], axis=0)
    unwound: Array = middle + _wound(grid - middle, turn)
    return unwound


def _wound(angle: Array, turn: float) -> Array:
    wound: Array = (angle + turn / 2) % turn - turn / 2
    return wound


def rest_of(grid: Array) -> float | None:
    """Return what most devices of a site [devices, t] read together part of the time: nothing, at night; or None."""
    found, counts = np.unique(grid[np.isfinite(grid)], return_counts=True)
    if not found.size or counts.max() < _RESTS * counts.sum():
        return None
    rest = float(found[counts.argmax()])
    idle = _mostly(at_rest(grid, rest)).mean()
    return rest if _RESTS <= idle <= 1 - _RESTS else None


def at_rest(grid: Array, rest: float | None) -> Flags:
    """Which readings [devices, t] are those of a channel at rest, or missing."""
    resting: Flags = ~np.isfinite(grid) if rest is None else (grid == rest) | ~np.isfinite(grid)
    return resting


def _mostly(resting: Flags) -> Flags:
    most: Flags = resting.sum(axis=0) > len(resting) / 2
    return most


def level(grid: Array, times: Array, offsets: Sequence[Sequence[float]]) -> Array:
    """Take every device's usual offset off its readings."""
    levelled: Array = grid - np.asarray(offsets, dtype=np.float64)[:, _hour(times)]
    return levelled


def outside(grid: Array, resting: Flags | None = None) -> Array:
    """How far every device [devices, t] lies outside of the two middle ones of the others; NaN with fewer than two.

    The witness that speaks for the accused counts: with two others it must be apart from both, on one side. Infinite
    where it is `resting` [devices, t] as most of them are: a night over solar roofs says nothing about any.
    """
    if grid.shape[0] <= WITNESSES:
        return np.full_like(grid, np.nan)
    order = np.argsort(grid, axis=0, kind="stable")  # NaN last
    ranks = np.argsort(order, axis=0, kind="stable")
    ordered = np.take_along_axis(grid, order, axis=0)
    others = np.isfinite(grid).sum(axis=0) - 1
    low, high = (np.maximum(middle, 0) for middle in ((others - 1) // 2, others // 2))
    lowest = np.take_along_axis(ordered, low + (low >= ranks), axis=0)
    highest = np.take_along_axis(ordered, high + (high >= ranks), axis=0)
    distance = grid - np.clip(grid, lowest, highest)
    if resting is not None:
        distance[np.isfinite(grid) & resting & _mostly(resting)] = np.inf
    return np.where(others >= WITNESSES, distance, np.nan)


def site_median(grid: Array) -> Array:
    """Median over the devices of every slot, NaN where too few have a value to speak for the site."""
    middle = np.full(grid.shape[1], np.nan)
    enough = np.isfinite(grid).sum(axis=0) > WITNESSES
    middle[enough] = np.nanmedian(grid[:, enough], axis=0)
    return middle


def hourly(times: Array, distance: Array) -> list[float]:
    """Median distance by hour of day; 0 for an hour never seen."""
    hour = _hour(times)
    known = np.isfinite(distance)
    seen = [distance[known & (hour == h)] for h in range(_HOURS)]
    return [float(np.median(values)) if values.size else 0.0 for values in seen]


def windows(times: Array, lines: Array, ends: Array, width: float) -> Array:
    """Cut the `width` seconds before each of the ends out of lines [..., t]: [..., ends, longest], padded with NaN."""
    first, last = np.searchsorted(times, ends - width), np.searchsorted(times, ends)
    longest = int((last - first).max(initial=0))
    place = first[:, None] + np.arange(longest)
    cut: Array = np.where(place < last[:, None], lines[..., np.minimum(place, times.size - 1)], np.nan)
    return cut


def _hour(times: Array) -> npt.NDArray[np.intp]:
    hours: npt.NDArray[np.intp] = (times % _DAY // (_DAY / _HOURS)).astype(np.intp)
    return hours
