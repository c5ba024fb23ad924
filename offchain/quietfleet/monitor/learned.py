"""What a channel nobody described may read, learned from readings that are taken for sound.

For data that a person brings: no unit or range is known, and a sensor may rest at zero for days, count, or know two
states. What is learned errs on the quiet side: the range is far beyond what was seen, and a value is stuck only after
longer than the channel was seen to rest on several occasions. At the ends of its range it may rest for a day. A
direction is known by its jumps: from one end of the circle to the other, and never halfway.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import Final

import numpy as np

from quietfleet.monitor.drift import Array
from quietfleet.monitor.integrity import FAR, ChannelRules, Row

STUCK_AFTER: Final = 12
_RARE: Final = 1e-3  # how likely a month of a sound sensor may look stuck
_DAY: Final = 86_400.0
_MONTH: Final = 30 * _DAY
_RESTING: Final = 0.2  # share of one value above which the channel is taken to rest there
_STILL: Final = 0.95
_BEYOND: Final = 3.0
_HEAVY: Final = 10.0  # times as far
_EDGE: Final = 0.002
_LARGE: Final = 0.995
_HABIT: Final = 3
"""What a sensor did so often is how it is; once or twice is a fault of its own, or of whoever collects."""
_FROZEN: Final = 0.9
_CIRCLES: Final = ((0.0, 360.0), (-180.0, 180.0))
_SECTORS: Final = 8


Line = list[tuple[float, float]]
"""Times and values of one channel of a device."""


def learn_rules(readings: Mapping[str, Sequence[Row]], *, period: float) -> dict[str, ChannelRules]:
    """Learn each channel's rules from the readings of all devices, each device's in order of time."""
    names = dict.fromkeys(name for rows in readings.values() for _, values in rows for name in values)
    frozen = [_frozen(rows) for rows in readings.values()]
    return {name: _rules([_series(rows, name) for rows in readings.values()], frozen, period) for name in names}


def _frozen(rows: Sequence[Row]) -> set[float]:
    """When a device read in all of its channels what it had read before: that is no channel's habit."""
    return {time for (_, before), (time, values) in pairwise(rows) if len(values) > 1 and values == before}


def _series(rows: Iterable[Row], name: str) -> Line:
    return [(time, values[name]) for time, values in rows if name in values]


def _rules(lines: Sequence[Line], frozen: Sequence[set[float]], period: float) -> ChannelRules:
    values = np.array([value for line in lines for _, value in line], dtype=np.float64)
    low, high = _ends(values)
    resolution = _resolution(values)
    room = _BEYOND * max(high - low, resolution)
    each = [_steps(line, period) for line in lines]
    turn = _turn(values, np.concatenate(each))
    step = _step([np.minimum(steps, turn - steps) if turn else steps for steps in each])
    resting = _resting(values)
    rests = tuple(sorted({float(values.min()), float(values.max()), *resting}))
    still, moving, own = _runs(lines, frozen, rests)
    rest = max(_DAY, 2 * period * median(max(runs, default=0) for runs in still))
    stuck_after = None if _is_switch(values) else _stuck_after(moving, own, period)
    lowest, highest = _range(values, resting, room)
    return ChannelRules(lowest, highest, resolution, stuck_after, step, rests, rest, turn)


def _steps(line: Line, period: float) -> Array:
    """How far a device's readings are apart, one after the other."""
    near = [abs(b - a) for (before, a), (after, b) in pairwise(line) if after - before < 2 * period]
    return np.array(near, dtype=np.float64)


def _step(each: Sequence[Array]) -> float | None:
    """The most that a channel changes at once in all normality, such that no jump it makes by habit is a spike."""
    moved = np.concatenate([steps[steps > 0] for steps in each])
    if not moved.size:
        return None
    habits = [float(np.sort(steps)[-_HABIT]) for steps in each if steps.size >= _HABIT] or [0.0]
    return max(float(np.quantile(moved, _LARGE)), 2 * median(habits) / FAR)


def _range(values: Array, resting: Sequence[float], room: float) -> tuple[float, float]:
    """What it may read: much more on the far side of where it rests, as a dry week says little of how hard it rains."""
    low, high = _ends(values)
    least, most = float(values.min()) in resting, float(values.max()) in resting
    return low - (_HEAVY if most else 1.0) * room, high + (_HEAVY if least else 1.0) * room


def _ends(values: Array) -> tuple[float, float]:
    """Between what it reads, but for what is rare; a value it rests at says nothing of how far it goes from there."""
    resting = _resting(values)
    moving = values[~np.isin(values, resting)]
    edges = [*resting, *(np.quantile(moving, (_EDGE, 1 - _EDGE)).tolist() if moving.size else ())]
    return min(edges), max(edges)


def _resting(values: Array) -> list[float]:
    """What it reads much of the time: no wind, no sun, no rain."""
    found, counts = np.unique(values, return_counts=True)
    resting: list[float] = found[counts >= _RESTING * counts.sum()].tolist()
    return resting


def _is_switch(values: Array) -> bool:
    """Whether it hardly ever changes, or knows two states: a lamp."""
    found, counts = np.unique(values, return_counts=True)
    return bool(counts.max() >= _STILL * counts.sum()) or found.size <= 2  # noqa: PLR2004


def _runs(
    lines: Sequence[Line], frozen: Sequence[set[float]], rests: Sequence[float]
) -> tuple[list[list[int]], list[list[int]], list[list[int]]]:
    """How often in a row each device read the same: at rest, elsewhere, and elsewhere while other channels moved."""
    still: list[list[int]] = [[] for _ in lines]
    moving: list[list[int]] = [[] for _ in lines]
    own: list[list[int]] = [[] for _ in lines]
    for place, (line, dead) in enumerate(zip(lines, frozen, strict=True)):
        for value, run in groupby(line, key=lambda point: point[1]):
            times = [time for time, _ in run]
            if value in rests:
                still[place].append(len(times))
                continue
            moving[place].append(len(times))
            if len(times) == 1 or sum(time in dead for time in times) < _FROZEN * (len(times) - 1):
                own[place].append(len(times))
    return still, moving, own


def _turn(values: Array, steps: Array) -> float:
    """Where an angle begins anew, in degrees; 0 of what is none."""
    for low, high in _CIRCLES:
        circle = high - low
        if values.min() < low or values.max() > high or np.unique((values - low) * _SECTORS // circle).size < _SECTORS:
            continue
        across = (steps > circle - circle / _SECTORS).sum()
        halfway = (np.abs(steps - circle / 2) < circle / 2 / _SECTORS).sum()
        return circle if across >= _HABIT and across > halfway else 0.0
    return 0.0


def _resolution(values: Array) -> float:
    """The least distance between two values that is not an accident of their sum: the median's, of distinct ones."""
    gaps = np.diff(np.unique(values))
    return float(np.quantile(gaps, 0.1)) if gaps.size else 0.0


def _stuck_after(each: Sequence[Sequence[int]], own: Sequence[Sequence[int]], period: float) -> int:
    """How many identical readings no chance explains, and no habit: what most devices did thrice."""
    runs = sorted(length for line in each for length in line)
    usual = runs[: math.ceil(_LARGE * len(runs))]
    habits = [sorted(line)[-_HABIT] for line in own if len(line) >= _HABIT] or [0]
    repeats = sum(length - 1 for length in usual) / max(1, sum(usual))
    samples = max(_MONTH / period, 1.0)
    needed = math.log(_RARE / samples) / math.log(repeats) if repeats > 0 else 0.0
    return max(STUCK_AFTER, math.ceil(needed), math.ceil(2 * median(habits)))
