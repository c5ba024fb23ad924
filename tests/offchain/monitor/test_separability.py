from __future__ import annotations

import random

import pytest

from quietfleet.monitor.separability import separability
from quietfleet.testbed.weather import load_weather

HOUR, DAY = 3600.0, 86_400.0
NOW = 30 * DAY


def month(shift=0.0, *, walk=0.5, days=30):
    """Two channels that wander slowly, as weather does; the first is moved in the last week."""
    dice, rows, level = random.Random(4), [], 0.0
    for hour in range(int(days * 24)):
        level = 0.99 * level + dice.gauss(0, walk)
        at = NOW - days * DAY + hour * HOUR
        moved = shift if at >= NOW - 7 * DAY else 0.0
        rows.append((at, {"temp": level + moved + dice.gauss(0, 0.1), "humid": dice.gauss(60, 5)}))
    return {"a": rows}


def test_apart__nothing_changed__hardly_told_apart():
    found = separability(month(walk=0.01), now=NOW)
    assert found.percent < 25


def test_apart__one_channel_moved_far__told_apart_by_it():
    found = separability(month(shift=30.0), now=NOW)
    assert found.percent > 95
    assert found.channels == ("temp",)


def test_apart__two_channels_together_when_none_shows_it_alone():
    """Their sum is what it was before, and their difference is not."""
    dice, rows = random.Random(6), []
    for hour in range(30 * 24):
        at, common = hour * HOUR, dice.gauss(0, 1)
        sign = -1.0 if at >= NOW - 7 * DAY else 1.0
        rows.append((at, {"one": common, "other": sign * common + dice.gauss(0, 0.1)}))
    assert separability({"a": rows}, now=NOW).percent > 70


def test_weather__a_real_month_that_nothing_happened_in__wandering_is_no_drift():
    weather = load_weather()
    begin = min(rows[0][0] for rows in weather.values())
    now = begin + 75 * DAY
    rows = {name: [row for row in rows if now - 30 * DAY <= row[0] < now] for name, rows in weather.items()}
    assert separability(rows, now=now).percent < 70


def test_same_readings__same_answer_again():
    assert separability(month(shift=3.0), now=NOW) == separability(month(shift=3.0), now=NOW)


@pytest.mark.parametrize(
    "readings",
    [{}, {"a": []}, month(days=9), {"a": [(NOW - 1, {})]}, {"a": [(NOW - DAY * n, {"x": 1.0}) for n in range(4)]}],
)
def test_too_little__nothing_is_said(readings):
    assert separability(readings, now=NOW) is None
