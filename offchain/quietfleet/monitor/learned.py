"""What a channel nobody described may read, learned from readings that are taken for sound.

For data that a person brings: no unit or range is known, and a sensor may rest at zero for days, count, or know two
states. What is learned errs on the quiet side: the range is far beyond what was seen, and a value is stuck only after
longer than the channel ever rested.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from typing import Final

import numpy as np

from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import ChannelRules, Row

STUCK_AFTER: Final = 12
_RARE: Final = 1e-3  # how likely a month of a sound sensor may look stuck
_MONTH: Final = 30 * 86_400.0
_RESTING: Final = 0.2  # share of one value above which the channel is taken to rest there
_STILL: Final = 0.95
_BEYOND: Final = 3.0
_EDGE: Final = 0.002
_LARGE: Final = 0.995


def learn_rules(readings: Mapping[str, Sequence[Row]], *, period: float) -> dict[str, ChannelRules]:
    """Learn each channel's rules from the readings of all devices, each device's in order of time."""
    names = dict.fromkeys(name for rows in readings.values() for _, values in rows for name in values)
    return {name: _rules([_series(rows, name) for rows in readings.values()], period) for name in names}


def _series(rows: Iterable[Row], name: str) -> list[tuple[float, float]]:
    return [(time, values[name]) for time, values in rows if name in values]


def _rules(lines: Sequence[Sequence[tuple[float, float]]], period: float) -> ChannelRules:
    values = np.array([value for line in lines for _, value in line], dtype=np.float64)
    low, high = (float(edge) for edge in np.quantile(values, (_EDGE, 1 - _EDGE)))
    resolution = _resolution(values)
    room = _BEYOND * max(high - low, resolution)
    pairs = (pair for line in lines for pair in pairwise(line))
    steps = np.array([abs(b - a) for (before, a), (after, b) in pairs if after - before < 2 * period])
    moved = steps[steps > 0]
    step = float(np.quantile(moved, _LARGE)) if moved.size else None
    return ChannelRules(low - room, high + room, resolution, _stuck_after(lines, values, period), step)


def _resolution(values: Array) -> float:
    """The least distance between two values that is not an accident of their sum: the median's, of distinct ones."""
    gaps = np.diff(np.unique(values))
    return float(np.quantile(gaps, 0.1)) if gaps.size else 0.0


def _stuck_after(lines: Sequence[Sequence[tuple[float, float]]], values: Array, period: float) -> int | None:
    runs = [(value, len(list(run))) for line in lines for value, run in groupby(point[1] for point in line)]
    found, counts = np.unique(values, return_counts=True)
    share = counts.max() / counts.sum()
    if share >= _STILL or found.size <= 2:  # noqa: PLR2004 - a switch, or a lamp
        return None
    if share >= _RESTING:
        return max(STUCK_AFTER, 2 * max(length for _, length in runs))
    usual = sorted(length for _, length in runs)[: math.ceil(_LARGE * len(runs))]
    repeats = sum(length - 1 for length in usual) / max(1, sum(usual))
    samples = max(_MONTH / period, 1.0)
    needed = math.log(_RARE / samples) / math.log(repeats) if repeats > 0 else 0.0
    return max(STUCK_AFTER, math.ceil(needed))
