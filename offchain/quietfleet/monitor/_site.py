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
_DAY: Final = 86_400.0
_HOURS: Final = 24


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


def level(grid: Array, times: Array, offsets: Sequence[Sequence[float]]) -> Array:
    """Take every device's usual offset off its readings."""
    levelled: Array = grid - np.asarray(offsets, dtype=np.float64)[:, _hour(times)]
    return levelled


def outside(grid: Array) -> Array:
    """How far every device [devices, t] lies outside of the two middle ones of the others; NaN with fewer than two.

    The witness that speaks for the accused counts: with two others it must be apart from both, on one side.
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
