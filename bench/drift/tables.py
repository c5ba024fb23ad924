"""The goals, and the tables of the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bench.drift.faults import LOSS, SILENCE, STUCK, Found, Outage
from bench.drift.scoring import Score
from bench.drift.speed import SAMPLE, Timed
from bench.drift.standins import ALL, USUAL, StoodIn
from bench.drift.streams import FAULTS
from bench.drift.unseen import KINDS, Unseen

OURS, LITERAL, FIELD = "ours, against peers", "70 % to the letter", "Evidently, a week"
DELAY, CAUGHT, FALSE = 24, 0.95, 0.2
FEWER: Final = {LITERAL: 8, FIELD: 20}
SAMPLES: Final = {STUCK: 12, SILENCE: 4, LOSS: 30}
SECONDS: Final = 0.050
FASTER: Final = {"SciPy, one by one": 10, "Evidently": 1000, "NannyML": 1000}


@dataclass(frozen=True)
class Measured:
    """All that one run found; the difference to SciPy is in percent of sigma."""

    scores: Mapping[str, Score]
    faults: Mapping[str, Found]
    outage: Outage
    timed: Mapping[str, Timed]
    difference: float
    stood_in: Sequence[StoodIn]
    unseen: Sequence[Unseen] = ()


def missed(measured: Measured) -> list[str]:
    """Say which goals were missed."""
    return [*_missed_drift(measured.scores), *_missed_faults(measured), *_missed_speed(measured.timed)]


def _missed_drift(scores: Mapping[str, Score]) -> list[str]:
    ours = scores[OURS]
    shift = ours.caught["shift"]
    found = {
        f"a shift by one sigma takes {shift.delay} samples, {DELAY} is the goal": shift.delay > DELAY,
        f"{shift.week:.1%} of shifts are caught within a week, {CAUGHT:.0%} is the goal": shift.week < CAUGHT,
        f"{ours.days:.2f} false alarms a device-feature-month, {FALSE} is the goal": ours.days > FALSE,
    }
    for name, times in FEWER.items():
        if name in scores:
            other = scores[name]
            found[f"not {times} times fewer false alarms than {name}"] = other.days < times * ours.days
            found[f"slower than {name}"] = other.caught["shift"].delay < shift.delay
    return [fault for fault, is_missed in found.items() if is_missed]


def _missed_faults(measured: Measured) -> list[str]:
    found = {}
    for name, goal in SAMPLES.items():
        one = measured.faults[name]
        found[f"{name}: found after {one.delay} samples, {goal} is the goal"] = one.delay > goal
        found[f"{name}: {one.false:.2f} false findings a month, {FALSE} is the goal"] = one.false > FALSE
    outage = measured.outage
    found["an outage of a place was not named, or blamed on a device"] = (
        outage.named < outage.places or outage.blamed > 0
    )
    return [fault for fault, is_missed in found.items() if is_missed]


def _missed_speed(timed: Mapping[str, Timed]) -> list[str]:
    ours = timed["ours"].seconds
    found = {f"a fleet takes {ours * 1000:.0f} ms, {SECONDS * 1000:.0f} is the goal": ours > SECONDS}
    for name, times in FASTER.items():
        if name in timed:
            ratio = timed[name].seconds / ours
            found[f"{ratio:,.0f} times faster than {name}, {times:,} is the goal"] = ratio < times
    return [fault for fault, is_missed in found.items() if is_missed]


def results(measured: Measured, versions: str) -> dict[str, Any]:
    """Return the tables."""
    return {
        "title": "Drift: what a monitor notices, how soon, and how often for nothing",
        "about": [
            *_ABOUT,
            f"In environments of their own, telemetry off: {versions}." if versions else "Without peers.",
        ],
        "tables": [
            _alarms(measured.scores),
            _delays(measured.scores),
            _integrity(measured),
            _stood_in(measured.stood_in),
            *out_of_sample(measured.unseen),
            _speed(measured),
        ],
    }


_ABOUT: Final = [
    (
        "Streams: a real year of three weather stations some 20 km apart, taken for the devices of one site; eleven "
        "stretches four weeks apart, each 30 days of reference and 37 that are watched, hourly, six features, with "
        "all that is missing or wrong in the source. A fault goes into one device from a seeded moment on: +1 sigma of "
        "its own reference, deviations doubled, or a ramp to 2 sigma over 14 days. Every method runs as it comes; ours "
        "were settled while looking at this year and at made-up sensors of other kinds, so that other data may do "
        "worse (*out of sample*, below); the field's were settled elsewhere."
    ),
    (
        "One way of counting for all. A false alarm is a day with an alarm, a device and a feature, without any fault "
        "put in; *came up* counts alarms that follow a day without. *Season* is the same 60 days after the reference. "
        "A fault is caught by an alarm at a moment at which the method was quiet on the same stream without the fault: "
        "who always raises an alarm has not noticed anything. Delays are medians in samples, what was missed counting "
        "as never. *Joint*: all six features at once, the first that notices counts."
    ),
    (
        "Against peers, which is what a gateway does with its month, *from a week*, which is what a processor has to "
        "learn from, and *a month later*, the same as it grows from the first of the thirty days on, whether or not "
        "there is a fault, judge after every sample, and so does River; the others once a day, on the last day or "
        "week, NannyML on chunks. Evidently is run with its defaults, for 720 readings a Kolmogorov-Smirnov test at "
        "5 %: by the test alone, checked against whole reports. River's KSWIN is run on two stretches, a lone device "
        "on three: slow. *Its channels alone*: a device's temperature, dew point and humidity against the laws that "
        "bind them, every third sample, without peers or past; of the other three features it says nothing."
    ),
    (
        "What stands in: every fifth day of the year each station's channel is taken away for a day, and made from "
        "what is left, learned from the week before; the unit is the channel's."
    ),
    (
        "Out of sample: recordings of other sensors from packages that bring them (La Haute Borne's wind turbines, "
        "ENGIE under Licence Ouverte 2.0; VLINDER's stations around Ghent, MIT; 17 roofs of one street in California, "
        "MIT; Auckland's street counters, CC BY 4.0), with the parameters that the monitors come with. None of the "
        "limits was settled on them. What they showed to be wrong by construction was mended: devices that read in "
        "proportion, angles, channels that rest, one dead device among many; for these mends they are unseen no more. "
        "Up to eight stretches twelve weeks apart (roofs four; the stations' fifteen days are one: a week of "
        "reference, a week watched), judged once an hour. Days count as false alarms even where the source itself is "
        "at fault: turbines that stood still while the others ran, counters that fell silent or were moved, a roof "
        "that makes nothing, others that part from the street for weeks. A shift of one sigma is one of the channel "
        "as it reads, day and night, wind and calm; four devices of each stretch get it, none that is dead. The "
        "stations' network froze twice in their fifteen days."
    ),
    (
        f"Speed: a week of 1,000 devices, six features each, against a month, CPU seconds of one thread; both sides "
        f"have seen the reference before. Evidently and NannyML judge {SAMPLE} devices, the rest is extrapolated."
    ),
]


def _alarms(scores: Mapping[str, Score]) -> dict[str, Any]:
    ours = scores[OURS].days
    return {
        "title": "False alarms, a device-feature-month",
        "columns": ["", "days", "came up", "season", "times ours", "shift", "within 7 d", "scale", "within 7 d"],
        "rows": [
            [
                name,
                round(one.days, 2),
                round(one.raised, 2),
                round(one.season, 2),
                round(one.days / ours, 1) if ours else "",
                _samples(one.caught["shift"].delay),
                f"{one.caught['shift'].week:.1%}",
                _samples(one.caught["scale"].delay),
                f"{one.caught['scale'].week:.1%}",
            ]
            for name, one in scores.items()
        ],
    }


def _delays(scores: Mapping[str, Score]) -> dict[str, Any]:
    kinds = ("gradual", "shift, joint", "scale, joint", "gradual, joint")
    return {
        "title": "Slow and joint faults: median delay, share within a week; and a shift's alarms, fault or not",
        "columns": ["", *(column for kind in kinds for column in (kind, "7 d")), "shift, anyway"],
        "rows": [
            [
                name,
                *(
                    text
                    for kind in kinds
                    for text in (_samples(one.caught[kind].delay), f"{one.caught[kind].week:.0%}")
                ),
                f"{one.caught['shift'].anyway:.0%}",
            ]
            for name, one in scores.items()
        ],
    }


def _integrity(measured: Measured) -> dict[str, Any]:
    outage = measured.outage
    rows = [
        [name, _samples(one.delay), f"{one.share:.0%}", round(one.false, 3), f"≤ {SAMPLES[name]}"]
        for name, one in measured.faults.items()
    ]
    said = f"{outage.named} of {outage.places} named, {outage.blamed} devices blamed"
    return {
        "title": "Faults that distributions do not show",
        "columns": ["", "median samples", "within 7 d", "false, a month", "goal"],
        "rows": [*rows, ["six hours without anybody", said, "", "", "all, none"]],
    }


def _stood_in(stood_in: Sequence[StoodIn]) -> dict[str, Any]:
    return {
        "title": "What stands in for a channel at fault, by what it is made of: root mean square error over a day",
        "columns": ["", *stood_in[0].errors, "less than the usual distance"],
        "rows": [
            [
                one.channel,
                *(round(error, 2) for error in one.errors.values()),
                f"{round(100 - 100 * one.errors[ALL] / one.errors[USUAL])} %",
            ]
            for one in stood_in
        ],
    }


def out_of_sample(unseen: Sequence[Unseen]) -> list[dict[str, Any]]:
    """The tables of other recordings; none if there were none."""
    return [_elsewhere(unseen), _elsewhere_integrity(unseen)] if unseen else []


def _elsewhere(unseen: Sequence[Unseen]) -> dict[str, Any]:
    return {
        "title": "Out of sample: devices against their neighbours, false alarms a device-feature-month",
        "columns": [
            "",
            "channel",
            "devices",
            "every",
            "months",
            "days",
            "shift",
            "7 d",
            "scale",
            "7 d",
            "gradual",
            "7 d",
        ],
        "rows": [
            [
                one.recording.name,
                channel,
                len(one.recording.devices),
                f"{one.recording.period / 60:g} min",
                round(told.months),
                round(told.false, 2),
                *(text for fault in FAULTS for text in (_samples(told.delay(fault)), _share(told.caught(fault)))),
            ]
            for one in unseen
            for channel, told in one.channels.items()
        ],
    }


def _elsewhere_integrity(unseen: Sequence[Unseen]) -> dict[str, Any]:
    return {
        "title": "Out of sample: faults that distributions do not show, and what was found without one, a month",
        "columns": ["", *(column for kind in KINDS for column in (kind, "7 d", "found anyway"))],
        "rows": [
            [
                one.recording.name,
                *(
                    text
                    for kind, told in one.integrity.items()
                    for text in (_samples(told.delay(kind)), _share(told.caught(kind)), round(told.false, 3))
                ),
            ]
            for one in unseen
        ],
    }


def _speed(measured: Measured) -> dict[str, Any]:
    ours = measured.timed["ours"].seconds
    return {
        "title": f"Judging 1,000 devices of 6 features (ours is off by {measured.difference:.1f} % of sigma at most)",
        "columns": ["", "CPU ms", "times ours", ""],
        "rows": [
            [
                name,
                round(one.seconds * 1000, 1),
                round(one.seconds / ours),
                "measured" if one.judged == one.devices else f"from {one.judged}",
            ]
            for name, one in measured.timed.items()
        ],
    }


def _samples(delay: float) -> str:
    return "" if math.isnan(delay) else "never" if math.isinf(delay) else f"{round(delay, 1):g}"


def _share(share: float) -> str:
    return "" if math.isnan(share) else f"{share:.0%}"
