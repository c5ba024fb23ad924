"""How the monitors do on recordings that nothing of theirs was settled on, with the parameters they come with.

Each recording is cut into stretches, a reference first; what its channels may read is learned from that, as for any
file that a person brings. Devices are held against their neighbours, and inspected by themselves, once an hour. Faults
go into a few devices of every stretch from a drawn moment on, those left out that are dead already.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from statistics import median
from typing import Final

import numpy as np
from bench.drift.elsewhere import DAY, Recording
from bench.drift.streams import FAULTS, Array

from quietfleet.errors import MonitorError
from quietfleet.monitor.integrity import ChannelRules, FindingKind, Row, inspect, site_outages
from quietfleet.monitor.learned import learn_rules
from quietfleet.monitor.peers import Course, PeerReference

HOUR: Final = 3600.0
WEEK: Final = 7 * DAY
MONTH: Final = 30  # days
STUCK, SILENCE, LOSS = "stuck", "silence", "a fifth lost"
KINDS: Final = {STUCK: FindingKind.STUCK, SILENCE: FindingKind.GAP, LOSS: FindingKind.GAP}
LOST: Final = 0.2
SPOILT: Final = 4  # devices of a stretch
FEWEST: Final = 12  # of a recording
STRETCHES: Final = 8
_DEAD: Final = 0.8  # of a reference's readings one and the same
_SOON: Final = 48  # samples that are looked at one by one
_RAMP: Final = 14  # days
_TURN: Final = 360.0

Readings = dict[str, list[Row]]


@dataclass
class Told:
    """Of one channel, or one kind of finding: days with an alarm, months watched, and samples until each fault."""

    days: int = 0
    months: float = 0.0
    delays: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    @property
    def false(self) -> float:
        """Days with an alarm a month of a device, without any fault put in."""
        return self.days / self.months if self.months else 0.0

    def delay(self, fault: str) -> float:
        return median(self.delays[fault]) if self.delays[fault] else float("nan")

    def caught(self, fault: str) -> float:
        """Share of the faults found within a week."""
        return float(np.mean(np.isfinite(self.delays[fault]))) if self.delays[fault] else float("nan")


@dataclass(frozen=True)
class Unseen:
    """What was told of one recording: by channel, and of the faults that distributions do not show."""

    recording: Recording
    channels: Mapping[str, Told]
    integrity: Mapping[str, Told]


def measure(recording: Recording, seed: int, stretches: int = STRETCHES) -> Unseen:
    """Watch every stretch of a recording, sound and spoilt."""
    random = np.random.default_rng([seed, recording.values.shape[1]])
    channels, integrity = {name: Told() for name in recording.channels}, {name: Told() for name in KINDS}
    cut = list(_stretches(recording))[:stretches]
    spoilt_devices = max(SPOILT, FEWEST // len(cut))
    for stretch in cut:
        _against_peers(stretch, channels, random, spoilt_devices)
        _alone(stretch, integrity, random, spoilt_devices)
    return Unseen(recording, channels, integrity)


@dataclass(frozen=True, eq=False)
class _Stretch:
    """Some weeks of a recording: values [devices, samples, channels], the first of them at `since`."""

    recording: Recording
    values: Array
    since: float

    @property
    def sound(self) -> float:
        """Until when it is the reference."""
        return self.since + self.recording.learned * DAY

    @property
    def reference(self) -> int:
        return round(self.recording.learned * DAY / self.recording.period)

    def rows(self, values: Array) -> list[Row]:
        """What one device delivered."""
        names, period = self.recording.channels, self.recording.period
        made = []
        for place, line in enumerate(values.tolist()):
            known = {name: value for name, value in zip(names, line, strict=True) if value == value}  # noqa: PLR0124
            if known:
                made.append((self.since + place * period, known))
        return made

    def onset(self, random: np.random.Generator) -> int:
        """Draw the sample at which a fault begins: a week is left after it."""
        free = self.recording.watched - 7
        early, days = (0, 1) if free < 10 else (7, 3)  # noqa: PLR2004 - days
        sample = self.recording.period
        return self.reference + int((early + days * random.random()) * DAY / sample)


def _stretches(recording: Recording) -> Iterator[_Stretch]:
    size = round((recording.learned + recording.watched) * DAY / recording.period)
    step = round(recording.apart * DAY / recording.period)
    for first in range(0, recording.values.shape[1] - size + 1, step):
        yield _Stretch(recording, recording.values[:, first : first + size], recording.since + first * recording.period)


def _readings(stretch: _Stretch) -> Readings:
    return {device: stretch.rows(line) for device, line in zip(stretch.recording.devices, stretch.values, strict=True)}


def _between(rows: Sequence[Row], since: float, until: float) -> list[Row]:
    at = itemgetter(0)
    return list(rows[bisect_left(rows, since, key=at) : bisect_left(rows, until, key=at)])


def _rules(readings: Readings, stretch: _Stretch) -> dict[str, ChannelRules]:
    sound = {device: _between(rows, stretch.since, stretch.sound) for device, rows in readings.items()}
    return learn_rules(sound, period=stretch.recording.period)


def _dead(line: Array) -> bool:
    """Whether a reference is no measure of a shift: nothing came, or nearly always the same."""
    known = line[np.isfinite(line)]
    return not known.size or np.unique(known, return_counts=True)[1].max() > _DEAD * known.size


# against peers


def _against_peers(
    stretch: _Stretch, channels: Mapping[str, Told], random: np.random.Generator, spoilt_devices: int
) -> None:
    recording, readings = stretch.recording, _readings(stretch)
    rules = _rules(readings, stretch)
    known = {device: _between(rows, stretch.since, stretch.sound) for device, rows in readings.items()}
    try:
        reference = PeerReference.fit(
            known, [name for name in recording.channels if name in rules], rules=rules, period=recording.period
        )
    except MonitorError:
        return  # fewer than three devices read anything in that month
    step = max(HOUR, recording.period)
    ends = np.arange(stretch.sound + step, stretch.sound + recording.watched * DAY + 1, step)
    sound = reference.course(readings, ends, period=recording.period)
    for name, course in sound.items():
        _count(channels[name], course, round(DAY / step))
    for place in random.permutation(len(recording.devices))[:spoilt_devices].tolist():
        for fault in FAULTS:
            onset = stretch.onset(random)
            spoilt = readings | {recording.devices[place]: stretch.rows(_spoilt(stretch, place, fault, onset))}
            begun = stretch.since + onset * recording.period
            week = (ends > begun) & (ends <= begun + WEEK)
            recent = {device: _between(rows, begun - WEEK, begun + WEEK) for device, rows in spoilt.items()}
            found = reference.course(recent, ends[week], period=recording.period)
            for name, course in found.items():
                dead = _dead(stretch.values[place, : stretch.reference, recording.channels.index(name)])
                if dead or recording.devices[place] not in course.devices or _is_nonsense(recording, name, fault):
                    continue
                caused = _over(course, recording.devices[place])
                caused &= ~_over(sound[name], recording.devices[place])[week]
                late = (ends[week][caused.argmax()] - begun) / recording.period if caused.any() else float("inf")
                channels[name].delays[fault].append(late)


def _count(told: Told, course: Course, looks: int) -> None:
    over, known = course.percent > course.limit, np.isfinite(course.percent)
    days = min(MONTH, over.shape[1] // looks)
    by_day = (len(over), days, looks)
    told.days += int(over[:, : days * looks].reshape(by_day).any(axis=2).sum())
    told.months += float(known[:, : days * looks].reshape(by_day).any(axis=2).sum()) / MONTH


def _over(course: Course, device: str) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    line = course.devices.index(device)
    over: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = course.percent[line] > course.limit[line]
    return over


def _is_nonsense(recording: Recording, channel: str, fault: str) -> bool:
    return channel in recording.angles and fault == "scale"  # a vane may be turned, but not doubled


def _spoilt(stretch: _Stretch, device: int, fault: str, onset: int) -> Array:
    values = stretch.values[device].copy()
    known = values[: stretch.reference]
    sigma, mean = np.nanstd(known, axis=0), np.nanmean(known, axis=0)
    after = values[onset:]
    if fault == "shift":
        after += sigma
    elif fault == "scale":
        after += after - mean
    else:
        grown = np.arange(len(after)) * stretch.recording.period / (_RAMP * DAY)
        after += 2 * sigma * np.minimum(1.0, grown)[:, None]
    for name in stretch.recording.angles:
        values[:, stretch.recording.channels.index(name)] %= _TURN
    return values


# by itself


def _alone(stretch: _Stretch, integrity: Mapping[str, Told], random: np.random.Generator, spoilt_devices: int) -> None:
    recording, readings = stretch.recording, _readings(stretch)
    rules = _rules(readings, stretch)
    dark = site_outages(readings, since=stretch.since, until=stretch.sound + WEEK, period=recording.period)
    judge = _Judge(rules, recording.period, dark)
    for rows in readings.values():
        _count_found(stretch, judge, rows, integrity)
    for place in random.permutation(len(recording.devices))[:spoilt_devices].tolist():
        if all(_dead(line) for line in stretch.values[place, : stretch.reference].T):
            continue
        rows = readings[recording.devices[place]]
        for fault, kind in KINDS.items():
            begun = stretch.since + stretch.onset(random) * recording.period
            spoilt = _faulty(rows, fault, begun, random)
            integrity[fault].delays[fault].append(_delay(judge, rows, spoilt, begun, kind))


@dataclass(frozen=True)
class _Judge:
    rules: Mapping[str, ChannelRules]
    period: float
    dark: frozenset[int]

    def finds(self, rows: Sequence[Row], end: float) -> set[tuple[FindingKind, str, float]]:
        """Inspect a week: what was found, in which channel, since when."""
        week = _between(rows, end - WEEK, end)
        found = inspect(week, now=end, rules=self.rules, period=self.period, outages=self.dark)
        return {(one.kind, one.channel, one.since) for one in found}


def _count_found(stretch: _Stretch, judge: _Judge, rows: Sequence[Row], integrity: Mapping[str, Told]) -> None:
    """Findings that come up on some day, without any fault put in."""
    days = min(MONTH, stretch.recording.watched)
    before = {one[:2] for one in judge.finds(rows, stretch.sound)}
    for day in range(1, days + 1):
        now = {one[:2] for one in judge.finds(rows, stretch.sound + day * DAY)}
        for fault, kind in KINDS.items():
            integrity[fault].days += sum(one[0] is kind for one in now - before)
        before = now
    for fault, kind in KINDS.items():
        channels = sum(rule.stuck_after is not None for rule in judge.rules.values())
        integrity[fault].months += days / MONTH * (channels if kind is FindingKind.STUCK else 1)


def _faulty(rows: Sequence[Row], fault: str, begun: float, random: np.random.Generator) -> list[Row]:
    before, after = _between(rows, 0.0, begun), _between(rows, begun, float("inf"))
    if fault == SILENCE or not after:
        return before
    if fault == LOSS:
        return before + [row for row in after if random.random() >= LOST]
    return before + [(time, dict(after[0][1])) for time, _ in after]


def _delay(judge: _Judge, rows: Sequence[Row], spoilt: Sequence[Row], begun: float, kind: FindingKind) -> float:
    """Samples due from the onset on until a finding of that kind that was not there before."""
    last = round(WEEK / judge.period)
    coarse = max(round(HOUR / judge.period), 1)
    for sample in (*range(1, _SOON), *range(_SOON, last + 1, coarse)):
        end = begun + sample * judge.period
        new = {one for one in judge.finds(spoilt, end) if one[0] is kind}
        if new and new - judge.finds(rows, end):
            return sample
    return float("inf")
