"""Faults that distributions do not show: how soon each is found, and how often without one; `integrity.inspect` itself.

A device is inspected after every sample it might have sent, as a processor does, on the two days before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
from bench.drift.ours import Rows, rows
from bench.drift.streams import DAY, FEATURES, HOUR, REFERENCE, SOUND, Stream

from quietfleet.monitor.integrity import DEFAULT_RULES, FindingKind, inspect, site_outages

STUCK, SILENCE, LOSS = "stuck", "silence", "a fifth lost"
KINDS: Final = {STUCK: FindingKind.STUCK, SILENCE: FindingKind.GAP, LOSS: FindingKind.GAP}
MONTH: Final = 30 * DAY
PATIENCE: Final = 7 * DAY
LOST: Final = 0.2
JUDGED: Final = sum(DEFAULT_RULES[name].stuck_after is not None for name in FEATURES)


@dataclass(frozen=True)
class Found:
    """Median samples until a fault is found, the share found within a week, false findings a month.

    A month of a device, or of one of its features that can be stuck.
    """

    delay: float
    share: float
    false: float


@dataclass(frozen=True)
class Outage:
    """Of places of which all devices fell silent for six hours: named so, and devices blamed for it."""

    places: int
    named: int
    blamed: int


def measure(streams: list[Stream], seed: int) -> tuple[dict[str, Found], Outage]:
    """Put each fault into every sound stream once, each from a drawn moment on."""
    sound = [stream for stream in streams if stream.fault == SOUND]
    readings = [rows(stream.values) for stream in sound]
    random = np.random.default_rng([seed, len(sound)])
    onsets = [REFERENCE + int(random.integers(2 * DAY, 9 * DAY)) for _ in sound]
    false = {kind: [_false(each, kind) for each in readings] for kind in set(KINDS.values())}
    found = {}
    for fault, change in _CHANGES.items():
        kind, pairs = KINDS[fault], zip(readings, onsets, strict=True)
        delays = [_delay(each, onset, kind, change, random) for each, onset in pairs]
        months = float(np.mean(false[kind])) / (JUDGED if kind is FindingKind.STUCK else 1)
        found[fault] = Found(median(delays), float(np.mean([delay <= PATIENCE for delay in delays])), months)
    return found, _outages(sound, onsets)


def _stuck(each: Rows, onset: int, _random: np.random.Generator) -> Rows:
    """All channels but rain repeat what they read at the onset, as a hung driver does."""
    last = dict(next(values for time, values in each if time >= onset * HOUR))
    return [(time, last if time >= onset * HOUR else values) for time, values in each]


def _silence(each: Rows, onset: int, _random: np.random.Generator) -> Rows:
    return [row for row in each if row[0] < onset * HOUR]


def _loss(each: Rows, onset: int, random: np.random.Generator) -> Rows:
    return [row for row in each if row[0] < onset * HOUR or random.random() >= LOST]


Change = Callable[[Rows, int, np.random.Generator], Rows]
_CHANGES: Final[Mapping[str, Change]] = {STUCK: _stuck, SILENCE: _silence, LOSS: _loss}


def _delay(each: Rows, onset: int, kind: FindingKind, change: Change, random: np.random.Generator) -> float:
    """Samples due from the onset on until a finding of that kind that was not there before."""
    spoilt = change(each, onset, random)
    for sample in range(1, PATIENCE + 1):
        if _finds(spoilt, onset + sample, kind) and not _finds(each, onset + sample, kind):
            return sample
    return float("inf")


def _false(each: Rows, kind: FindingKind) -> int:
    """Findings of a kind in a month, without any fault put in; one that goes on is one."""
    said = [_finds(each, REFERENCE + sample, kind) for sample in range(MONTH)]
    return sum(now and not before for before, now in zip([False, *said], said, strict=False))


def _finds(each: Rows, end: int, kind: FindingKind) -> bool:
    low, high = (end - 2 * DAY) * HOUR, end * HOUR
    return any(one.kind is kind for one in inspect([row for row in each if low <= row[0] < high], now=high))


def _outages(sound: list[Stream], onsets: list[int]) -> Outage:
    places = named = blamed = 0
    for stream, onset in zip(sound, onsets, strict=True):
        if stream.device:
            continue
        since, until, dark = (onset - DAY) * HOUR, (onset + DAY) * HOUR, range(onset, onset + 6)
        site = {
            str(device): [row for row in rows(values) if since <= row[0] < until and int(row[0] // HOUR) not in dark]
            for device, values in enumerate(stream.site)
        }
        slots = site_outages(site, since=since, until=until)
        gaps = [
            one
            for each in site.values()
            for one in inspect(each, now=until, outages=slots)
            if one.kind is FindingKind.GAP and one.since <= onset * HOUR <= one.until
        ]
        places, named, blamed = places + 1, named + set(dark).issubset(slots), blamed + len(gaps)
    return Outage(places, named, blamed)
