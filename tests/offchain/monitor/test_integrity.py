import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietfleet.monitor import Finding, FindingKind, inspect, site_outages

HOUR = 3600.0
START = 1_699_999_200.0


def reading(hour, **changes):
    values = {
        "temp": 10 + 5 * math.sin(hour / 4),
        "dewp": 4 + math.cos(hour / 5),
        "humid": 60 + 9 * math.sin(hour / 7),
        "wind_speed": 3 + math.sin(hour),
        "precip": 0.0,
        "pressure": 1012 + math.sin(hour / 9),
    }
    return START + hour * HOUR, values | changes


def week():
    return [reading(hour) for hour in range(168)]


def kinds(rows, now=START + 168 * HOUR, **options):
    return {(finding.kind, finding.channel) for finding in inspect(rows, now=now, **options)}


def test_inspect__sound_week__finds_nothing():
    assert inspect(week(), now=START + 168 * HOUR) == ()


def test_inspect__nothing_at_all__finds_nothing():
    assert inspect([], now=START) == ()


def test_inspect__twelve_identical_samples__is_stuck_from_first_to_last():
    rows = [reading(hour, temp=7.0) if 20 <= hour < 32 else reading(hour) for hour in range(168)]
    expected = Finding(FindingKind.STUCK, "temp", START + 20 * HOUR, START + 31 * HOUR, 12)
    assert inspect(rows, now=START + 168 * HOUR) == (expected,)


def test_inspect__eleven_identical_samples__is_weather():
    assert not kinds([reading(hour, temp=7.0) if 20 <= hour < 31 else reading(hour) for hour in range(168)])


@pytest.mark.parametrize(("length", "found"), [(23, set()), (24, {(FindingKind.STUCK, "wind_speed")})])
def test_inspect__calm_wind__may_last_longer(length, found):
    assert kinds([reading(hour, wind_speed=0.0) if hour < length else reading(hour) for hour in range(168)]) == found


def test_inspect__stuck_run_interrupted_by_a_missing_value__is_still_stuck():
    rows = [reading(hour, temp=7.0) if hour < 13 else reading(hour) for hour in range(168)]
    del rows[6][1]["temp"]
    assert kinds(rows) == {(FindingKind.STUCK, "temp")}


@pytest.mark.parametrize(("channel", "value"), [("wind_speed", 468.7), ("humid", 101.0), ("temp", -80.0)])
def test_inspect__beyond_physics__is_range(channel, value):
    assert kinds([*week()[:-1], reading(167, **{channel: value})]) == {(FindingKind.RANGE, channel)}


def test_inspect__two_truths_for_one_moment__is_duplicate():
    assert kinds([*week(), reading(5, temp=30.0)]) == {(FindingKind.DUPLICATE, "")}


def test_inspect__same_reading_twice__is_only_a_repeated_message():
    assert kinds([*week(), reading(5)]) == set()


def test_inspect__reading_from_tomorrow__is_clock():
    assert kinds([*week(), reading(170)]) == {(FindingKind.CLOCK, "")}


def test_inspect__four_hours_of_silence_at_the_end__is_a_gap():
    assert kinds(week()[:-4]) == {(FindingKind.GAP, "")}


def test_inspect__three_hours_of_silence__is_radio():
    assert kinds(week()[:-3]) == set()


def test_inspect__a_fifth_lost_here_and_there__is_a_gap():
    assert kinds([row for hour, row in enumerate(week()) if hour % 5 != 3]) == {(FindingKind.GAP, "")}


def test_inspect__two_percent_lost__is_radio():
    assert kinds([row for hour, row in enumerate(week()) if hour % 50 != 3]) == set()


def test_inspect__whole_site_was_silent__is_no_gap():
    rows = [row for hour, row in enumerate(week()) if not 40 <= hour < 60]
    assert kinds(rows) == {(FindingKind.GAP, "")}
    outages = site_outages({"a": rows, "b": rows}, since=START, until=START + 168 * HOUR)
    assert len(outages) == 20
    assert kinds(rows, outages=outages) == set()


def test_site_outages__lone_device__cannot_show_one():
    assert site_outages({"a": week()[:40]}, since=START, until=START + 168 * HOUR) == frozenset()


@given(st.permutations(range(48)))
def test_inspect__arrival_in_any_order__finds_the_same(order):
    rows = [reading(hour, temp=7.0) if 20 <= hour < 33 else reading(hour) for hour in range(48)]
    assert inspect([rows[place] for place in order], now=START + 48 * HOUR) == inspect(rows, now=START + 48 * HOUR)
