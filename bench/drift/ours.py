"""Our own ways to watch a device, on the same streams: against its peers, alone, and the paper's rule to the letter."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from operator import itemgetter

import numpy as np
from bench.drift.scoring import Alarms
from bench.drift.streams import DAY, FEATURES, HOUR, REFERENCE, SOUND, Array, Stream

from quietfleet.monitor.alone import alone
from quietfleet.monitor.drift import DRIFTED_PCT, Baseline
from quietfleet.monitor.growth import SETTLED, STEP, grow
from quietfleet.monitor.integrity import DEFAULT_RULES, Row
from quietfleet.monitor.peers import PeerReference
from quietfleet.monitor.plausibility import contradictions

WEEK = 7 * DAY
LOOKED = 3  # samples between two looks
BOUND = ("temp", "dewp", "humid")
KEPT = WEEK * HOUR
Rows = list[Row]


def rows(values: Array) -> Rows:
    """What a device would have delivered: one reading an hour, without what is missing."""
    times = np.arange(len(values)) * HOUR
    made = []
    for time, line in zip(times.tolist(), values.tolist(), strict=True):
        known = {name: value for name, value in zip(FEATURES, line, strict=True) if value == value}  # noqa: PLR0124
        if known:
            made.append((time, known))
    return made


def peers(streams: list[Stream], learned: int = REFERENCE) -> list[Alarms]:
    """Hold each device against the two others after every sample; what is usual is learned from the last so many."""
    references: dict[int, PeerReference] = {}
    return [_peers(stream, references, learned) for stream in streams]


def _peers(stream: Stream, references: dict[int, PeerReference], learned: int) -> Alarms:
    site = {str(device): rows(values) for device, values in enumerate(stream.site)}
    if stream.fault == SOUND and stream.stretch not in references:
        since, until = (REFERENCE - learned) * HOUR, REFERENCE * HOUR
        sound = {device: [row for row in each if since <= row[0] < until] for device, each in site.items()}
        references[stream.stretch] = PeerReference.fit(sound, FEATURES)
    ends = (np.arange(REFERENCE, len(stream.values)) + 1) * HOUR
    courses = references[stream.stretch].course(site, ends)
    raised = {name: course.percent[stream.device] > course.limit[stream.device] for name, course in courses.items()}
    return np.array([raised.get(name, np.zeros(ends.size, dtype=bool)) for name in FEATURES])


def grown(streams: list[Stream]) -> list[Alarms]:
    """As `peers` from the first week of the reference, which then grows day after day, fault or not."""
    begun: dict[int, tuple[PeerReference, float]] = {}
    return [_grown(stream, begun) for stream in streams]


def _grown(stream: Stream, begun: dict[int, tuple[PeerReference, float]]) -> Alarms:
    site = {str(device): rows(values) for device, values in enumerate(stream.site)}
    if stream.fault == SOUND and stream.stretch not in begun:
        first = {device: [row for row in each if row[0] < WEEK * HOUR] for device, each in site.items()}
        begun[stream.stretch] = _grow(PeerReference.fit(first, FEATURES), site, WEEK * HOUR, REFERENCE * HOUR)
    reference, since = begun[stream.stretch]
    raised = []
    for now in range(REFERENCE, len(stream.values), DAY):
        reference, since = _grow(reference, site, since, now * HOUR)
        ends = (np.arange(now, min(now + DAY, len(stream.values))) + 1) * HOUR
        recent = {device: _within(each, ends[0] - KEPT, ends[-1]) for device, each in site.items()}
        courses = reference.course(recent, ends)
        alarms = {name: one.percent[stream.device] > one.limit[stream.device] for name, one in courses.items()}
        raised.append([alarms.get(name, np.zeros(ends.size, dtype=bool)) for name in FEATURES])
    return np.concatenate(raised, axis=1)


def _grow(reference: PeerReference, site: dict[str, Rows], since: float, until: float) -> tuple[PeerReference, float]:
    """Let a reference grow as a processor does that keeps a week; return it and how far it has come."""
    while since + STEP + SETTLED <= until:
        now = since + STEP + SETTLED
        week = {device: _within(each, now - KEPT, now) for device, each in site.items()}
        reference, since = grow(reference, week, since=since, now=now), since + STEP
    return reference, since


def _within(each: Rows, since: float, until: float) -> Rows:
    return each[bisect_left(each, since, key=itemgetter(0)) : bisect_left(each, until, key=itemgetter(0))]


def lone(streams: list[Stream]) -> list[Alarms]:
    """Judge each device by its own past, once a day."""
    return [_daily(stream, _alone) for stream in streams]


def agreeing(streams: list[Stream]) -> list[Alarms]:
    """Hold what each device reads in its channels against the laws of the air, every third sample; no peers, no past.

    What is broken is broken for all channels of a law.
    """
    return [_agreeing(stream) for stream in streams]


def _agreeing(stream: Stream) -> Alarms:
    readings = rows(stream.values)
    bound = np.array([name in BOUND for name in FEATURES])
    raised = np.zeros((len(FEATURES), len(stream.values) - REFERENCE), dtype=bool)
    for end in range(REFERENCE + LOOKED, len(stream.values) + 1, LOOKED):
        if any(contradictions(_within(readings, (end - 2 * DAY) * HOUR, end * HOUR))):
            raised[bound, end - REFERENCE - 1 : end - REFERENCE - 1 + LOOKED] = True
    return raised


def literal(streams: list[Stream]) -> list[Alarms]:
    """Raise an alarm where a week drifted from the reference by 70 % and more, once a day."""
    return [_literal(stream) for stream in streams]


def _literal(stream: Stream) -> Alarms:
    reference = {name: stream.values[:REFERENCE, place] for place, name in enumerate(FEATURES)}
    baseline = Baseline.fit(reference, floors={name: DEFAULT_RULES[name].resolution for name in FEATURES})

    def judge(values: Array, _readings: Rows, end: int) -> list[bool]:
        week = {name: values[end - WEEK : end, place] for place, name in enumerate(FEATURES)}
        known = {name: line for name, line in week.items() if np.isfinite(line).any()}
        percent = baseline.drift(known)
        return [percent.get(name, 0.0) >= DRIFTED_PCT for name in FEATURES]

    return _daily(stream, judge)


def _alone(_values: Array, readings: Rows, end: int) -> list[bool]:
    now = end * HOUR
    found = alone([row for row in readings if row[0] < now], now=now)
    return [name in found and found[name].exceeded for name in FEATURES]


def _daily(stream: Stream, judge: Callable[[Array, Rows, int], list[bool]]) -> Alarms:
    readings = rows(stream.values)
    raised = np.zeros((len(FEATURES), len(stream.values) - REFERENCE), dtype=bool)
    for end in range(REFERENCE + DAY, len(stream.values) + 1, DAY):
        raised[:, end - REFERENCE - 1] = judge(stream.values, readings, end)
    return raised
