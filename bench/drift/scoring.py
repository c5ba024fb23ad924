"""One way of counting for every method: what it raised over each stream → false alarms, delays, shares caught.

An alarm at a moment counts as caused by a fault if the same method was quiet at that moment on the same stream without
the fault: a method that always raises one has not noticed anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np
import numpy.typing as npt
from bench.drift.streams import DAY, FAULTS, REFERENCE, SEASON, SOUND, Stream

MONTH: Final = 30 * DAY
WEEK: Final = 7 * DAY
NEVER: Final = float("inf")

Alarms = npt.NDArray[np.bool_]
"""[features, samples watched]: whether there is an alarm once that sample has come in."""


@dataclass(frozen=True)
class Score:
    """A method's score: false alarms a device-feature-month, and what became of each fault.

    `days` counts the days with an alarm, `raised` the alarms that came up on a day after one without.
    """

    days: float
    raised: float
    season: float
    caught: dict[str, Caught]


@dataclass(frozen=True)
class Caught:
    """Median delay in samples from the onset on (infinite if most were missed), share caught within a week.

    `anyway` is the share in which an alarm came within that week whether or not the fault caused it.
    """

    delay: float
    week: float
    anyway: float


def score(streams: list[Stream], alarms: list[Alarms]) -> Score:
    """Score what a method raised, stream by stream."""
    pairs = list(zip(streams, alarms, strict=True))
    sound = [raised for stream, raised in pairs if stream.fault == SOUND]
    season = [raised for stream, raised in pairs if stream.fault == SEASON]
    quiet = {(stream.stretch, stream.device): raised for stream, raised in pairs if stream.fault == SOUND}
    caught = {}
    for fault in FAULTS:
        spoilt = [
            (stream.onset - REFERENCE, raised, quiet[stream.stretch, stream.device])
            for stream, raised in pairs
            if stream.fault == fault
        ]
        caught[fault] = _caught([(onset, *lines) for onset, *both in spoilt for lines in zip(*both, strict=True)])
        caught[f"{fault}, joint"] = _caught([(onset, *_joint(*both)) for onset, *both in spoilt])
    days = [_days(raised) for raised in sound]
    return Score(_monthly(days), _monthly([_raised(day) for day in days]), _monthly(map(_days, season)), caught)


def _caught(spoilt: list[tuple[int, Alarms, Alarms]]) -> Caught:
    delays = [_first(with_fault[onset:] & ~without[onset:]) for onset, with_fault, without in spoilt]
    anyway = [with_fault[onset : onset + WEEK].any() for onset, with_fault, _ in spoilt]
    return Caught(median(delays), float(np.mean([delay <= WEEK for delay in delays])), float(np.mean(anyway)))


def _joint(with_fault: Alarms, without: Alarms) -> tuple[Alarms, Alarms]:
    """Alarms of a device as a whole: where a feature has one that the fault caused."""
    caused: Alarms = (with_fault & ~without).any(axis=0)
    return caused, np.zeros_like(caused)


def _first(line: Alarms) -> float:
    return float(line.argmax() + 1) if line.any() else NEVER


def _days(alarms: Alarms) -> Alarms:
    whole = alarms[:, : min(MONTH, alarms.shape[1] // DAY * DAY)]
    days: Alarms = whole.reshape(len(whole), -1, DAY).any(axis=2)
    return days


def _raised(days: Alarms) -> Alarms:
    before = np.pad(days[:, :-1], ((0, 0), (1, 0)))
    return days & ~before


def _monthly(days: Iterable[Alarms]) -> float:
    lines = list(days)
    return float(np.mean(lines)) * MONTH / DAY if lines else 0.0
