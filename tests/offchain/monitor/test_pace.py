"""Recordings of minutes, hours and days are watched in their own terms."""

from __future__ import annotations

import numpy as np
import pytest

from quietfleet.monitor.pace import DAY, LENGTH, SHORT, Pace
from quietfleet.monitor.survey import survey
from quietfleet.monitor.verdict import Verdict

SINCE = 1_700_000_000.0
COUNT = 2160


def readings(period, *, apart=0.5, seed=1):
    """Five sensors of one room, each at its own level, which wander together and a little by themselves."""
    random = np.random.default_rng(seed)

    def wander(count, keeps, step):
        found = np.zeros(count)
        for place in range(1, count):
            found[place] = keeps * found[place - 1] + random.normal(0, step)
        return found

    common = wander(COUNT, 0.999, 0.05)
    made = {}
    for device in range(5):
        temp = 21 + apart * device + common + wander(COUNT, 0.99, 0.02) + random.normal(0, 0.05, COUNT)
        made[f"d{device}"] = [
            (SINCE + place * period, {"temp": value}) for place, value in enumerate(np.round(temp, 2).tolist())
        ]
    return made


def spoilt(made, change, first=1400):
    rows = made["d2"]
    known = [values["temp"] for _, values in rows[:first]]
    sigma, middle = float(np.std(known)), float(np.mean(known))
    after = [(at, {"temp": change(values["temp"], sigma, middle)}) for at, values in rows[first:]]
    return {**made, "d2": rows[:first] + after}


@pytest.mark.parametrize("period", [1.0, 10.0, 60.0])
@pytest.mark.parametrize("apart", [0.5, 5.0])
def test_survey__short_and_sound__nothing_is_said(period, apart):
    for seed in range(3):
        found = survey(readings(period, apart=apart, seed=seed), period=period)
        assert [one for one in found.episodes if one.verdict is not Verdict.RETRAIN] == []
        assert found.day == pytest.approx(COUNT * period / 14, rel=0.01)


@pytest.mark.parametrize("period", [1.0, 60.0])
@pytest.mark.parametrize("change", [lambda value, sigma, _: value + sigma, lambda value, _, middle: 2 * value - middle])
def test_survey__one_device_changes_in_a_short_recording__it_is_named_at_the_time_it_happened(period, change):
    made = spoilt(readings(period), change)
    found = survey(made, period=period)
    said = [one for one in found.episodes if one.verdict is Verdict.QUARANTINE]
    assert {one.device for one in said} == {"d2"}
    onset, day = SINCE + 1400 * period, found.day
    assert onset - 2 * day <= said[0].since <= said[0].noticed <= onset + 3 * day
    assert said[0].until <= found.until == SINCE + COUNT * period


def test_survey__stuck_for_minutes_in_an_hour__is_found_and_told_in_its_own_time():
    made = readings(1.0)
    rows = made["d2"]
    made["d2"] = rows[:1400] + [(at, {"temp": 22.0}) for at, _ in rows[1400:]]
    said = [one for one in survey(made, period=1.0).of("d2") if one.reason == "stuck"]
    assert said[0].since == pytest.approx(SINCE + 1400, abs=1.0)
    assert said[0].findings[0].until <= SINCE + COUNT


def test_pace__short_or_long__there_and_back():
    short, long = Pace.of(SINCE, SINCE + 3600), Pace.of(SINCE, SINCE + SHORT)
    assert short.stretch(SINCE + 3600) - SINCE == pytest.approx(LENGTH)
    assert short.back(short.stretch(SINCE + 17.0)) == pytest.approx(SINCE + 17.0)
    assert (long.times, long.day) == (1.0, DAY)
    rows = {"a": [(SINCE, {"t": 1.0})]}
    assert long.there(rows) is rows
