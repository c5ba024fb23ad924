"""Faults of a sensor that distributions cannot see: stuck, out of range, silent, contradicting itself, ahead of time.

Loss is judged by a CUSUM between 2 % (radio) and 20 % (failing device): four silent slots in a row, or a fifth of
the readings lost over a day. Slots nobody filled are an outage of the site and count against no device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, pairwise
from typing import Final

Row = tuple[float, Mapping[str, float]]
"""Unix seconds and the channels read then."""

_NORMAL_LOSS: Final = 0.02
_FAULTY_LOSS: Final = 0.20
_LOSS_LIMIT: Final = 7.0
_LOST: Final = math.log(_FAULTY_LOSS / _NORMAL_LOSS)
_RECEIVED: Final = math.log((1 - _FAULTY_LOSS) / (1 - _NORMAL_LOSS))


class FindingKind(StrEnum):
    """What is wrong with the data."""

    STUCK = "stuck"
    RANGE = "range"
    GAP = "gap"
    DUPLICATE = "duplicate"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in `[since, until]` (Unix seconds); `channel` is empty when the reading as a whole is meant."""

    kind: FindingKind
    channel: str
    since: float
    until: float
    count: int


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """What a channel may read: its physical range, its resolution, and how many identical readings mean stuck."""

    low: float
    high: float
    resolution: float
    stuck_after: int | None = 12


DEFAULT_RULES: Final[Mapping[str, ChannelRules]] = {
    "temp": ChannelRules(-60.0, 60.0, 0.1),
    "dewp": ChannelRules(-80.0, 40.0, 0.1),
    "humid": ChannelRules(0.0, 100.0, 0.5),
    "wind_speed": ChannelRules(0.0, 75.0, 0.1, stuck_after=24),  # a calm night is no fault
    "precip": ChannelRules(0.0, 305.0, 0.1, stuck_after=None),  # dry for weeks is no fault either
    "pressure": ChannelRules(870.0, 1085.0, 0.1),
}


def inspect(
    readings: Sequence[Row],
    *,
    now: float,
    rules: Mapping[str, ChannelRules] = DEFAULT_RULES,
    period: float = 3600.0,
    outages: frozenset[int] = frozenset(),
) -> tuple[Finding, ...]:
    """Find every fault in one device's readings (any order, °C, %, m/s, mm, hPa), one expected every `period` s.

    `outages` are the slots (time // period) in which the whole site was silent.
    """
    ordered = sorted(readings, key=lambda row: row[0])
    findings = [*_contradictions(ordered), *_ahead(ordered, now + period), *_losses(ordered, now, period, outages)]
    for channel, rule in rules.items():
        series = [(time, values[channel]) for time, values in ordered if channel in values]
        findings += [*_stuck(channel, rule, series), *_out_of_range(channel, rule, series)]
    return tuple(findings)


def site_outages(
    fleet: Mapping[str, Sequence[Row]], *, since: float, until: float, period: float = 3600.0
) -> frozenset[int]:
    """Slots between two times in which no device of a site delivered; a lone device cannot show an outage."""
    if len(fleet) == 1:
        return frozenset()
    filled = {int(time // period) for readings in fleet.values() for time, _ in readings}
    return frozenset(range(int(since // period), int(until // period))) - filled


def _stuck(channel: str, rule: ChannelRules, series: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    for _, run in groupby(series, key=lambda point: point[1]):
        times = [time for time, _ in run]
        if rule.stuck_after is not None and len(times) >= rule.stuck_after:
            yield Finding(FindingKind.STUCK, channel, times[0], times[-1], len(times))


def _out_of_range(channel: str, rule: ChannelRules, series: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    times = [time for time, value in series if not rule.low <= value <= rule.high]
    if times:
        yield Finding(FindingKind.RANGE, channel, times[0], times[-1], len(times))


def _contradictions(ordered: Sequence[Row]) -> Iterator[Finding]:
    """Two different readings for one time; the same one twice is only a message repeated."""
    times = [a[0] for a, b in pairwise(ordered) if a[0] == b[0] and dict(a[1]) != dict(b[1])]
    if times:
        yield Finding(FindingKind.DUPLICATE, "", times[0], times[-1], len(times))


def _ahead(ordered: Sequence[Row], limit: float) -> Iterator[Finding]:
    times = [time for time, _ in ordered if time > limit]
    if times:
        yield Finding(FindingKind.CLOCK, "", times[0], times[-1], len(times))


def _losses(ordered: Sequence[Row], now: float, period: float, outages: Iterable[int]) -> Iterator[Finding]:
    if not ordered:
        return
    filled = {int(time // period) for time, _ in ordered} | set(outages)
    score = 0.0
    lost: list[int] = []
    for slot in range(int(ordered[0][0] // period), int(now // period)):
        missing = slot not in filled
        score = max(0.0, score + (_LOST if missing else _RECEIVED))
        lost = [*lost, slot] if missing else lost if score else []
        if score > _LOSS_LIMIT:
            yield Finding(FindingKind.GAP, "", lost[0] * period, (lost[-1] + 1) * period, len(lost))
            return
