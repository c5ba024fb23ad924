"""What stands in for a channel that cannot be taken: how far it is from what was really read.

Every fifth day of the year, each station in turn is the device and the two others are its neighbours. A channel stands
still for a day from then on; what it really read that day is what everything is held against. Readings that there
cannot be are left out on both sides.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from bench.drift.streams import DAY, FEATURES, HOUR, Array

from quietfleet.monitor.integrity import DEFAULT_RULES
from quietfleet.monitor.virtual import Sample, Virtual, learn

WEEK: Final = 7 * DAY
EVERY: Final = 5 * DAY + 1

HELD, USUAL, AROUND, ALL = "last reading", "usual distance from neighbours", "neighbours", "neighbours, other channels"


@dataclass(frozen=True)
class StoodIn:
    """Root mean square errors of what stood in, in the channel's unit, by the way it was come by."""

    channel: str
    errors: Mapping[str, float]


def measure(year: Array) -> list[StoodIn]:
    """Hold each way against what was read: `year` is [stations, hours, features]."""
    possible = year.copy()
    for line, name in enumerate(FEATURES):
        rule, read = DEFAULT_RULES[name], possible[:, :, line]
        read[(read < rule.low) | (read > rule.high)] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # an hour in which nobody read something
        return [StoodIn(name, _errors(possible, line)) for line, name in enumerate(FEATURES)]


def _errors(year: Array, feature: int) -> dict[str, float]:
    apart: dict[str, list[float]] = {HELD: [], USUAL: [], AROUND: [], ALL: []}
    for device in range(len(year)):
        beside = np.nanmedian(np.delete(year, device, axis=0), axis=0)
        for first in range(WEEK, year.shape[1] - DAY, EVERY):
            _day(year[device], beside, first, feature, apart)
    return {way: float(np.sqrt(np.mean(np.square(off)))) for way, off in apart.items()}


def _day(own: Array, beside: Array, first: int, feature: int, apart: dict[str, list[float]]) -> None:
    channel = FEATURES[feature]
    week = [Sample(hour * HOUR, _named(own[hour]), _named(beside[hour])) for hour in range(first - WEEK, first)]
    distances = own[first - WEEK : first, feature] - beside[first - WEEK : first, feature]
    known = own[first - WEEK : first, feature]
    last = known[~np.isnan(known)]
    learned: dict[tuple[frozenset[str], frozenset[str]], Virtual | None] = {}
    for hour in range(first, first + DAY):
        real, near = own[hour, feature], beside[hour, feature]
        if np.isnan(real) or np.isnan(near) or not len(last) or np.isnan(distances).all():
            continue
        rest = {name: value for name, value in _named(own[hour]).items() if name != channel}
        for way, inputs in ((AROUND, {}), (ALL, rest)):
            shown = Sample(hour * HOUR, inputs, _named(beside[hour]))
            key = frozenset(inputs), frozenset(shown.beside)
            if key not in learned:
                learned[key] = learn(channel, week, shown)
            virtual = learned[key]
            if virtual is not None:  # there are neighbours, so that there always is one
                apart[way].append(virtual.read(shown) - real)
        apart[HELD].append(float(last[-1] - real))
        apart[USUAL].append(float(near + np.nanmedian(distances) - real))


def _named(values: Array) -> dict[str, float]:
    return {name: float(value) for name, value in zip(FEATURES, values, strict=True) if not np.isnan(value)}
