"""Faults of a sensor that distributions cannot see.

It is stuck, out of range, silent, contradicts itself, has a wrong clock, jumps for one reading, reads in another unit
from one moment on, or reads in several channels what cannot be true together; what a finding's `detail` says is the
evidence. Loss is judged by a CUSUM between 2 % (radio) and 20 % (failing device): four silent slots in a row, or a
fifth of the readings lost over a day. Slots nobody filled are an outage of the site and count against no device.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import groupby, pairwise
from statistics import median, quantiles
from typing import Final

from quietfleet.monitor.plausibility import contradictions
from quietfleet.settings import ChannelSection

Row = tuple[float, Mapping[str, float]]
"""Unix seconds and the channels read then."""

_NORMAL_LOSS: Final = 0.02
_FAULTY_LOSS: Final = 0.20
_LOSS_LIMIT: Final = 7.0
_LOST: Final = math.log(_FAULTY_LOSS / _NORMAL_LOSS)
_RECEIVED: Final = math.log((1 - _FAULTY_LOSS) / (1 - _NORMAL_LOSS))


FAR: Final = 6.0
"""A change of so many usual steps at once is none of the weather's or the machine's making."""
_NEAR: Final = 1.5
_FILLED: Final = 0.9
_CIRCLE: Final = 360.0
_SEAM: Final = 2 / 3  # of a circle: shorter the other way round
_CONFIRMED: Final = 4  # readings in a row
_CLOCKED: Final = 12
"""Readings whose way here was timed, before a clock is judged by them."""
_LATE: Final = 3.0  # periods
_STEADY: Final = 0.5  # of the error: what moves about more is a bad link, not a wrong clock
_HOUR: Final = 3600.0
_DAY: Final = 86_400.0
_CONVERSIONS: Final = (
    ("°F instead of °C", 1.8, 32.0),
    ("°C instead of °F", 1 / 1.8, -32.0 / 1.8),
    ("K instead of °C", 1.0, 273.15),
    ("°C instead of K", 1.0, -273.15),
    ("km/h instead of m/s", 3.6, 0.0),
    ("m/s instead of km/h", 1 / 3.6, 0.0),
    ("mph instead of m/s", 2.236936, 0.0),
    ("m/s instead of mph", 1 / 2.236936, 0.0),
    ("knots instead of m/s", 1.943844, 0.0),
    ("m/s instead of knots", 1 / 1.943844, 0.0),
    ("m/s² instead of g", 9.80665, 0.0),
    ("g instead of m/s²", 1 / 9.80665, 0.0),
    ("rad instead of degrees", 0.01745329, 0.0),
    ("degrees instead of rad", 57.29578, 0.0),
    ("inHg instead of hPa", 0.02952999, 0.0),
    ("hPa instead of inHg", 33.86389, 0.0),
    ("a tenth of it", 0.1, 0.0),
    ("ten times it", 10.0, 0.0),
    ("a hundredth of it", 0.01, 0.0),
    ("a hundred times it", 100.0, 0.0),
    ("a thousandth of it", 0.001, 0.0),
    ("a thousand times it", 1000.0, 0.0),
    ("the opposite sign", -1.0, 0.0),
)
"""What a value becomes when its unit changes: scale and offset."""


class FindingKind(StrEnum):
    """What is wrong with the data."""

    STUCK = "stuck"
    RANGE = "range"
    GAP = "gap"
    DUPLICATE = "duplicate"
    CLOCK = "clock"
    SPIKE = "spike"
    UNIT = "unit"
    IMPLAUSIBLE = "implausible"
    OUTAGE = "outage"


@dataclass(frozen=True, slots=True)
class Finding:
    """A fault in `[since, until]` (Unix seconds); `channel` is empty when the reading as a whole is meant.

    `detail` is what speaks for it: the value it is stuck at, the worst one out of range, the unit the values look like.
    """

    kind: FindingKind
    channel: str
    since: float
    until: float
    count: int
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChannelRules:
    """What a channel may read: its physical range, its resolution, and how many identical readings mean stuck.

    `step` is the most that it changes between two readings in all normality; without it, spikes and changes of unit
    are not looked for. Identical readings are as many periods long at least, and `rest` seconds at `low`, at `high` and
    at `rests`, where a channel rests: calm, dark, full. `turn` is where an angle begins anew; 0 of all else.
    """

    low: float
    high: float
    resolution: float
    stuck_after: int | None = 12
    step: float | None = None
    rests: tuple[float, ...] = ()
    rest: float = 86_400.0
    turn: float = 0.0

    def change(self, before: float, after: float) -> float:
        """How far it is from one reading to another, the short way round if it is an angle."""
        change = after - before
        return (change + self.turn / 2) % self.turn - self.turn / 2 if self.turn else change


DEFAULT_RULES: Final[Mapping[str, ChannelRules]] = {
    "temp": ChannelRules(-60.0, 60.0, 0.1, step=4.0),
    "dewp": ChannelRules(-80.0, 40.0, 0.1, step=4.0),
    "humid": ChannelRules(0.0, 100.0, 0.5, step=15.0),
    "wind_speed": ChannelRules(0.0, 75.0, 0.1, stuck_after=24, step=6.0),  # a calm night is no fault
    "precip": ChannelRules(0.0, 305.0, 0.1, stuck_after=None),  # dry for weeks is no fault either
    "pressure": ChannelRules(870.0, 1085.0, 0.1, step=2.0),
}


def rules_with(channels: Mapping[str, ChannelSection]) -> dict[str, ChannelRules]:
    """Return the default rules with an operator's beside them, or in their place."""
    own = {
        name: ChannelRules(one.low, one.high, one.resolution, one.stuck_after or None, one.step or None)
        for name, one in channels.items()
    }
    return {**DEFAULT_RULES, **own}


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
        findings += [*_stuck(channel, rule, series, period), *_out_of_range(channel, rule, series)]
        if rule.step is not None:
            findings += _spikes(channel, rule, rule.step, series)
            findings += [] if rule.turn else _units(channel, rule, rule.step, series)
    findings += [Finding(FindingKind.IMPLAUSIBLE, "", *one) for one in contradictions(ordered)]
    return tuple(findings)


