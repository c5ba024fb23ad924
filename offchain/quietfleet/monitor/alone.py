"""A device with nobody beside it: its last week against the month before, hour of day by hour of day.

Nothing cancels the weather or the season here, so that this sees less than peers do, and says less: what it finds is a
reason to verify a device, never to set it aside. The month moves along, so that a slow season is no drift; the limit is
above whatever the weeks of that month showed against each other, and two weeks' ends a day apart must exceed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from quietfleet.monitor._site import hourly
from quietfleet.monitor.drift import DRIFTED_PCT, Array, FeatureBaseline, drift_pct
from quietfleet.monitor.integrity import DEFAULT_RULES, ChannelRules, Row
from quietfleet.monitor.peers import PeerDrift

_DAY: Final = 86_400.0
_WEEK: Final = 7 * _DAY
_MONTH: Final = 30 * _DAY
_MARGIN: Final = 2.5
_SHARE: Final = 0.5  # of the readings that there should be
NEEDED: Final = _SHARE * _MONTH + _WEEK + _DAY
"""Seconds of readings below which nothing is said of a device."""


def alone(
    rows: Sequence[Row],
    *,
    now: float,
    rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
    period: float = 3600.0,
) -> dict[str, PeerDrift]:
    """Judge one device's readings, in order of time, by its own past; channels with too little of it are left out."""
    recent = [row for row in rows if now - _MONTH - _WEEK - _DAY <= row[0] < now]
    found = {}
    for channel, rule in rules.items():
        points = [(time, values[channel]) for time, values in recent if channel in values]
        ends = [_compare(points, end, rule.resolution, period) for end in (now - _DAY, now)]
        known = [end for end in ends if end is not None]
        if len(known) == len(ends):
            found[channel] = min(known, key=lambda drift: drift.severity)
    return found


def _compare(points: Sequence[tuple[float, float]], end: float, resolution: float, period: float) -> PeerDrift | None:
    times: Array = np.array([time for time, _ in points], dtype=np.float64)
    values: Array = np.array([value for _, value in points], dtype=np.float64)
    week = (times >= end - _WEEK) & (times < end)
    month = (times >= end - _WEEK - _MONTH) & (times < end - _WEEK)
    if week.sum() < _SHARE * _WEEK / period or month.sum() < _SHARE * _MONTH / period:
        return None
    usual: Array = np.array(hourly(times[month], values[month]), dtype=np.float64)
    centred: Array = values - usual[(times % _DAY // (_DAY / 24)).astype(int)]
    sketch = FeatureBaseline.fit(centred[month], floor=resolution)
    return PeerDrift(drift_pct(centred[week], sketch), _limit(times[month], centred[month], sketch))


def _limit(times: Array, residual: Array, sketch: FeatureBaseline) -> float:
    ends = np.arange(times[0] + _WEEK, times[-1], _DAY)
    windows = [residual[(times >= end - _WEEK) & (times < end)] for end in ends]
    seen = [drift_pct(window, sketch) for window in windows if window.size]
    return max(DRIFTED_PCT, _MARGIN * max(seen, default=0.0))