def site_outages(
    fleet: Mapping[str, Sequence[Row]], *, since: float, until: float, period: float = 3600.0
) -> frozenset[int]:
    """Slots between two times in which no device of a site delivered; a lone device cannot show an outage."""
    if len(fleet) == 1:
        return frozenset()
    filled = {int(time // period) for readings in fleet.values() for time, _ in readings}
    return frozenset(range(int(since // period), int(until // period))) - filled


def outages(slots: Iterable[int], *, period: float = 3600.0) -> tuple[Finding, ...]:
    """Say of slots in which nobody delivered when the site was down, for as long as a device is silent to be missed."""
    runs = groupby(enumerate(sorted(slots)), key=lambda numbered: numbered[1] - numbered[0])
    whole = [[slot for _, slot in run] for _, run in runs]
    return tuple(
        Finding(FindingKind.OUTAGE, "", run[0] * period, (run[-1] + 1) * period, len(run), "no device delivered")
        for run in whole
        if len(run) >= _CONFIRMED
    )


def clock_skew(
    arrivals: Sequence[tuple[float, float]], *, usual: float = 0.0, period: float = 3600.0, tolerance: float = 0.0
) -> Finding | None:
    """Tell whether a device's clock is off, from when it says it read and when that came (both Unix seconds).

    `usual` is how long readings are on their way here, the middle of its neighbours' if one knows it. An error counts
    that is over three periods, and over `tolerance`, either way, and steadier than a backlog or a bad link would be.
    The finding says by how much, and what it gains or loses a day if that shows.
    """
    if len(arrivals) < _CLOCKED:
        return None
    ordered = sorted(arrivals)
    errors = [time + usual - arrived for time, arrived in ordered]
    first, middle, last = quantiles(errors)
    if abs(middle) <= max(_LATE * period, tolerance) or last - first > _STEADY * abs(middle):
        return None
    return Finding(FindingKind.CLOCK, "", ordered[0][0], ordered[-1][0], len(ordered), _off(ordered, errors))


def _off(ordered: Sequence[tuple[float, float]], errors: Sequence[float]) -> str:
    """How far a clock is off, and how fast it gets worse: the later half against the earlier one."""
    half = len(errors) // 2
    arrived = [at for _, at in ordered]
    days = (median(arrived[half:]) - median(arrived[:half])) / _DAY
    change = median(errors[half:]) - median(errors[:half])
    error = median(errors)
    said = f"{abs(error) / _HOUR:.1f} h {'ahead' if error > 0 else 'behind'}"
    noise = median(abs(later - earlier) for earlier, later in pairwise(errors))
    if days <= 0 or abs(change) <= 2 * noise:
        return said
    return f"{said}, {'gaining' if change > 0 else 'losing'} {abs(change) / days:.0f} s a day"


def _stuck(channel: str, rule: ChannelRules, series: Sequence[tuple[float, float]], period: float) -> Iterator[Finding]:
    """Runs of identical readings that are long enough in time as well: a faster sensor may well read the same twice."""
    if rule.stuck_after is None:
        return
    least = _FILLED * (rule.stuck_after - 1) * period
    resting = {rule.low, rule.high, *rule.rests}
    for value, run in groupby(series, key=lambda point: point[1]):
        times = [time for time, _ in run]
        lasted = times[-1] - times[0]
        if len(times) >= rule.stuck_after and lasted >= (max(least, rule.rest - period) if value in resting else least):
            yield Finding(FindingKind.STUCK, channel, times[0], times[-1], len(times), f"at {value:g}")


def _out_of_range(channel: str, rule: ChannelRules, series: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    found = [(time, value) for time, value in series if not rule.low <= value <= rule.high]
    if found:
        worst = max((value for _, value in found), key=lambda value: max(rule.low - value, value - rule.high))
        said = f"{worst:g}, where {rule.low:g} to {rule.high:g} is possible"
        yield Finding(FindingKind.RANGE, channel, found[0][0], found[-1][0], len(found), said)


def _spikes(channel: str, rule: ChannelRules, step: float, series: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    """Single readings far from both their neighbours, which agree with each other."""
    found = [
        (here[0], rule.change(before[1], here[1]))
        for before, here, after in zip(series, series[1:], series[2:], strict=False)
        if min(abs(rule.change(before[1], here[1])), abs(rule.change(here[1], after[1]))) > FAR * step
        and abs(rule.change(before[1], after[1])) < _NEAR * step
        and not _over_the_seam(before[1], here[1])
        and not {before[1], after[1]} <= set(rule.rests)  # a shower is none
    ]
    if found:
        largest = max((jump for _, jump in found), key=abs)
        yield Finding(FindingKind.SPIKE, channel, found[0][0], found[-1][0], len(found), f"by {largest:+g}")


def _units(channel: str, rule: ChannelRules, step: float, series: Sequence[tuple[float, float]]) -> Iterator[Finding]:
    """Find a jump after which the values go on as before once they are read in another unit; one that was stuck did."""
    for place in range(2, len(series) - _CONFIRMED + 1):
        before = series[place - 1][1]
        if abs(series[place][1] - before) <= FAR * step or _over_the_seam(before, series[place][1]):
            continue
        if abs(before - series[place - 2][1]) > _NEAR * step:  # it comes back from a spike
            continue
        if rule.stuck_after and all(point[1] == before for point in series[max(place - rule.stuck_after, 0) : place]):
            continue  # or from having been stuck
        after = [value for _, value in series[place : place + _CONFIRMED]]
        for name, scale, offset in _CONVERSIONS:
            back = [before, *((value - offset) / scale for value in after)]
            smooth = all(abs(later - earlier) <= _NEAR * step for earlier, later in pairwise(back))
            rest = series[place:]
            if (
                smooth
                and all(abs(value - before) > FAR * step for value in after)
                and _goes_on(series[:place], [(value - offset) / scale for _, value in rest], _NEAR * step)
            ):
                yield Finding(FindingKind.UNIT, channel, rest[0][0], rest[-1][0], len(rest), name)
                return


def _over_the_seam(before: float, after: float) -> bool:
    """Whether an angle nobody named one passes from one end of its circle to the other."""
    circles = any(low <= min(before, after) and max(before, after) <= low + _CIRCLE for low in (0.0, -_CIRCLE / 2))
    return circles and abs(after - before) > _SEAM * _CIRCLE


def _goes_on(before: Sequence[tuple[float, float]], after: Sequence[float], room: float) -> bool:
    """Whether most of what came after, read in another unit, is about where the channel was before."""
    low, high = (edge(value for _, value in before) for edge in (min, max))
    return 2 * sum(low - room <= value <= high + room for value in after) > len(after)


def _contradictions(ordered: Sequence[Row]) -> Iterator[Finding]:
    """Two different readings for one time; the same one twice is only a message repeated."""
    times = [a[0] for a, b in pairwise(ordered) if a[0] == b[0] and dict(a[1]) != dict(b[1])]
    if times:
        yield Finding(FindingKind.DUPLICATE, "", times[0], times[-1], len(times), "two readings of one time differ")


def _ahead(ordered: Sequence[Row], limit: float) -> Iterator[Finding]:
    times = [time for time, _ in ordered if time > limit]
    if times:
        said = f"{(times[-1] - limit) / _HOUR:.1f} h ahead"
        yield Finding(FindingKind.CLOCK, "", times[0], times[-1], len(times), said)


def _losses(ordered: Sequence[Row], now: float, period: float, outages: Iterable[int]) -> Iterator[Finding]:
    if not ordered:
        return
    filled = {int(time // period) for time, _ in ordered} | set(outages)
    score, lost, since = 0.0, 0, 0
    last = 0
    for slot in range(int(ordered[0][0] // period), int(now // period)):
        missing = slot not in filled
        score = max(0.0, score + (_LOST if missing else _RECEIVED))
        if not score:
            lost = 0
        elif missing:
            since, last, lost = (slot if not lost else since), slot, lost + 1
        if score > _LOSS_LIMIT:
            said = f"of {slot + 1 - since} due"
            yield Finding(FindingKind.GAP, "", since * period, (last + 1) * period, lost, said)
            return
